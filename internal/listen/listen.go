// Package listen opens the sockets that Tandem serves on.
//
// [Listen] takes an address as the configuration writes it; [Stdin] is the
// socket that a web server or spawn-fcgi passes as file descriptor 0. TCP stays
// on loopback unless told otherwise: FastCGI believes its peer about who the user
// is. Unix sockets have their permissions before they can be connected to.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
)

// Options are how Listen opens a socket.
type Options struct {
	// Table is the configuration's table that the address is from, such as
	// "fastcgi": errors name its keys.
	Table string
	// Public allows TCP beyond loopback.
	Public bool
	// Risk is what whoever reaches the address can do, for the error where it isn't Public; empty: say who the user is.
	Risk string
	// Mode and Group are a unix socket's permissions and group; an empty group
	// is the process's own. A group is a name or a number.
	Mode  fs.FileMode
	Group string
}

// ErrInUse is Listen's error where another process serves the address.
var ErrInUse = errors.New("another process is serving there")

// Listen listens on "unix:/path/to.sock", "host:port" or ":port", which is on
// 127.0.0.1, and with Public on every address. Errors say what to do.
func Listen(ctx context.Context, address string, o Options) (net.Listener, error) {
	var l net.Listener
	var err error
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		l, err = listenUnix(path, o)
	} else {
		l, err = listenTCP(ctx, address, o)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %s: %w", address, err)
	}
	return l, nil
}
