//go:build !linux

package fcgi

import (
	"errors"
	"net"
)

// PeerUID is there on Linux alone.
func PeerUID(net.Conn) (uint32, error) { return 0, errors.ErrUnsupported }
