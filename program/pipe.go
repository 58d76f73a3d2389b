package program

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reads and writes of pipes that don't wait, and that the Go scheduler knows nothing of:
// what comes into a pipe wakes the process at its other end, which often gets this thread's
// processor at once. The scheduler would take that for a call that blocks, have another
// thread run the other goroutines, and look for the next such call every 20 µs.

// readNow is read(2) of a non-blocking file.
func readNow(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

// writeNow is write(2) to a non-blocking file.
func writeNow(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), err
}

// An attempt is a write of what the pipe has room for.
type attempt struct {
	p   []byte // what is left
	err syscall.Errno
	do  func(fd uintptr) // write, bound once
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.do = a.write
	return a
}}

func (a *attempt) write(fd uintptr) {
	for {
		n, err := writeNow(fd, a.p)
		switch err {
		case 0:
			a.p = a.p[n:]
		case unix.EINTR:
			continue
		}
		a.err = err
		return
	}
}

// tryWrite writes what the pipe has room for, and returns the rest. A full pipe is no error.
func tryWrite(pipe syscall.RawConn, p []byte) (rest []byte, err error) {
	a := attempts.Get().(*attempt)
	a.p, a.err = p, 0
	err = pipe.Control(a.do)
	if err == nil && a.err != 0 && a.err != unix.EAGAIN {
		err = os.NewSyscallError("write", a.err)
	}
	rest, a.p = a.p, nil
	attempts.Put(a)
	return rest, err
}
