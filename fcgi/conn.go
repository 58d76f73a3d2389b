package fcgi

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// finishTimeout is how long a web server may take for what is left of a response
	// once its handler has returned.
	finishTimeout = 30 * time.Second
	// A connection that this side ends is closed only once the web server has
	// closed it, within these bounds: closing earlier would reset it while it writes, and
	// the response could be lost (Go issue 4183).
	lingerTime  = time.Second
	lingerBytes = 1 << 20
	// refuseTimeout is ParamsTimeout for connections beyond MaxConns.
	refuseTimeout = 5 * time.Second
	// maxRequests is how many requests one connection may have open at once.
	maxRequests = 128
)

// conn is one connection from a web server. Its reader (serve) owns everything
// that has no other owner here; requests write through write.
type conn struct {
	srv      *Server
	nc       net.Conn
	in       *input
	handler  http.Handler
	refusing bool           // beyond MaxConns: handler answers 503
	pending  int            // requests whose params are not complete; owner: the reader
	running  sync.WaitGroup // handlers
	done     chan struct{}  // closed when the connection and all its handlers have ended

	writing chan struct{} // holds a token while a record is written

	// Of a connection that a poller reads.
	reader   reader               // guarded by mu
	recalled bool                 // a goroutine shall read again; guarded by mu
	nudged   bool                 // the goroutine that reads was woken, to hand over; guarded by mu
	timed    bool                 // the read deadline is for params; set by the reader, with mu held
	fed      *request             // has got input since its last Turn; owner: who reads
	rest     recordHeader         // what is left of a STDIN record: length and padding; owner: who reads
	readErr  error                // of a poller's read; owner: who reads
	turn     atomic.Pointer[turn] // on whose goroutine the request's Sink has its Turn
	late     atomic.Bool          // it couldn't park for a write that runs
	poller   *poller
	fd       int // as the poller knows it

	mu        sync.Mutex
	requests  []*request // begun, END_REQUEST not sent: one, with the web servers there are
	ending    int        // END_REQUESTs on their way
	closing   bool       // no new requests; the connection ends with its last one
	lingering bool       // all is sent; the reader waits for the end
	broken    error      // why the connection ended
	writer    *deadline  // of who writes now
	limited   bool       // nc has a write deadline
}

func newConn(s *Server, nc net.Conn, h http.Handler) *conn {
	nc = wrapConn(nc)
	c := &conn{
		srv: s, nc: nc, in: newInput(nc), handler: h,
		done: make(chan struct{}), writing: make(chan struct{}, 1),
	}
	c.in.waits = c.limitParams
	return c
}

func (c *conn) log() *slog.Logger { return c.srv.log() }

// serve reads records until the connection ends, and returns when its handlers
// have returned; or a poller reads on.
func (c *conn) serve() {
	c.limitRead(true)
	c.read()
}

// read is a goroutine that reads, until a poller does.
func (c *conn) read() {
	err := c.readRecords()
	if err == errParked {
		return
	}
	c.in.release()
	c.report(err)
	c.fail(err)
	c.running.Wait()
	close(c.done)
	c.srv.removeConn(c)
}

// open is the request with this id, nil if there is none. c.mu is held.
func (c *conn) open(id uint16) *request {
	for _, q := range c.requests {
		if q.id == id {
			return q
		}
	}
	return nil
}

// peer names the other side: its address or, as those of unix sockets have none, ours.
func (c *conn) peer() string {
	if addr, ok := c.nc.RemoteAddr().(*net.UnixAddr); !ok || addr.Name != "" && addr.Name != "@" {
		return c.nc.RemoteAddr().String()
	}
	return c.nc.LocalAddr().String()
}

// report logs what ended the connection where that is somebody's fault: one line.
func (c *conn) report(err error) {
	var malformed *ProtocolError
	switch {
	case errors.As(err, &malformed):
		c.log().Warn("fcgi: connection closed", "error", err, "peer", c.peer())
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.isLingering():
		c.log().Warn("fcgi: connection closed: no complete params in time", "limit", c.srv.paramsTimeout().String(), "peer", c.peer())
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.log().Warn("fcgi: the web server closed the connection within a record", "peer", c.peer())
	}
}

