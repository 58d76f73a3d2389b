package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is the longest path of a unix socket in bytes: sun_path less its NUL.
const maxPath = 107

// probeTime bounds the question whether an existing socket is served: a
// process whose accept queue is full lets connect wait.
const probeTime = 2 * time.Second

// listenUnix listens on path, in place of a socket that nobody serves any more.
//
// The socket is made under another name, gets group and mode there, and is then
// renamed: it never is at path with the permissions of the umask, and one that
// is left over is replaced in one step.
func listenUnix(path string, o Options) (_ net.Listener, err error) {
	if path == "" || strings.HasPrefix(path, "@") {
		return nil, errors.New("an abstract socket has no permissions, everybody on the host could connect; use a path")
	}
	temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".tandem-%d", os.Getpid()))
	if n := max(len(path), len(temporary)); n > maxPath {
		return nil, fmt.Errorf("a unix socket's path (%d bytes here) must be shorter than %d", n, maxPath+1)
	}
	gid, err := groupID(o.Group, o.Table)
	if err != nil {
		return nil, err
	}
	if err := probe(path); err != nil {
		return nil, err
	}
	os.Remove(temporary) // of a process that had our id and died right here
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, explain(err, filepath.Dir(path))
	}
	l.SetUnlinkOnClose(false) // it would unlink by name, whoever's socket is there by then
	defer func() {
		if err != nil {
			l.Close()
			os.Remove(temporary)
		}
	}()
	if gid >= 0 {
		if err := os.Chown(temporary, -1, gid); err != nil {
			return nil, fmt.Errorf("group of the socket: %w; be a member of group %s, or let systemd make the socket", pathless(err), o.Group)
		}
	}
	if err := os.Chmod(temporary, o.Mode); err != nil {
		return nil, err
	}
	made, err := os.Lstat(temporary)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, explain(err, filepath.Dir(path))
	}
	return &unixListener{UnixListener: l, path: path, made: made}, nil
}

// probe reports why path can't be taken, or nil if it is free or is a socket
// that nobody serves.
func probe(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain(err, filepath.Dir(path))
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("a %s is there, not a socket: remove it, or choose another path", kind(info.Mode()))
	}
	c, err := net.DialTimeout("unix", path, probeTime)
	if err == nil {
		c.Close()
	}
	var timeout net.Error
	switch {
	case err == nil, errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: stop it, or choose another path", ErrInUse)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // left over
	default:
		return fmt.Errorf("can't tell whether the socket there is served: %w; remove it if it is left over", err)
	}
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "folder"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	default:
		return m.Type().String()
	}
}

// explain adds to an error about a socket what to do about its folder.
func explain(err error, dir string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("there is no folder %s: make it, or let systemd do so (RuntimeDirectory=)", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("user id %d may not write to %s: change its owner, or let systemd make the socket", os.Geteuid(), dir)
	}
	return err
}

func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// groupID finds a group by name or number; -1 for none.
func groupID(name, table string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("%w: set group in [%s] to the web server's group, by name or number", err, table)
	}
	return strconv.Atoi(g.Gid)
}

// unixListener removes its socket when it is closed, if it is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
	once sync.Once
}

// Addr is the socket's address by the name that clients use.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	// The socket goes first, so that a process that starts now finds either
	// none or one that still answers.
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
			os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}
