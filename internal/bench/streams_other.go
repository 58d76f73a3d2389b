//go:build !linux

package bench

import "net"

func detach(net.Conn) (fd int, ok bool) { return 0, false }

func closeDetached(int) {}

func (a *Streams) poll([][]*stream, Listener) (stop func(), err error) { return nil, nil }
