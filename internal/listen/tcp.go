package listen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

func listenTCP(ctx context.Context, address string, o Options) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf(`%w; expected "host:port", ":port" or "unix:/path"`, err)
	}
	if host == "" && !o.Public {
		host = "127.0.0.1"
	}
	if host != "" {
		// Resolved before it is opened: a name may stand for any address.
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		ip := ips[0]
		for _, other := range ips {
			if other.Is4() || other.Is4In6() { // as net.Listen prefers
				ip = other
				break
			}
		}
		if !o.Public && !ip.Unmap().IsLoopback() {
			return nil, fmt.Errorf("%s is not a loopback address: whoever reaches it can %s; "+
				"listen on 127.0.0.1 or on a unix socket, or, behind a firewall, set public = true in [%s]", ip.Unmap(), cmp.Or(o.Risk, "say who the user is"), o.Table)
		}
		host = ip.String()
	}
	// One socket, not one for each family: ":port" with Public is both anyway.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("%w (%w): stop it (ss -ltnp shows it), or choose another port", ErrInUse, unix.EADDRINUSE)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: ports below 1024 need a privilege; choose another port", err)
	}
	return l, err
}
