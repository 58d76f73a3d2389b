package fcgi

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A socket is a unix socket that leaves Go's poller while one of ours reads it. Go's has the kernel
// tell when a socket may be written to, and a unix socket tells that each time that the
// other end has read: a process that has nothing more to do would be woken for each record that it wrote.
//
// While it is away nothing waits for it: who has to, to write more than there is room for, has
// it come back.
type socket struct {
	local, remote net.Addr

	mu     sync.RWMutex // held to use what follows, and to change it
	nc     *net.UnixConn
	raw    syscall.RawConn // nc's
	fd     int             // while it is away; else -1
	closed bool
	until  time.Time    // write deadline
	forget func(fd int) // ends the watch of fd: its file lives on in nc
}

// wrapConn makes a socket of a connection that can be one.
func wrapConn(nc net.Conn) net.Conn {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return nc
	}
	s := &socket{local: uc.LocalAddr(), remote: uc.RemoteAddr(), fd: -1}
	if !s.set(uc) {
		return nc
	}
	return s
}

// set needs mu, but for a new socket.
func (s *socket) set(uc *net.UnixConn) bool {
	raw, err := uc.SyscallConn()
	if err == nil {
		s.nc, s.raw = uc, raw
	}
	return err == nil
}

// leave takes it from Go's poller. Nobody may be reading or writing. forget is called with its
// descriptor before that is closed.
func (s *socket) leave(forget func(fd int)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.nc == nil {
		return false
	}
	var err error
	if s.raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		s.fd = -1
		return false
	}
	_ = s.nc.Close() // its own descriptor
	s.nc, s.raw, s.forget = nil, nil, forget
	return true
}

// comeBack has Go's poller wait for it again. Where that fails it is closed.
func (s *socket) comeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return
	}
	s.forget(s.fd)
	f := os.NewFile(uintptr(s.fd), "socket")
	s.fd = -1
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		s.closed = true
		return
	}
	if uc, ok := nc.(*net.UnixConn); !ok || !s.set(uc) {
		_ = nc.Close()
		s.closed = true
		return
	}
	_ = s.nc.SetWriteDeadline(s.until)
}

// conn is where it is waited for.
func (s *socket) conn() (*net.UnixConn, syscall.RawConn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.nc == nil {
		return nil, nil, net.ErrClosed
	}
	return s.nc, s.raw, nil
}

func (s *socket) Read(p []byte) (int, error) {
	nc, _, err := s.conn()
	if err != nil {
		return 0, err
	}
	return nc.Read(p)
}

func (s *socket) Write(p []byte) (int, error) {
	s.comeBack()
	nc, _, err := s.conn()
	if err != nil {
		return 0, err
	}
	return nc.Write(p)
}

func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.fd >= 0:
		s.closed = true
		err := unix.Close(s.fd)
		s.fd = -1
		return err
	}
	s.closed = true
	return s.nc.Close() // it stays: who reads or writes learns of the end by it
}

func (s *socket) CloseWrite() error {
	s.comeBack()
	nc, _, err := s.conn()
	if err != nil {
		return err
	}
	return nc.CloseWrite()
}

func (s *socket) LocalAddr() net.Addr  { return s.local }
func (s *socket) RemoteAddr() net.Addr { return s.remote }

func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline does nothing while nobody can wait.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.nc == nil {
		return nil
	}
	return s.nc.SetReadDeadline(t)
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = t
	if s.nc == nil {
		return nil
	}
	return s.nc.SetWriteDeadline(t)
}

func (s *socket) SyscallConn() (syscall.RawConn, error) { return (*rawSocket)(s), nil }

// rawSocket is a socket as a syscall.RawConn.
type rawSocket socket

func (r *rawSocket) Control(f func(fd uintptr)) error {
	s := (*socket)(r)
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.fd >= 0:
		f(uintptr(s.fd))
		return nil
	case s.nc == nil:
		return net.ErrClosed
	}
	return s.raw.Control(f)
}

func (r *rawSocket) Read(f func(fd uintptr) bool) error {
	_, raw, err := (*socket)(r).conn()
	if err != nil {
		return err
	}
	return raw.Read(f)
}

func (r *rawSocket) Write(f func(fd uintptr) bool) error {
	_, raw, err := (*socket)(r).conn()
	if err != nil {
		return err
	}
	return raw.Write(f)
}
