package fcgi

// A request that net/http/fcgi has read, and its response.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"tandem/cgi"
	"tandem/internal/gateway"
	"tandem/internal/problem"
)

// serveRequest is net/http/fcgi's handler.
func (c *netConn) serveRequest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	vars, err, ok := c.start(cancel)
	if !ok {
		return
	}
	defer c.running.Done()
	body := &netBody{ReadCloser: r.Body, ctx: ctx}
	rw := &netResponse{c: c, ctx: ctx, w: w, body: body}
	_ = c.nc.SetWriteDeadline(time.Time{}) // the last request's
	h := c.handler
	if err == nil {
		// Not r: net/http/fcgi leaves SCRIPT_NAME and more out, and takes any CONTENT_LENGTH.
		r, err = cgi.NewRequest(vars)
	}
	if err != nil {
		c.log().Warn("fcgi: request refused", "status", http.StatusBadRequest, "error", err)
		h = answer(http.StatusBadRequest, err.Error())
		r = &http.Request{Method: http.MethodGet, Header: http.Header{}}
	} else {
		ctx = gateway.NewContext(ctx, gateway.FromVars(c.takeInterface(vars), vars))
	}
	r = r.WithContext(ctx)
	r.Body = body
	returned := false
	defer func() {
		v := recover()
		attrs := []any{"method", r.Method, "path", requestPath(r)}
		switch {
		case returned || v == http.ErrAbortHandler:
		case v == nil: // runtime.Goexit
			c.log().Error("fcgi: the handler ended its goroutine", attrs...)
		default:
			c.log().Error("fcgi: panic in the handler", append(attrs, "panic", v, "stack", string(debug.Stack()))...)
		}
		rw.end(returned, v != nil)
	}()
	h.ServeHTTP(rw, r)
	returned = true
}

// netResponse is the handler's http.ResponseWriter. All methods but Header are safe
// for concurrent use; after the handler has returned they are errors, or do nothing.
type netResponse struct {
	c    *netConn
	ctx  context.Context // cancelled by a failed write, too
	w    http.ResponseWriter
	body *netBody

	left atomic.Bool // the handler has returned

	mu     sync.Mutex
	status int // 0: not chosen yet
	sent   bool
	done   bool
}

func (rw *netResponse) Header() http.Header { return rw.w.Header() }

// WriteHeader chooses the status. Informational ones (1xx) are dropped.
func (rw *netResponse) WriteHeader(status int) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.status == 0 && status >= 200 {
		rw.status = status
	}
}

func (rw *netResponse) Write(p []byte) (int, error) {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.done {
		return 0, errHandlerReturned
	}
	n, err := rw.write(p)
	if err == nil {
		err = context.Cause(rw.ctx) // of an earlier write, or of the request's end
	}
	return n, err
}

// write writes p, after the header. Needs mu.
func (rw *netResponse) write(p []byte) (int, error) {
	if !rw.sent {
		rw.sent = true
		if rw.status == 0 {
			rw.status = http.StatusOK
		}
		rw.w.Header().Del("Status")
		rw.w.WriteHeader(rw.status)
	}
	return rw.w.Write(p)
}

func (rw *netResponse) Flush() { _ = rw.FlushError() }

// FlushError sends the header, if it wasn't yet, and what was written.
func (rw *netResponse) FlushError() error {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if rw.done {
		return errHandlerReturned
	}
	if !rw.sent {
		_, _ = rw.write(nil) // net/http/fcgi's Flush alone sends no header.
	}
	rw.w.(http.Flusher).Flush()
	return context.Cause(rw.ctx)
}

// EnableFullDuplex is always on.
func (rw *netResponse) EnableFullDuplex() error { return nil }

// SetReadDeadline makes Body.Read fail with os.ErrDeadlineExceeded from t on. Once t has
// come it can't be moved: what follows of the body is dropped.
func (rw *netResponse) SetReadDeadline(t time.Time) error {
	if rw.left.Load() {
		return errHandlerReturned
	}
	rw.body.setDeadline(t)
	return nil
}

// SetWriteDeadline makes Write and Flush fail with os.ErrDeadlineExceeded from t on,
// ones that are blocked too, and ends the connection with the first that does.
func (rw *netResponse) SetWriteDeadline(t time.Time) error {
	if rw.left.Load() {
		return errHandlerReturned
	}
	return rw.c.nc.SetWriteDeadline(t)
}

// end leaves the rest to net/http/fcgi, which must not wait without bound.
func (rw *netResponse) end(returned, panicked bool) {
	rw.left.Store(true)
	rw.body.setDeadline(time.Time{})
	_ = rw.c.nc.SetWriteDeadline(time.Now().Add(finishTimeout))
	rw.mu.Lock()
	defer rw.mu.Unlock()
	rw.done = true
	switch {
	case returned && !rw.sent:
		_, _ = rw.write(nil)
	case returned:
	case panicked && !rw.sent:
		clear(rw.Header())
		rw.status = 0
		problem.Write(unlocked{rw}, http.StatusInternalServerError, "The application failed. Its log says why.")
	default:
		rw.c.fail(http.ErrAbortHandler) // else the response would look complete
	}
}

// unlocked is a netResponse for who has its mu.
type unlocked struct{ *netResponse }

func (u unlocked) WriteHeader(status int)      { u.status = status }
func (u unlocked) Write(p []byte) (int, error) { return u.write(p) }

// netBody is the pipe from net/http/fcgi's reader with a deadline, which closes it.
type netBody struct {
	io.ReadCloser
	ctx context.Context

	mu    sync.Mutex
	timer *time.Timer
	late  bool
}

func (b *netBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case b.isLate():
		return n, os.ErrDeadlineExceeded
	case errors.Is(err, io.ErrClosedPipe):
		return n, http.ErrBodyReadAfterClose
	}
	return n, context.Cause(b.ctx) // set before the pipe learns of it
}

func (b *netBody) isLate() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.late
}

func (b *netBody) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		b.late = true
		b.Close()
	default:
		b.timer = time.AfterFunc(wait, func() { b.setDeadline(t) })
	}
}
