package fcgi

// The other engine: connections whose records net/http/fcgi reads and writes.
//
// What net/http/fcgi doesn't do is done here where it can be, by looking at the records
// as they pass. What stays (SERVERS.md trap 2):
//
//   - the handler starts at the first STDIN record, empty or not;
//   - the reader waits while the handler doesn't read its body: nothing is read ahead,
//     and an abort, or the connection's end, isn't noticed meanwhile;
//   - after the handler it drains up to 100 MB of the body, as long as that takes;
//   - an open request holds its buffers of 64 KiB, and the header leaves in a
//     record of its own;
//   - one request at a time: the next one on the same connection waits for the end of one
//     whose body is complete (HAProxy begins it when it has seen the last byte that
//     Content-Length tells of, before END_REQUEST), and is refused beside any other;
//   - a deadline that has passed is final, and a write's ends the connection.

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	nethttp "net/http/fcgi"
	"time"
)

// statusCantMultiplex refuses a request beside another one (section 5.5).
const statusCantMultiplex = 1

// netConn is one connection that net/http/fcgi serves, in a Serve of its own: so it is
// known whose request what passes belongs to.
type netConn struct {
	*conn // of which net/http/fcgi takes the reader's and the requests' place
	br    *bufio.Reader
	gone  chan struct{} // closed with the connection

	// Owned by net/http/fcgi's reader.
	head   recordHeader // of the record that is being passed on
	left   int          // of it, with its header and padding
	params []byte
	whole  bool // the open request's body has ended

	// Guarded by conn.mu.
	id      uint16            // begun, END_REQUEST not sent; 0: none
	vars    map[string]string // of that request; nil: its params are not complete
	varsErr error
	over    chan struct{} // closed with its END_REQUEST
	aborted bool
	cancel  context.CancelCauseFunc // nil: its handler hasn't started
}

func newNetConn(c *conn) *netConn {
	return &netConn{conn: c, br: bufio.NewReader(c.nc), gone: make(chan struct{})}
}

func (c *netConn) serve() {
	c.limitRead(true)
	_ = nethttp.Serve(&oneConn{Conn: c.nc, c: c}, http.HandlerFunc(c.serveRequest)) // ends at once: there is no second one
	<-c.gone
	c.running.Wait()
	close(c.done)
	c.srv.removeConn(c)
}

// oneConn is the connection as net/http/fcgi sees it, and the listener that has it.
type oneConn struct {
	net.Conn
	c     *netConn
	taken bool
}

func (o *oneConn) Addr() net.Addr { return o.LocalAddr() }

func (o *oneConn) Accept() (net.Conn, error) {
	if o.taken {
		return nil, io.EOF
	}
	o.taken = true
	return o, nil
}

// Read is called by net/http/fcgi's reader alone.
func (o *oneConn) Read(p []byte) (int, error) {
	n, err := o.c.read(p)
	if err != nil {
		o.c.report(err)
		o.c.fail(err)
	}
	return n, err
}

func (c *netConn) read(p []byte) (int, error) {
	if c.isLingering() {
		_, err := io.CopyN(io.Discard, c.br, lingerBytes)
		return 0, readError(err)
	}
	if c.left == 0 {
		if err := c.nextRecord(); err != nil {
			return 0, err
		}
	}
	n, err := c.br.Read(p[:min(len(p), c.left)])
	if err != nil {
		return n, readError(midRecord(err))
	}
	if c.head.typ == typeParams {
		begin, end := max(c.left-c.head.length-c.head.padding, 0), min(c.left-c.head.padding, n)
		c.collect(p[begin:max(begin, end)])
	}
	c.left -= n
	return n, nil
}

// nextRecord looks at the record that is passed on next.
func (c *netConn) nextRecord() error {
	b, err := c.br.Peek(headerLen)
	if err != nil {
		if len(b) > 0 {
			err = midRecord(err)
		}
		return readError(err)
	}
	h := parseHeader(b)
	if err := h.check(); err != nil {
		return err
	}
	c.head, c.left = h, headerLen+h.length+h.padding
	switch h.typ {
	case typeBeginRequest:
		return c.begin(h)
	case typeParams:
		return c.readParams(h)
	case typeStdin:
		c.endBody(h)
	case typeAbortRequest:
		c.abort(h.id)
	}
	return nil
}

