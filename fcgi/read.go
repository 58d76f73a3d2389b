package fcgi

// The connection's reader: records from the web server.

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"tandem/internal/problem"
)

func (c *conn) readRecords() error {
	if err := c.readRest(); err != nil {
		return err
	}
	for {
		waits := c.in.empty()
		if waits {
			c.giveTurn()
			if c.park() {
				return errParked
			}
		}
		b, err := c.in.peek(headerLen)
		if waits && c.awake() && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return readError(err)
		}
		if c.isLingering() {
			// The read deadline is set.
			return readError(c.in.skip(lingerBytes))
		}
		h := parseHeader(b)
		if err := h.check(); err != nil {
			return err
		}
		if err := c.in.skip(headerLen); err != nil {
			return readError(err)
		}
		left := h.length
		if err := c.handle(h, &left); err != nil {
			return err
		}
		if err := c.in.skip(left + h.padding); err != nil {
			return readError(midRecord(err))
		}
	}
}

// readError makes of a failed read what the requests learn as their cause.
func readError(err error) error {
	if err == nil || err == io.EOF {
		return ErrConnClosed
	}
	return fmt.Errorf("%w: %w", ErrConnClosed, err)
}

func midRecord(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// handle deals with a record whose header was read; *left is how much of its content
// it leaves unread.
func (c *conn) handle(h recordHeader, left *int) error {
	switch h.typ {
	case typeBeginRequest:
		content, err := c.content(left)
		if err != nil {
			return err
		}
		return c.begin(h.id, int(content[0])<<8|int(content[1]), content[2]&flagKeepConn != 0)
	case typeGetValues:
		content, err := c.content(left)
		if err != nil {
			return err
		}
		return c.getValues(content)
	case typeAbortRequest, typeParams, typeStdin:
		q := c.request(h.id)
		if q == nil {
			return nil // Section 3.3: ids of requests that are not open are ignored.
		}
		switch h.typ {
		case typeAbortRequest:
			c.abort(q)
			return nil
		case typeParams:
			return c.readParams(q, left)
		}
		return c.readStdin(q, left)
	case typeData:
		return nil // The filter's; a responder gets none.
	}
	// Section 4.2, for types unknown here.
	c.log().Warn("fcgi: record of unknown type ignored", "type", h.typ, "id", h.id)
	return c.reply(appendRecord(nil, typeUnknownType, 0, []byte{h.typ, 0, 0, 0, 0, 0, 0, 0}))
}

// content reads a record's whole content.
func (c *conn) content(left *int) ([]byte, error) {
	b := make([]byte, 0, *left)
	err := c.each(left, func(p []byte) error {
		b = append(b, p...)
		return nil
	})
	return b, err
}

// each passes the content on as it comes, in pieces that are valid during the call.
func (c *conn) each(left *int, f func([]byte) error) error {
	for *left > 0 {
		if c.in.empty() {
			c.giveTurn()
		}
		b, err := c.in.next(*left)
		if err != nil {
			return readError(midRecord(err))
		}
		*left -= len(b)
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) request(id uint16) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open(id)
}

func (c *conn) begin(id uint16, role int, keep bool) error {
	c.mu.Lock()
	if c.open(id) != nil {
		c.mu.Unlock()
		return protocolErrorf("BEGIN_REQUEST for id %d, which is open", id)
	}
	q := newRequest(c, id, keep && !c.refusing)
	refuse := c.closing || len(c.requests) >= maxRequests
	c.requests = append(c.requests, q)
	c.mu.Unlock()
	switch {
	case role != roleResponder:
		c.log().Warn("fcgi: request refused: only responders are served", "role", role)
		c.endRequest(q, nil, 0, statusUnknownRole)
		q.cancel(nil)
	case refuse:
		c.endRequest(q, nil, 0, statusOverloaded)
		q.cancel(nil)
	default:
		c.pending++
		if c.timed {
			c.limitRead(true)
		}
	}
	return nil
}

// abort ends a request at the web server's wish: END_REQUEST is all it gets from now on
// (section 5.4), whatever its handler still does.
func (c *conn) abort(q *request) {
	q.cut(ErrRequestAborted)
	c.endRequest(q, nil, 0, statusRequestComplete)
	if !q.started {
		c.paramsEnd()
	}
}

// paramsEnd takes a request off those that are waited for.
func (c *conn) paramsEnd() {
	c.pending--
	if c.pending == 0 && c.timed {
		c.limitRead(false)
	}
}

// limitParams sets the time for params once they are waited for: mostly they have come
// with the beginning of their request, and two timers would have been for nothing.
func (c *conn) limitParams() {
	if c.pending > 0 && !c.timed {
		c.limitRead(true)
	}
}

func (c *conn) readParams(q *request, left *int) error {
	if q.started {
		if q.refused {
			return nil // What follows too many params is skipped.
		}
		return protocolErrorf("PARAMS of request %d after their end", q.id)
	}
	if *left == 0 {
		c.paramsEnd()
		if err := q.prepare(); err != nil {
			c.log().Warn("fcgi: request refused", "status", http.StatusBadRequest, "error", err)
			q.start(answer(http.StatusBadRequest, err.Error()))
			return nil
		}
		q.start(c.handler)
		return nil
	}
	if limit := c.srv.maxParams(); len(q.params)+*left > limit {
		q.params = nil
		c.paramsEnd()
		detail := fmt.Sprintf("The request's params are more than %d bytes; the limit is max_params.", limit)
		c.log().Warn("fcgi: request refused", "status", http.StatusRequestHeaderFieldsTooLarge, "error", detail)
		q.refused = true
		q.start(answer(http.StatusRequestHeaderFieldsTooLarge, detail))
		return nil
	}
	return c.each(left, func(b []byte) error {
		q.params = append(q.params, b...)
		return nil
	})
}

func (c *conn) readStdin(q *request, left *int) error {
	if !q.started {
		c.paramsEnd()
		q.params = nil
		const detail = "STDIN came before the end of the params, expected an empty PARAMS record before it"
		c.log().Warn("fcgi: request refused", "status", http.StatusBadRequest, "error", detail)
		q.refused = true
		q.start(answer(http.StatusBadRequest, detail))
		return nil
	}
	if *left == 0 {
		q.body.finish(io.EOF)
		c.feed(q)
		return nil
	}
	return c.each(left, func(b []byte) error {
		if !q.body.write(b, func() bool { return hungUp(c.nc) }) {
			return ErrConnClosed
		}
		c.feed(q)
		return nil
	})
}

// feed notes that q has got input: its Sink gets its Turn when there is no more. Where
// there is a Turn before each further read, one request needs no list.
func (c *conn) feed(q *request) {
	if c.fed != q {
		c.giveTurn()
		c.fed = q
	}
}

// giveTurn has a detached request act on what was read, in another goroutine.
func (c *conn) giveTurn() {
	if q := c.fed; q != nil {
		c.fed = nil
		if s := q.body.detachedTo(); s != nil {
			s.Turn(nil)
		}
	}
}

// getValues answers GET_VALUES (section 4.1).
func (c *conn) getValues(content []byte) error {
	asked, err := parsePairs(content)
	if err != nil {
		return protocolErrorf("GET_VALUES: %v", err)
	}
	var values []byte
	for name, value := range map[string]string{
		"FCGI_MAX_CONNS":  fmt.Sprint(c.srv.MaxConns),
		"FCGI_MAX_REQS":   fmt.Sprint(c.srv.MaxConns),
		"FCGI_MPXS_CONNS": "1",
	} {
		if _, ok := asked[name]; ok && value != "0" {
			values = appendPair(values, name, value)
		}
	}
	return c.reply(appendRecord(nil, typeGetValuesResult, 0, values))
}

func answer(status int, detail string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, status, detail) })
}
