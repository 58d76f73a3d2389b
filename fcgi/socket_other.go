//go:build !linux

package fcgi

import "net"

func wrapConn(nc net.Conn) net.Conn { return nc }
