package fcgi

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"tandem/cgi"
	"tandem/internal/gateway"
	"tandem/internal/problem"
)

// response is the http.ResponseWriter of the handler. All methods but Header are
// safe for concurrent use; after the handler has returned they are errors, or do
// nothing. What is written waits for Flush, or until a record is full; header and first
// content leave in one record, and nothing is held while nothing waits.
//
// Back-pressure: Write and Flush block while the web server takes nothing, until
// the write deadline or the end of the connection.
type response struct {
	q      *request
	header http.Header

	mu     sync.Mutex
	status int  // 0: not chosen yet
	sent   bool // the header is in out, or on the wire
	done   bool // the handler has returned
	out    stdout
}

var errHandlerReturned = errors.New("fcgi: the response was used after its handler returned")

func newResponse(q *request) *response { return &response{q: q, header: make(http.Header)} }

func (rw *response) Header() http.Header { return rw.header }

// WriteHeader chooses the status. It is sent with the first Write or Flush: until
// then a panic is a 500. Informational ones (1xx) are dropped, CGI has no way to send them.
func (rw *response) WriteHeader(status int) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	locked{rw}.WriteHeader(status)
}

func (rw *response) Write(p []byte) (int, error) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.done {
		return 0, errHandlerReturned
	}
	return locked{rw}.Write(p)
}

func (rw *response) Flush() { _ = rw.FlushError() }

// FlushError sends the header, if it wasn't yet, and what was written. It returns
// the first error that any write had.
func (rw *response) FlushError() error {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.done {
		return errHandlerReturned
	}
	if err := rw.collectHeader(nil); err != nil {
		return err
	}
	return rw.flush()
}

// EnableFullDuplex is always on.
func (rw *response) EnableFullDuplex() error { return nil }

// SetReadDeadline makes Body.Read fail with os.ErrDeadlineExceeded from t on,
// a Read that is blocked too. The zero time takes it away. Another request on the same
// connection is not concerned.
func (rw *response) SetReadDeadline(t time.Time) error {
	if rw.q.left.Load() {
		return errHandlerReturned
	}
	rw.q.body.deadline.set(t)
	return nil
}

// SetWriteDeadline makes Write and Flush fail with os.ErrDeadlineExceeded from t on,
// ones that are blocked too. A record that was sent in part ends the connection.
func (rw *response) SetWriteDeadline(t time.Time) error {
	if rw.q.left.Load() {
		return errHandlerReturned
	}
	rw.q.setWriteDeadline(t)
	return nil
}

// Detach implements gateway.Detacher; see there.
func (rw *response) Detach(s gateway.Sink) (finish func(), ok bool) {
	if !rw.q.c.srv.Detach {
		return nil, false
	}
	rw.mu.Lock()
	rw.q.sink = s
	rw.dropHeader()
	rw.mu.Unlock()
	rw.q.body.detach(s)
	s.Turn(nil)
	if err := rw.q.err(); err != nil {
		s.Lost(err)
	}
	rw.q.c.detached(rw.q)
	return func() { rw.end(false) }, true
}

// end ends the request. Nothing of it may wait without bound any more.
func (rw *response) end(failed bool) {
	rw.q.leave()
	rw.finish(failed)
	rw.q.setWriteDeadline(time.Time{}) // Its timer must not outlive it.
	rw.q.c.running.Done()
}

// collectHeader is for the first Write or Flush; start is the body's. Needs mu.
func (rw *response) collectHeader(start []byte) error {
	if rw.sent {
		return nil
	}
	rw.sent = true
	if rw.status == 0 {
		rw.status = http.StatusOK
	}
	err := cgi.WriteHeader((*collector)(rw), rw.status, rw.header, start)
	rw.dropHeader()
	return err
}

// dropHeader lets go of a header that was sent and that nobody will look at. Needs mu.
func (rw *response) dropHeader() {
	if rw.sent && rw.q.sink != nil {
		rw.header = nil
	}
}

// collect takes p, and sends each record that it fills. Needs mu.
func (rw *response) collect(p []byte) (int, error) {
	n := 0
	for {
		n += rw.out.add(p[n:])
		if n == len(p) {
			// What is collected after a failed write is lost as well.
			return n, rw.q.err()
		}
		if err := rw.flush(); err != nil {
			return n, err
		}
	}
}

// flush sends what waits: one record in one write. Needs mu.
func (rw *response) flush() error {
	if rw.out.b == nil {
		return rw.q.err()
	}
	defer rw.out.reset()
	return rw.q.write(rw.out.record(rw.q.id))
}

// finish ends the request with the rest of its response and END_REQUEST, in one
// write where they fit in one buffer. failed: the handler did not return.
func (rw *response) finish(failed bool) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	rw.done = true
	appStatus := uint32(0)
	if failed {
		appStatus = 1
		if !rw.sent {
			clear(rw.header)
			rw.status = 0
			problem.Write(locked{rw}, http.StatusInternalServerError, "The application failed. Its log says why.")
		}
	}
	_ = rw.collectHeader(nil) // Its error is kept by the request, as all of them.
	defer rw.out.reset()
	last, ok := rw.out.last(rw.q.id, endRequestLen)
	if !ok {
		_ = rw.flush()
		last, _ = rw.out.last(rw.q.id, endRequestLen)
	}
	if rw.q.err() != nil {
		last = nil
	}
	rw.q.c.endRequest(rw.q, last, appStatus, statusRequestComplete)
}

// locked is a response for who has its mu.
type locked struct{ *response }

func (l locked) WriteHeader(status int) {
	if l.status == 0 && status >= 200 {
		l.status = status
	}
}

func (l locked) Write(p []byte) (int, error) {
	if err := l.collectHeader(p); err != nil {
		return 0, err
	}
	return l.collect(p)
}

// collector is a response as what its header is written to. Needs mu.
type collector response

func (c *collector) Write(p []byte) (int, error)       { return (*response)(c).collect(p) }
func (c *collector) WriteString(s string) (int, error) { return c.Write([]byte(s)) }
