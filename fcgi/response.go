package fcgi

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"tandem/cgi"
)

// response is the http.ResponseWriter of the handler, over the one of net/http/fcgi.
// All methods but Header are safe for concurrent use; after the handler has
// returned they are errors, or do nothing.
//
// Back-pressure: Write and Flush block while the web server takes nothing, until
// the write deadline or the end of the connection.
type response struct {
	inner http.ResponseWriter // net/http/fcgi's; it is an http.Flusher
	q     *request

	mu     sync.Mutex
	status int  // 0: not chosen yet
	sent   bool // inner has the header
	done   bool // the handler has returned
}

var errHandlerReturned = errors.New("fcgi: the response was used after its handler returned")

func (rw *response) Header() http.Header { return rw.inner.Header() }

// WriteHeader chooses the status. It is sent with the first Write or Flush: until
// then a panic is a 500. Informational ones (1xx) are dropped, CGI has no way to send them.
func (rw *response) WriteHeader(status int) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.status == 0 && status >= 200 {
		rw.status = status
	}
}

func (rw *response) Write(p []byte) (int, error) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.done {
		return 0, errHandlerReturned
	}
	rw.sendStatus()
	n, err := rw.inner.Write(p)
	if err == nil {
		// What it buffered after a failed flush is lost as well.
		err = rw.q.err()
	}
	return n, err
}

// sendStatus hands the status to net/http/fcgi, which sends the header with the
// next Write. Needs rw.mu.
func (rw *response) sendStatus() {
	if rw.sent {
		return
	}
	rw.sent = true
	if rw.status == 0 {
		rw.status = http.StatusOK
	}
	rw.inner.WriteHeader(rw.status)
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
	rw.sendStatus()
	rw.flush()
	return rw.q.err()
}

// flush needs rw.mu.
func (rw *response) flush() {
	_, _ = rw.inner.Write(nil) // Its Flush alone sends no header.
	rw.inner.(http.Flusher).Flush()
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

// finish ends the response's use; failed: by a panic. The rest, END_REQUEST at last,
// is net/http/fcgi's.
func (rw *response) finish(failed bool) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	rw.done = true
	if failed && !rw.sent {
		clear(rw.inner.Header())
		cgi.Problem(rw.inner, http.StatusInternalServerError, "The application failed. Its log says why.")
		rw.sent = true
		return
	}
	rw.sendStatus()
}
