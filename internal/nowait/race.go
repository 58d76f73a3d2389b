//go:build race

package nowait

import "syscall"

// The race detector takes what one goroutine writes and another reads for an order
// of the two, but only from package syscall.

func read(fd uintptr, p []byte) (int, syscall.Errno)  { return known(syscall.Read(int(fd), p)) }
func write(fd uintptr, p []byte) (int, syscall.Errno) { return known(syscall.Write(int(fd), p)) }

func known(n int, err error) (int, syscall.Errno) {
	errno, _ := err.(syscall.Errno) // all errors of these are
	return n, errno
}
