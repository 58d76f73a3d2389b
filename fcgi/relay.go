package fcgi

// The client half: requests that another FastCGI server answers.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"tandem/internal/gateway"
	"tandem/internal/problem"
)

// interfaceParam tells the server of a Relay by which interface a request reached it, as
// gateway.Info does. It counts from those in Server.Relays only.
const interfaceParam = "TANDEM_INTERFACE"

// dialTimeout is how long a server may take to accept: its backlog is full only
// while it is overrun.
const dialTimeout = 5 * time.Second

var longAgo = time.Unix(1, 0)

// Relay is an http.Handler that has the FastCGI server on a unix socket answer
// its requests. Both ways stream: each part of the body leaves as it comes, each record of
// the response is flushed, and the response may end before the body does. The server
// sees the variables of the web server here and, if it lists this process's user in
// Server.Relays, the interface.
//
// A request that ends here closes its connection, which cancels it there. A server that
// goes away is a 502 before its header came, and a cut response after it.
//
// Back-pressure: while the server takes no more of the body it isn't read here, and
// while the response can't be written here the server's isn't read.
type Relay struct {
	// Socket is the server's path; where Dial is set, only its name in the log.
	Socket string
	// Dial connects to a server that isn't on a unix socket of this host; nil: Socket.
	Dial func(ctx context.Context) (net.Conn, error)
	// Allowed says whether the user that serves there is the right one; nil: any.
	Allowed func(uid uint32) bool
	// Unreachable answers requests for which there is no connection; nil: 502.
	Unreachable func(w http.ResponseWriter, r *http.Request, err error)
	// Log gets what went wrong; nil: slog.Default().
	Log *slog.Logger
}

// ServeHTTP panics with http.ErrAbortHandler where the response must be cut.
func (x *Relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()           // only HTTP/1 servers need it
	_ = rc.SetReadDeadline(time.Time{}) // an http.Server's ReadTimeout is not meant for sessions
	dial := x.Dial
	if dial == nil {
		dial = x.dial
	}
	nc, err := dial(r.Context())
	if err != nil {
		x.log().Warn("fcgi: relay: no connection", "socket", x.Socket, "error", err)
		defer unread(w, rc, r)()
		if x.Unreachable != nil {
			x.Unreachable(w, r, err)
			return
		}
		problem.Write(w, http.StatusBadGateway, "The process that this request is for can't be reached. The log says why.")
		return
	}
	defer nc.Close()
	e := &exchange{nc: nc, w: w, rc: rc, r: r, uploaded: make(chan struct{})}
	err = e.run()
	if err == nil {
		return
	}
	if r.Context().Err() == nil {
		x.log().Warn("fcgi: relay: the response was cut", "socket", x.Socket, "error", err)
	}
	if e.begun {
		panic(http.ErrAbortHandler)
	}
	defer unread(w, rc, r)()
	if errors.Is(err, errOverloaded) {
		w.Header().Set("Retry-After", retryAfter)
		problem.Write(w, http.StatusServiceUnavailable, "The process that this request is for has no room for it. Try again later.")
		return
	}
	problem.Write(w, http.StatusBadGateway, "The process that this request is for ended before it answered.")
}

func (x *Relay) log() *slog.Logger {
	if x.Log == nil {
		return slog.Default()
	}
	return x.Log
}

// dial connects. A full backlog is waited out.
func (x *Relay) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	for wait := time.Millisecond; ; wait *= 2 {
		nc, err := d.DialContext(ctx, "unix", x.Socket)
		switch {
		case err == nil:
			if err := x.check(nc); err != nil {
				nc.Close()
				return nil, err
			}
			return nc, nil
		case !errors.Is(err, syscall.EAGAIN):
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (x *Relay) check(nc net.Conn) error {
	if x.Allowed == nil {
		return nil
	}
	uid, err := PeerUID(nc)
	if err == nil && !x.Allowed(uid) {
		err = fmt.Errorf("fcgi: user id %d serves %s, expected %d", uid, x.Socket, os.Geteuid())
	}
	return err
}

// unread has an answer of the relay's own not wait for a body that stays open. What it
// returns is to be called when the answer is written. An HTTP/1 connection ends with it:
// net/http would take what is left of the body for the next request.
func unread(w http.ResponseWriter, rc *http.ResponseController, r *http.Request) (written func()) {
	if r.ContentLength == 0 {
		return func() {}
	}
	if r.ProtoMajor == 1 && gateway.Of(r).Interface == gateway.HTTP {
		w.Header().Set("Connection", "close")
	}
	return func() {
		_ = rc.Flush()
		_ = rc.SetReadDeadline(longAgo)
	}
}
