// Package nowait reads and writes pipes and sockets without waiting, and without the Go
// scheduler's knowledge.
//
// What is written wakes the process at the other end, which often gets this thread's
// processor at once. The scheduler would take that for a call that blocks, have another thread
// run the other goroutines, and look for the next such call every 20 µs. It costs more than the call.
//
// The descriptors must be non-blocking, as those of net and os are that Go's poller waits for.
package nowait

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Read is read(2).
func Read(fd uintptr, p []byte) (int, syscall.Errno) { return again(read, fd, p) }

// again calls call until no signal is in the way.
func again(call func(uintptr, []byte) (int, syscall.Errno), fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		if n, err := call(fd, p); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// A Reader reads what is there into Buf. One goroutine at a time; it is kept, as the function that
// has the descriptor would be an allocation for each read.
type Reader struct {
	Buf []byte
	n   int
	err syscall.Errno
	do  func(fd uintptr)
}

// NewReader makes a Reader with a buffer of so many bytes.
func NewReader(size int) *Reader {
	r := &Reader{Buf: make([]byte, size)}
	r.do = func(fd uintptr) { r.n, r.err = Read(fd, r.Buf) }
	return r
}

// Read returns what is there: nothing, perhaps. It is valid until the next Read.
func (r *Reader) Read(raw syscall.RawConn) ([]byte, error) {
	switch err := raw.Control(r.do); {
	case err != nil:
		return nil, err
	case r.err == unix.EAGAIN:
		return nil, nil
	case r.err != 0:
		return nil, os.NewSyscallError("read", r.err)
	case r.n == 0:
		return nil, io.EOF
	}
	return r.Buf[:r.n], nil
}

// writing is a Write.
type writing struct {
	p   []byte // what is left
	err syscall.Errno
	do  func(fd uintptr) // run, bound once
}

var writings = sync.Pool{New: func() any {
	w := new(writing)
	w.do = w.run
	return w
}}

func (w *writing) run(fd uintptr) {
	var n int
	n, w.err = again(write, fd, w.p)
	w.p = w.p[n:]
}

// Write writes what there is room for, and returns the rest. No room is no error.
func Write(raw syscall.RawConn, p []byte) (rest []byte, err error) {
	w := writings.Get().(*writing)
	w.p, w.err = p, 0
	err = raw.Control(w.do)
	if err == nil && w.err != 0 && w.err != unix.EAGAIN {
		err = os.NewSyscallError("write", w.err)
	}
	rest, w.p = w.p, nil
	writings.Put(w)
	return rest, err
}
