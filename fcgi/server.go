package fcgi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Defaults of Server's fields.
const (
	DefaultMaxParams     = 64 << 10
	DefaultParamsTimeout = 30 * time.Second
)

const (
	// maxRefusing is how many connections beyond MaxConns are answered at once; those
	// beyond these are closed.
	maxRefusing = 64
	// retryAfter is what a refused client is told to wait, in seconds.
	retryAfter = "5"
)

// Server serves FastCGI. Set its fields before Serve and leave them alone from
// then on. Its methods are safe for concurrent use. It serves once: after Shutdown or Close
// make another.
type Server struct {
	// Handler gets the requests, each in a goroutine of its own; nil: http.DefaultServeMux.
	Handler http.Handler
	// Log gets what administrators should know; nil: slog.Default().
	Log *slog.Logger
	// MaxConns is how many connections are served at once (max_connections); 0: no limit.
	// Further ones are answered with 503.
	MaxConns int
	// Allowed are the addresses that may connect over TCP (FCGI_WEB_SERVER_ADDRS, see
	// ParseAllowed); none: all. Unix sockets have their mode.
	Allowed []netip.Addr
	// Relays are the users (uids) who, over a unix socket, may say by which interface
	// a request reached them, as a Relay does. From others that is dropped.
	Relays []uint32
	// MaxParams is how many bytes of params a request may have; 0: DefaultMaxParams.
	MaxParams int
	// Detach lets a session.Handler return while its sessions go on, which saves each a
	// goroutine. Not for a Handler around it that does something when it returns.
	Detach bool
	// NetHTTP has net/http/fcgi read and write the records: to compare, and to find out
	// whose fault something is. What it can't do is in nethttp.go.
	NetHTTP bool
	// ParamsTimeout is how long a request's params may take, from its beginning or, for
	// the first one, from the connection's; 0: DefaultParamsTimeout.
	ParamsTimeout time.Duration

	mu        sync.Mutex
	closed    bool
	stopC     chan struct{} // see stopped
	listeners map[net.Listener]struct{}
	conns     map[connection]bool // true: beyond MaxConns
	serving   int                 // of conns: within MaxConns
	refusing  int                 // of conns: answered with 503
	refused   uint64              // ever, for want of room

	pollers                    pollers
	busy, notAllowed, notRelay rareLog
}

// connection is one connection from a web server: a conn, or a netConn.
type connection interface {
	serve()                 // reads, until the connection and all its handlers have ended, or others read on
	ended() <-chan struct{} // is closed then
	closeWhenIdle()         // lets the open requests end, and then the connection
	fail(cause error)       // ends the connection and cancels its requests
}

func (c *conn) ended() <-chan struct{} { return c.done }

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.Default()
	}
	return s.Log
}

func (s *Server) maxParams() int {
	if s.MaxParams == 0 {
		return DefaultMaxParams
	}
	return s.MaxParams
}

func (s *Server) paramsTimeout() time.Duration {
	if s.ParamsTimeout == 0 {
		return DefaultParamsTimeout
	}
	return s.ParamsTimeout
}

// Serve accepts connections on l until Shutdown or Close (http.ErrServerClosed), or
// until l fails for good. It closes l. Several listeners may be served at once.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.addListener(l) {
		return http.ErrServerClosed
	}
	defer s.removeListener(l)
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			s.accepted(nc)
			continue
		}
		if s.isClosed() {
			return http.ErrServerClosed
		}
		if !temporary(err) {
			return fmt.Errorf("fcgi: accept on %s: %w", l.Addr(), err)
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.log().Error("fcgi: accept failed, trying again", "error", err, "in", wait.String())
		select {
		case <-time.After(wait):
		case <-s.stopped():
			return http.ErrServerClosed
		}
	}
}

// stopped returns the channel that Shutdown and Close close.
func (s *Server) stopped() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopC == nil {
		s.stopC = make(chan struct{})
		if s.closed {
			close(s.stopC)
		}
	}
	return s.stopC
}

