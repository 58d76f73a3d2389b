package listen

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// lingerTime is how long a connection outlives its Close at most.
const lingerTime = 5 * time.Second

// Linger returns l with connections that close gently, for HTTP/1. A response may end
// while the request's body is still coming in, and the kernel answers what comes
// in on a closed connection with a reset, which costs the client the end of the
// response. So Close says that nothing more will be sent, then takes in what comes
// until the client has closed its side, too.
//
// net/http does so where it gives up on a body by itself; not where the handler had a
// deadline for it, or the client asked for "Connection: close". Web servers do it
// always (nginx: lingering_close).
func Linger(l net.Listener) net.Listener { return lingering{l} }

type lingering struct{ net.Listener }

func (l lingering) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if c, ok := c.(halfCloser); ok && err == nil {
		return &gentle{halfCloser: c}, nil
	}
	return c, err
}

// halfCloser is what TCP and unix connections are.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

type gentle struct {
	halfCloser
	once sync.Once
	err  error

	reading sync.RWMutex // held by each Read
	closed  atomic.Bool
}

func (c *gentle) Read(p []byte) (int, error) {
	if !c.reading.TryRLock() { // linger has it
		return 0, net.ErrClosed
	}
	defer c.reading.RUnlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.halfCloser.Read(p)
}

// Close is net.Conn's: Reads and Writes that are blocked return at once.
func (c *gentle) Close() error {
	c.once.Do(func() {
		if err := c.CloseWrite(); err != nil { // the client has gone
			c.err = c.halfCloser.Close()
			return
		}
		c.closed.Store(true)
		_ = c.SetDeadline(time.Unix(1, 0))
		go c.linger()
	})
	return c.err
}

func (c *gentle) linger() {
	c.reading.Lock() // the last Read has returned
	defer c.reading.Unlock()
	t := time.AfterFunc(lingerTime, func() { c.halfCloser.Close() })
	defer t.Stop()
	_ = c.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.halfCloser)
	_ = c.halfCloser.Close()
}
