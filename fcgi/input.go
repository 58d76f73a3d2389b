package fcgi

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// input is what a connection is read through. It has a buffer only while that holds
// something: an idle connection has none. One goroutine at a time.
type input struct {
	nc  net.Conn
	raw syscall.RawConn       // nil: nc is no socket, and waits with a buffer in hand
	try func(fd uintptr) bool // in.tryRead
	err error                 // of tryRead
	// waits, if not nil, is called before a read that may wait.
	waits func()
	buf   []byte // nil, or a large buffer whose bytes from at to end wait
	at    int
	end   int
}

func newInput(nc net.Conn) *input {
	in := &input{nc: nc}
	// Only these: others that have a descriptor may do more in Read than read from it.
	switch s := nc.(type) {
	case *net.UnixConn:
		in.raw, _ = s.SyscallConn()
	case *net.TCPConn:
		in.raw, _ = s.SyscallConn()
	case leaver:
		in.raw, _ = s.SyscallConn()
	}
	if in.raw != nil {
		in.try = in.tryRead
	}
	return in
}

// fill waits until more has come.
func (in *input) fill() error {
	if in.waits != nil {
		in.waits()
	}
	if in.at == in.end {
		in.release()
	} else if in.at > 0 {
		in.at, in.end = 0, copy(in.buf, in.buf[in.at:in.end])
	}
	if in.raw == nil {
		if in.buf == nil {
			in.buf = buffer(largeBuffer)
		}
		n, err := in.nc.Read(in.buf[in.end:])
		in.end += n
		if n > 0 {
			err = nil
		}
		return err
	}
	in.err = nil
	if err := in.raw.Read(in.try); err != nil {
		return err
	}
	return in.err
}

// tryRead is called when nc may be readable; false: it isn't, wait.
func (in *input) tryRead(fd uintptr) bool {
	if in.buf == nil {
		in.buf = buffer(largeBuffer)
	}
	n, err := unix.Read(int(fd), in.buf[in.end:])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), in.buf[in.end:])
	}
	switch {
	case n > 0:
		in.end += n
		return true
	case err == unix.EAGAIN:
		if in.end == 0 {
			in.release()
		}
		return false
	case err == nil:
		in.err = io.EOF
	default:
		in.err = os.NewSyscallError("read", err)
	}
	return true
}

func (in *input) empty() bool { return in.at == in.end }

// fd is the socket's descriptor, -1 where there is none any more.
func (in *input) fd() int {
	fd := -1
	_ = in.raw.Control(func(n uintptr) { fd = int(n) })
	return fd
}

// put has p be read next. Nothing may wait.
func (in *input) put(p []byte) {
	if len(p) > 0 {
		in.buf = buffer(largeBuffer)
		in.at, in.end = 0, copy(in.buf, p)
	}
}

func (in *input) release() {
	giveBack(in.buf)
	in.buf, in.at, in.end = nil, 0, 0
}

// peek waits for n bytes, which are few, and leaves them. With an error it returns
// those that came.
func (in *input) peek(n int) ([]byte, error) {
	for in.end-in.at < n {
		if err := in.fill(); err != nil {
			return in.buf[in.at:in.end], err
		}
	}
	return in.buf[in.at : in.at+n], nil
}

// next waits for a byte and takes what has come, n bytes at most, valid until
// the next call.
func (in *input) next(n int) ([]byte, error) {
	if in.at == in.end {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	b := in.buf[in.at:min(in.end, in.at+n)]
	in.at += len(b)
	return b, nil
}

// skip takes n bytes.
func (in *input) skip(n int) error {
	for n > 0 {
		b, err := in.next(n)
		if err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}