func (c *netConn) begin(h recordHeader) error {
	c.mu.Lock()
	open, over := c.id, c.over
	c.mu.Unlock()
	switch {
	case open == h.id:
		return protocolErrorf("BEGIN_REQUEST for id %d, which is open", h.id)
	case open != 0 && c.whole:
		select {
		case <-over:
		case <-c.gone:
			return ErrConnClosed
		}
	case open != 0:
		if _, err := c.br.Discard(c.left); err != nil {
			return readError(midRecord(err))
		}
		if _, err := c.nc.Write(appendEndRequest(nil, h.id, 0, statusCantMultiplex)); err != nil {
			return writeError{err}
		}
		return c.nextRecord()
	}
	c.mu.Lock()
	lingering := c.lingering
	c.id, c.over, c.vars, c.varsErr, c.cancel = h.id, make(chan struct{}), nil, nil, nil
	c.mu.Unlock()
	if lingering {
		return ErrConnClosed
	}
	c.params, c.whole = nil, false
	c.limitRead(true)
	return nil
}

func (c *netConn) endBody(h recordHeader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = c.whole || h.id == c.id && h.length == 0
}

func (c *netConn) readParams(h recordHeader) error {
	if limit := c.srv.maxParams(); len(c.params)+h.length > limit {
		return protocolErrorf("more than %d bytes of params; the limit is max_params", limit)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.length > 0 || h.id != c.id || c.vars != nil || c.varsErr != nil {
		return nil
	}
	c.vars, c.varsErr = parsePairs(c.params)
	c.params = nil
	return c.nc.SetReadDeadline(time.Time{})
}

// collect takes content of a PARAMS record.
func (c *netConn) collect(content []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head.id == c.id && c.vars == nil && c.varsErr == nil {
		c.params = append(c.params, content...)
	}
}

// abort ends the connection too: the handler may still be at work when the request's
// id is used again.
func (c *netConn) abort(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != c.id {
		return
	}
	c.aborted, c.closing = true, true
	if c.cancel != nil {
		c.cancel(ErrRequestAborted)
	}
}

// Write gets one whole record.
func (o *oneConn) Write(rec []byte) (int, error) { return o.c.writeRecord(rec) }

func (c *netConn) writeRecord(rec []byte) (int, error) {
	h := parseHeader(rec)
	end := h.typ == typeEndRequest
	c.mu.Lock()
	ours, broken, over := h.id == c.id || h.id == 0, c.broken, c.over
	if ours && end {
		c.id = 0
	}
	c.mu.Unlock()
	switch {
	case broken != nil:
		return 0, broken
	case !ours:
		return 0, ErrRequestAborted
	}
	n, err := c.nc.Write(rec)
	if err != nil {
		c.fail(writeError{err})
	} else if end {
		c.lingerIfIdle()
		close(over)
	}
	return n, err
}

func (c *netConn) closeWhenIdle() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.lingerIfIdle()
}

func (c *netConn) lingerIfIdle() {
	c.mu.Lock()
	idle := c.closing && c.id == 0
	c.mu.Unlock()
	if idle {
		c.linger()
	}
}

// Close is net/http/fcgi's wish to end the connection. It may still be reading, or
// not any more.
func (o *oneConn) Close() error {
	o.c.linger()
	return nil
}

// linger sends nothing any more and lets the web server close, within bounds.
func (c *netConn) linger() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil || c.lingering {
		return
	}
	c.lingering = true
	if hc, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = hc.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	time.AfterFunc(lingerTime, func() { c.fail(ErrConnClosed) })
}

func (c *netConn) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return
	}
	c.broken = cause
	_ = c.nc.Close()
	if c.cancel != nil {
		c.cancel(cause)
	}
	close(c.gone)
}

// start says whether there still is a request to handle, and has cancel end it.
func (c *netConn) start(cancel context.CancelCauseFunc) (vars map[string]string, err error, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil || c.aborted {
		return nil, nil, false
	}
	c.running.Add(1)
	c.cancel = cancel
	return c.vars, c.varsErr, true
}
