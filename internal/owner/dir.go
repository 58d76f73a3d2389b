package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Dir is a state dir.
type Dir struct {
	// Path is absolute.
	Path string
	// Source says where Path is from, for errors: a key, a variable.
	Source string
}

// Key is the configuration's key for the state dir.
const Key = "state_dir"

// Find chooses the state dir: a folder in $RUNTIME_DIRECTORY, else configured, else
// tandem-UID in the temporary folder. Nothing is looked at yet.
//
// systemd's RuntimeDirectory= is open to the web server, whose socket is there too: so
// the state dir is a folder in it.
func Find(configured string, getenv func(string) string) Dir {
	// systemd puts colons between several.
	if run, _, _ := strings.Cut(getenv("RUNTIME_DIRECTORY"), ":"); filepath.IsAbs(run) {
		return Dir{filepath.Join(run, "owners"), "$RUNTIME_DIRECTORY"}
	}
	if configured != "" {
		return Dir{configured, Key}
	}
	tmp := getenv("TMPDIR")
	if !filepath.IsAbs(tmp) {
		tmp = "/tmp"
	}
	return Dir{filepath.Join(tmp, "tandem-"+strconv.Itoa(os.Geteuid())), "the default of " + Key}
}

// nameLen is how long the longest name in a state dir may be that is a socket's:
// 16 letters and ".sock".
const nameLen = 16 + len(".sock")

// maxPath is the longest path of a unix socket in bytes: sun_path less its NUL.
const maxPath = 107

func (d Dir) file(name string) string    { return filepath.Join(d.Path, name) }
func (d Dir) socket(owner string) string { return d.file(owner + ".sock") }

// Open makes the folder, if it isn't there, and checks it. Errors are *DirError.
func (d Dir) Open() error {
	if n, most := len(d.Path), maxPath-nameLen-1; n > most {
		return d.errorf("its path has %d bytes, and leaves no room for a unix socket's name: expected %d at most", n, most)
	}
	if err := os.Mkdir(d.Path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if errors.Is(err, fs.ErrNotExist) {
			return d.errorf("there is no folder %s to make it in", filepath.Dir(d.Path))
		}
		return d.errorf("%w", pathless(err))
	}
	return d.check()
}

// check refuses a folder that somebody else could have made, or may look into: what is
// connected to there gets the users' sessions.
func (d Dir) check() error {
	info, err := os.Lstat(d.Path)
	if err != nil {
		return d.errorf("%w", pathless(err))
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return d.errorf("expected a folder, this is a symbolic link")
	case !info.IsDir():
		return d.errorf("expected a folder, this is none")
	case !ok || !ours(st.Uid):
		return d.errorf("it belongs to user id %d, expected %d: choose another one", st.Uid, os.Geteuid())
	case info.Mode().Perm() != 0o700:
		return d.errorf("its mode is %#o, expected 0700: others may look into it", info.Mode().Perm())
	}
	return nil
}

// DirError is a state dir that can't be used.
type DirError struct {
	Dir Dir
	Err error
}

func (e *DirError) Error() string { return e.Dir.Source + ": " + e.Dir.Path + ": " + e.Err.Error() }
func (e *DirError) Unwrap() error { return e.Err }

func (d Dir) errorf(format string, args ...any) error {
	return &DirError{d, fmt.Errorf(format, args...)}
}

func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
