package servertest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Root is the repository's root, found above the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module tandem\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("servertest: no go.mod of module tandem in %s or above; run this inside the repository", start)
		}
	}
}

// makeDir makes a folder that other users can enter: Apache's, when root runs the
// tests (os.MkdirTemp and t.TempDir make private ones). Its name is short, as the
// path of a unix socket must stay below 108 bytes.
func makeDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "tandem-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("servertest: %w", err)
	}
	return dir, os.Chmod(dir, 0o755)
}

// linkProgram puts the program from at to. A copy is made by another process: a
// file that this process has open for writing while it starts a child can't be
// executed by anybody (ETXTBSY), as the child holds it open for a moment.
func linkProgram(from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return fmt.Errorf("servertest: %w", err)
	}
	if os.Link(from, to) == nil {
		return nil
	}
	if out, err := exec.Command("cp", "-p", "--", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("servertest: copy %s: %w\n%s", from, err, out)
	}
	return nil
}

// install copies the named files of the repository into the server's folder, as a
// server that runs as another user may not read the repository.
func (s *Server) install(names ...string) error {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(s.config.Source, name))
		if err != nil {
			return fmt.Errorf("servertest: %w", err)
		}
		text := string(data)
		if s.config.replace[0] != "" {
			text = strings.ReplaceAll(text, s.config.replace[0], s.config.replace[1])
		}
		if err := s.write(filepath.Base(name), text); err != nil {
			return err
		}
	}
	return nil
}

// substitute puts a text into the place of another one, which an installed file must have.
func (s *Server) substitute(name, old, text string) error {
	data, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		return fmt.Errorf("servertest: %w", err)
	}
	if !bytes.Contains(data, []byte(old)) {
		return fmt.Errorf("servertest: expected %q in %s, which is replaced", old, name)
	}
	return s.write(name, strings.ReplaceAll(string(data), old, text))
}

func (s *Server) write(name, text string) error {
	return os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644)
}

// notRoot is an ordinary user to run as, or nil if we are one.
func notRoot() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"www-data", "apache", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
			gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
			if uidErr == nil && gidErr == nil {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// chownTree gives dir to another user, but for programs: those may be hard links
// to a file that isn't ours to give away.
func chownTree(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err != nil || info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// readLogs joins the files that exist.
func readLogs(paths ...string) string {
	var all strings.Builder
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(&all, "(%v)\n", err)
		}
		all.Write(data)
	}
	return all.String()
}