// limitRead sets the time within which params must be complete, or takes it away.
func (c *conn) limitRead(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lingering {
		return
	}
	var t time.Time
	if on {
		limit := c.srv.paramsTimeout()
		if c.refusing {
			limit = min(limit, refuseTimeout)
		}
		t = time.Now().Add(limit)
	}
	c.timed, c.nudged = on, false
	_ = c.nc.SetReadDeadline(t)
}

// write sends rec, one record or more, as one. It blocks while another is being
// written or the web server takes nothing, until d comes or the connection ends. STDOUT
// of q is an error once q's END_REQUEST has its place; q is nil for other records. An
// error that left rec sent in part, or is not about d, ends the connection.
func (c *conn) write(rec []byte, d *deadline, q *request) error {
	if d.passed() {
		return os.ErrDeadlineExceeded
	}
	if !c.tryWriting() {
		c.willBlock()
		select {
		case c.writing <- struct{}{}:
		case <-d.wait():
			return os.ErrDeadlineExceeded
		}
	}
	defer c.written()
	if err := c.claim(d, q); err != nil {
		return err
	}
	n, err := c.send(rec)
	c.mu.Lock()
	c.writer = nil
	c.mu.Unlock()
	if err == nil {
		return nil
	}
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		c.fail(writeError{err})
	}
	return err
}

// claim makes d the deadline of the connection's writes.
func (c *conn) claim(d *deadline, q *request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.broken != nil:
		return c.broken
	case q != nil && !q.onWire:
		return ErrRequestAborted
	}
	c.writer = d
	t := d.get()
	if !t.IsZero() || c.limited {
		c.limited = !t.IsZero()
		return c.nc.SetWriteDeadline(t)
	}
	return nil
}

// deadlineMoved applies a new deadline to the write that it is for, if that runs.
func (c *conn) deadlineMoved(d *deadline, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writer == d {
		c.limited = !t.IsZero()
		_ = c.nc.SetWriteDeadline(t)
	}
}

// reply sends a record of the connection itself.
func (c *conn) reply(rec []byte) error {
	var d deadline
	d.set(time.Now().Add(finishTimeout))
	defer d.set(time.Time{})
	if err := c.write(rec, &d, nil); err != nil {
		return writeError{err}
	}
	return nil
}

func (c *conn) isLingering() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lingering
}

// endRequest sends END_REQUEST, unless that was done or can't be, and ends the
// connection after its last request. The id is free before the record is out.
// last, which may be nil, is what is left of STDOUT, with room behind it: both go out in
// one write, but END_REQUEST alone where q's deadline leaves no time for that.
func (c *conn) endRequest(q *request, last []byte, appStatus uint32, protocolStatus uint8) {
	c.mu.Lock()
	if !q.onWire {
		c.mu.Unlock()
		return
	}
	q.onWire = false
	c.requests = slices.DeleteFunc(c.requests, func(r *request) bool { return r == q })
	c.ending++
	c.closing = c.closing || !q.keep
	c.unpark()
	c.mu.Unlock()
	if last == nil || c.write(appendEndRequest(last, q.id, appStatus, protocolStatus), &q.writeDeadline, nil) != nil {
		if err := c.reply(appendEndRequest(nil, q.id, appStatus, protocolStatus)); err != nil {
			c.fail(err)
		}
	}
	c.mu.Lock()
	c.ending--
	c.mu.Unlock()
	c.lingerIfIdle()
}

// lingerIfIdle ends the connection if it is closing and has no request: nothing
// is sent any more, and the reader waits, bounded, for the web server to close it.
func (c *conn) lingerIfIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing || len(c.requests) > 0 || c.ending > 0 || c.broken != nil || c.lingering {
		return
	}
	c.lingering = true
	if hc, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = hc.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
}

// closeWhenIdle lets the open requests end, and then the connection.
func (c *conn) closeWhenIdle() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.lingerIfIdle()
}

// fail ends the connection and all requests on it. The first cause holds.
func (c *conn) fail(cause error) {
	c.mu.Lock()
	if c.broken == nil {
		c.broken = cause
	}
	cause = c.broken
	open := c.requests
	c.requests = nil
	for _, q := range open {
		q.onWire = false
	}
	c.closing = true
	c.unpark()
	c.mu.Unlock()
	_ = c.nc.Close()
	for _, q := range open {
		q.cut(cause)
	}
}
