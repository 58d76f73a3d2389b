package sqlitebus

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// wake is how processes of one file tell each other to look: a datagram of one byte, to each socket in a folder. A
// process has one if it follows, or has members. One that refuses is a dead process's, for good, as names are
// never used twice.
type wake struct {
	mu   sync.Mutex
	conn *net.UnixConn // nil: nobody wakes this process

	sender int // the writer's file descriptor; 0: none yet
}

// suffix is that of sockets. With it a name has 21 bytes.
const suffix = ".wake"

// maxPath is the longest path of a unix socket in bytes: sun_path less its NUL.
const maxPath = 107

func (b *Bus) socket(name string) string { return filepath.Join(b.opt.Dir, name) }

// listen makes this process's socket, once.
func (w *wake) listen(b *Bus) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		return nil
	}
	if err := prepareDir(b.opt.Dir, len(b.name)); err != nil {
		return fmt.Errorf("%s, the folder of its sockets: %w", b.opt.Dir, err)
	}
	path := b.socket(b.name)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("%s, the folder of its sockets: %w", b.opt.Dir, err)
	}
	err = b.work(func() {
		buf := make([]byte, 1)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			b.tail.look()
		}
	})
	if err != nil {
		conn.Close()
		_ = os.Remove(path)
		return err
	}
	w.conn = conn
	return nil
}

// silence removes the socket. Nobody can listen any more.
func (w *wake) silence(b *Bus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = os.Remove(b.socket(b.name))
		w.conn.Close()
		w.conn = nil
	}
}

// check makes the socket anew if somebody has removed it.
func (w *wake) check(b *Bus) {
	if _, err := os.Lstat(b.socket(b.name)); !errors.Is(err, fs.ErrNotExist) || b.open() != nil {
		return
	}
	w.silence(b)
	if err := w.listen(b); err != nil && b.open() == nil {
		b.opt.Log.Warn("sqlitebus: other processes can't wake this one, so events come late", "error", err)
	}
}

// prepareDir makes the folder, if it isn't there, and refuses one that others may write to.
func prepareDir(dir string, name int) error {
	if most := maxPath - name - 1; len(dir) > most {
		return fmt.Errorf("its path has %d bytes, which leaves no room for a unix socket's name: expected %d at most, so name another folder", len(dir), most)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return errors.New("expected a folder, this is none")
	case !ok || st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("it belongs to user id %d, expected %d: name another folder", st.Uid, os.Geteuid())
	case info.Mode().Perm() != 0o700:
		return fmt.Errorf("its mode is %#o, expected 0700: others may look into it", info.Mode().Perm())
	}
	return nil
}

// others wakes the other processes. Who has a full queue of datagrams will look anyway. It is the
// writer's.
func (w *wake) others(b *Bus) {
	names, err := sockets(b.opt.Dir)
	if err != nil || len(names) == 0 || len(names) == 1 && names[0] == b.name {
		return
	}
	if w.sender == 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return // out of file descriptors: they look by themselves
		}
		w.sender = fd
	}
	for _, name := range names {
		if name == b.name {
			continue
		}
		if err := unix.Sendto(w.sender, []byte{1}, 0, &unix.SockaddrUnix{Name: b.socket(name)}); err == unix.ECONNREFUSED {
			_ = os.Remove(b.socket(name))
		}
	}
}

func (w *wake) close() {
	if w.sender != 0 {
		_ = unix.Close(w.sender)
	}
}

// sockets are the names of the processes that listen, or died while they did. None, where nobody has listened yet.
func sockets(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	n := 0
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			names[n] = name
			n++
		}
	}
	return names[:n], err
}

// dead tells whether the process that has the name listens no more.
func (b *Bus) dead(name string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: b.socket(name)})
	return err == unix.ECONNREFUSED || err == unix.ENOENT
}
