package cgi

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stream is stdin or stdout. Pipes and sockets are non-blocking, so that a deadline
// unblocks a Read or Write. It has a descriptor of its own: the runtime ends
// processes whose write to descriptor 1 finds no reader.
type stream struct {
	file     *os.File
	blocking bool // it was so before, as others who share it may expect
	past     atomic.Bool
	caught   <-chan struct{} // closed when signals are caught: no Write returns before; nil: they aren't
}

// openStream duplicates f.
func openStream(f *os.File) (*stream, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &stream{}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK) {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		s.blocking = err == nil && flags&unix.O_NONBLOCK == 0
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	s.file = os.NewFile(uintptr(fd), f.Name())
	return s, nil
}

// restore undoes openStream. No Read or Write may be running.
func (s *stream) restore() {
	if s.blocking {
		_ = setBlocking(s.file)
	}
	_ = s.file.Close()
}

func setBlocking(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := rc.Control(func(fd uintptr) { set = unix.SetNonblock(int(fd), false) }); err != nil {
		return err
	}
	return set
}

// setDeadline applies t by set. Files and other things that have no deadlines never
// block for long: for them a past deadline holds from the next call on, a future
// one is not supported.
func (s *stream) setDeadline(t time.Time, set func(time.Time) error) error {
	err := set(t)
	if !errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	past := !t.IsZero() && !t.After(time.Now())
	s.past.Store(past)
	if past || t.IsZero() {
		return nil
	}
	return errors.ErrUnsupported
}

func (s *stream) Read(p []byte) (int, error) {
	if s.past.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := s.file.Read(p)
	return n, plain(err)
}

func (s *stream) Write(p []byte) (int, error) {
	if s.past.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := s.file.Write(p)
	if s.caught != nil {
		<-s.caught
	}
	return n, plain(err)
}

// plain takes "read /dev/stdin: " off an error.
func plain(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err
	}
	return err
}

// watchReader cancels with ErrReaderGone when nobody can read what is written to f
// any more, which a process that writes nothing learns in no other way. A socket
// whose other end was only shut for writing still has a reader.
func watchReader(f *os.File, cancel context.CancelCauseFunc) (stop func()) {
	rc, err := f.SyscallConn()
	if err != nil {
		return func() {} // The next write will tell.
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Nothing is read: the poller wakes who reads also when the other end goes.
		_ = rc.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			_, err := unix.Poll(fds, 0)
			gone := err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
			if gone {
				cancel(ErrReaderGone)
			}
			return gone
		})
	}()
	return func() {
		_ = f.SetReadDeadline(time.Unix(1, 0))
		<-done
	}
}

var _ io.ReadWriter = (*stream)(nil)
