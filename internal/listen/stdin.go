package listen

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Stdin returns the listening socket that is file descriptor 0, as mod_fcgid,
// lighttpd's bin-path and spawn-fcgi pass it, or nil if it is anything else. In
// its place descriptor 0 becomes /dev/null, so that closing the listener closes
// the socket. Call it once.
func Stdin() (net.Listener, error) {
	accepting, err := unix.GetsockoptInt(0, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || accepting == 0 {
		return nil, nil // a file, a terminal, a pipe, a connection
	}
	l, err := net.FileListener(os.Stdin) // a duplicate, closed on exec
	if err != nil {
		return nil, fmt.Errorf("listen: file descriptor 0: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err == nil {
		err = unix.Dup3(int(null.Fd()), 0, 0)
		null.Close()
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen: replace file descriptor 0: %w", err)
	}
	return l, nil
}

// IsStdin tells whether file descriptor 0 is a listening socket.
func IsStdin() bool {
	accepting, err := unix.GetsockoptInt(0, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && accepting != 0
}