// temporary says whether Accept may work again later.
func temporary(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET,
		syscall.EINTR, syscall.EAGAIN, syscall.EPROTO, syscall.EPERM, syscall.ETIMEDOUT,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// accepted serves nc, or refuses it.
func (s *Server) accepted(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // SERVERS.md trap 12: 40 ms delays otherwise.
	}
	if !s.allowed(nc.RemoteAddr()) {
		s.notAllowed.warn(s.log(), "fcgi: connection closed: its address isn't among those allowed (FCGI_WEB_SERVER_ADDRS, allowed)", "peer", nc.RemoteAddr().String())
		_ = nc.Close()
		return
	}
	c := s.addConn(nc)
	if c == nil {
		_ = nc.Close()
		return
	}
	go c.serve()
}

// addConn returns nil for a connection that is closed at once.
func (s *Server) addConn(nc net.Conn) connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	h := s.Handler
	if h == nil {
		h = http.DefaultServeMux
	}
	c := newConn(s, nc, h)
	if s.MaxConns > 0 && s.serving >= s.MaxConns {
		s.busy.warn(s.log(), "fcgi: too many connections; raise max_connections", "max_connections", s.MaxConns)
		s.refused++
		if s.refusing >= maxRefusing {
			return nil
		}
		c.refusing = true
		c.handler = http.HandlerFunc(s.refuse)
		s.refusing++
	} else {
		s.serving++
	}
	if s.conns == nil {
		s.conns = make(map[connection]bool)
	}
	var served connection = c
	if s.NetHTTP {
		served = newNetConn(c)
	}
	s.conns[served] = c.refusing
	return served
}

// Stats are counts of connections.
type Stats struct {
	Open    int    // now
	Refused uint64 // since the start: beyond MaxConns
}

// Stats counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Open: s.serving, Refused: s.refused}
}

func (s *Server) removeConn(c connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c] {
		s.refusing--
	} else {
		s.serving--
	}
	delete(s.conns, c)
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", retryAfter)
	answer(http.StatusServiceUnavailable, fmt.Sprintf("All %d connections (max_connections) are in use. Try again later.", s.MaxConns)).ServeHTTP(w, r)
}

// Shutdown closes the listeners and waits until the open requests have ended, or ctx
// (whose error it returns then; follow it with Close). It cancels no request.
func (s *Server) Shutdown(ctx context.Context) error {
	conns := s.stop()
	for _, c := range conns {
		c.closeWhenIdle()
	}
	for _, c := range conns {
		select {
		case <-c.ended():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close closes the listeners and all connections, and cancels all requests. It does
// not wait for their handlers.
func (s *Server) Close() error {
	for _, c := range s.stop() {
		c.fail(http.ErrServerClosed)
	}
	return nil
}

// stop closes the listeners and returns the connections there are.
func (s *Server) stop() []connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.stopC != nil {
		close(s.stopC)
	}
	s.closed = true
	s.pollers.close()
	for l := range s.listeners {
		_ = l.Close()
	}
	conns := make([]connection, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]struct{})
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// allowed says whether addr may connect.
func (s *Server) allowed(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || len(s.Allowed) == 0 {
		return true
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, a := range s.Allowed {
		if a.Unmap().WithZone("") == ip {
			return true
		}
	}
	return false
}

// ParseAllowed reads FCGI_WEB_SERVER_ADDRS (section 3.2): addresses with commas
// between them. Empty is nil: all may connect.
func ParseAllowed(list string) ([]netip.Addr, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	var addrs []netip.Addr
	for s := range strings.SplitSeq(list, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("fcgi: bad address %q in %q, expected IP addresses with commas between them, such as 127.0.0.1,::1", s, list)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// rareLogInterval is how often the same warning is written at most.
const rareLogInterval = 10 * time.Second

// rareLog writes a warning that somebody else could cause in any number.
type rareLog struct {
	mu         sync.Mutex
	next       time.Time
	suppressed int
}

func (l *rareLog) warn(log *slog.Logger, msg string, args ...any) {
	l.mu.Lock()
	now := time.Now()
	if now.Before(l.next) {
		l.suppressed++
		l.mu.Unlock()
		return
	}
	n := l.suppressed
	l.suppressed = 0
	l.next = now.Add(rareLogInterval)
	l.mu.Unlock()
	if n > 0 {
		args = append(args, "suppressed", n)
	}
	log.Warn(msg, args...)
}
