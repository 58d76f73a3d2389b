package fcgi

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// An attempt is one system call on a socket, which doesn't wait. It is kept for the next one, as
// the function that has the descriptor would be an allocation each time.
type attempt struct {
	buf []byte
	n   int
	err error

	toRead, toWrite func(fd uintptr)
}

func newAttempt() *attempt {
	a := new(attempt)
	a.toRead = func(fd uintptr) { a.do(unix.Read, fd) }
	a.toWrite = func(fd uintptr) { a.do(unix.Write, fd) }
	return a
}

func (a *attempt) do(call func(int, []byte) (int, error), fd uintptr) {
	a.n, a.err = call(int(fd), a.buf)
	for a.err == unix.EINTR {
		a.n, a.err = call(int(fd), a.buf)
	}
	a.n = max(a.n, 0)
}

// read reads what is there into buf: nothing, perhaps.
func (a *attempt) read(raw syscall.RawConn) ([]byte, error) {
	switch err := raw.Control(a.toRead); {
	case err != nil:
		return nil, err
	case a.err == unix.EAGAIN:
		return nil, nil
	case a.err != nil:
		return nil, os.NewSyscallError("read", a.err)
	case a.n == 0:
		return nil, io.EOF
	}
	return a.buf[:a.n], nil
}

var attempts = sync.Pool{New: func() any { return newAttempt() }}

// tryWrite writes as much of p as there is room for.
func tryWrite(raw syscall.RawConn, p []byte) (int, error) {
	a := attempts.Get().(*attempt)
	defer attempts.Put(a)
	a.buf = p
	err := raw.Control(a.toWrite)
	a.buf = nil
	switch {
	case err != nil:
		return 0, err
	case a.err == unix.EAGAIN:
		return 0, nil
	}
	return a.n, os.NewSyscallError("write", a.err)
}
