package fcgi

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// PeerUID is the user at the other end of a unix socket (SO_PEERCRED): as whom it
// connected or, of a server, began to listen.
func PeerUID(nc net.Conn) (uint32, error) {
	uc, ok := nc.(syscall.Conn)
	if _, unix := nc.RemoteAddr().(*net.UnixAddr); !ok || !unix {
		return 0, fmt.Errorf("fcgi: a %T doesn't tell its peer's user, expected a unix socket", nc)
	}
	var rc syscall.RawConn
	rc, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var sockErr error
	if err := rc.Control(func(fd uintptr) { cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if sockErr != nil {
		return 0, os.NewSyscallError("getsockopt", sockErr)
	}
	return cred.Uid, nil
}
