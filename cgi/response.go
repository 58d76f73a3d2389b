package cgi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"tandem/internal/problem"
)

// response is the http.ResponseWriter of the handler. All methods but Header are
// safe for concurrent use; after the handler has returned they are errors, or do
// nothing.
//
// Back-pressure: Write and Flush block while the web server takes nothing, until
// the write deadline.
type response struct {
	out    *stream
	cancel context.CancelCauseFunc
	header http.Header
	body   *body // whose deadline SetReadDeadline sets

	mu     sync.Mutex
	buf    *bufio.Writer
	status int  // 0: not chosen yet
	sent   bool // the header is in buf, or out
	done   bool
	err    error // the first that a write had: all later ones return it too
}

var errHandlerReturned = errors.New("cgi: the response was used after its handler returned")

func newResponse(out *stream, cancel context.CancelCauseFunc) *response {
	return &response{out: out, cancel: cancel, header: make(http.Header), buf: bufio.NewWriter(out)}
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader chooses the status. It is sent with the first Write or Flush: until
// then a panic is a 500. Informational ones (1xx) are dropped, CGI has no way to send them.
func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return 0, errHandlerReturned
	}
	w.sendHeader(p)
	n, err := w.buf.Write(p)
	return n, w.failed(err)
}

// sendHeader writes the header (RFC 3875 section 6.2). Needs mu.
func (w *response) sendHeader(start []byte) {
	if w.sent {
		return
	}
	w.sent = true
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = WriteHeader(w.buf, w.status, w.header, start) // buf keeps the error.
}

// failed takes note of a write's error. Needs mu.
func (w *response) failed(err error) error {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%w: %w", ErrWrite, err)
		w.cancel(w.err)
	}
	return w.err
}

func (w *response) Flush() { _ = w.FlushError() }

// FlushError sends the header, if it wasn't yet, and what was written.
func (w *response) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return errHandlerReturned
	}
	w.sendHeader(nil)
	return w.failed(w.buf.Flush())
}

// EnableFullDuplex is always on.
func (w *response) EnableFullDuplex() error { return nil }

// SetReadDeadline makes Body.Read fail with os.ErrDeadlineExceeded from t on, a Read that
// is blocked too. Where stdin is a file only the zero time and past ones are
// supported.
func (w *response) SetReadDeadline(t time.Time) error {
	if w.body == nil {
		return nil
	}
	return w.body.setDeadline(t)
}

// SetWriteDeadline does the same for Write and Flush.
func (w *response) SetWriteDeadline(t time.Time) error {
	return w.out.setDeadline(t, w.out.file.SetWriteDeadline)
}

// fail is the answer to a panic.
func (w *response) fail() {
	w.mu.Lock()
	sent := w.sent
	w.mu.Unlock()
	if !sent {
		clear(w.header)
		w.mu.Lock()
		w.status = 0
		w.mu.Unlock()
		problem.Write(w, http.StatusInternalServerError, "The application failed. Its log says why.")
	}
}

// finish sends what is left; the web server has timeout for it.
func (w *response) finish(timeout time.Duration) error {
	_ = w.SetWriteDeadline(time.Now().Add(timeout))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	if w.err != nil {
		return w.err
	}
	w.sendHeader(nil)
	return w.failed(w.buf.Flush())
}
