package fcgi

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tandem/cgi"
	"tandem/internal/gateway"
)

// Causes of a request's cancelled context, and what Body.Read and
// ResponseWriter.Write then return. A malformed record is a *ProtocolError, and
// Server.Close is http.ErrServerClosed.
var (
	// ErrRequestAborted: the web server sent ABORT_REQUEST.
	ErrRequestAborted = errors.New("fcgi: request aborted by the web server")
	// ErrConnClosed: the web server closed the connection.
	ErrConnClosed = errors.New("fcgi: connection closed by the web server")
	// ErrWrite: a write to the web server failed; it wraps the reason as well.
	ErrWrite = errors.New("fcgi: write to the web server failed")
)

// request is one request from BEGIN_REQUEST to END_REQUEST.
type request struct {
	c    *conn
	id   uint16
	keep bool

	// Owned by the connection's reader.
	params  []byte
	started bool
	refused bool // started before its params had ended, to answer that they are bad

	http   *http.Request // set at start
	body   *body
	ctx    context.Context
	cancel context.CancelCauseFunc

	writeDeadline deadline
	left          atomic.Bool  // the handler has returned, and whom it may have left the request to is done
	sink          gateway.Sink // whom it has left it to; set by the handler's goroutine

	mu       sync.Mutex
	writeErr error // the first that a write returned: all later ones return it too

	onWire   bool // END_REQUEST was not sent yet; owner: c.mu
	detached bool // the handler has left it to a Sink; owner: c.mu
}

func newRequest(c *conn, id uint16, keep bool) *request {
	q := &request{c: c, id: id, keep: keep, body: newBody(), onWire: true}
	q.ctx, q.cancel = context.WithCancelCause(context.Background())
	return q
}

// prepare makes the HTTP request of the params. The error is for the client too.
func (q *request) prepare() error {
	vars, err := parsePairs(q.params)
	q.params = nil
	if err != nil {
		return err
	}
	if s := vars["CONTENT_LENGTH"]; s != "" {
		if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < -1 {
			return errors.New("bad CONTENT_LENGTH " + strconv.Quote(s) + ", expected a number of bytes, or nothing where it isn't known")
		}
	}
	r, err := cgi.NewRequest(vars)
	if err != nil {
		return err
	}
	r.Body = q.body
	q.http = r.WithContext(gateway.NewContext(q.ctx, gateway.FromVars(q.c.takeInterface(vars), vars)))
	return nil
}

// start runs h for the request, in a goroutine of its own.
func (q *request) start(h http.Handler) {
	q.started = true
	if q.http == nil {
		q.http = (&http.Request{Method: http.MethodGet, Header: http.Header{}, Body: http.NoBody}).WithContext(q.ctx)
	}
	q.c.running.Add(1)
	go q.serve(h)
}

// serve is the request's goroutine. Whatever h does, END_REQUEST is sent.
func (q *request) serve(h http.Handler) {
	rw := newResponse(q)
	returned := false
	defer func() {
		v := recover()
		switch {
		case returned && q.sink != nil:
			q.http = nil
			return // its finish does the rest
		case returned || v == http.ErrAbortHandler:
		case v == nil: // runtime.Goexit
			q.c.log().Error("fcgi: the handler ended its goroutine", q.attrs()...)
		default:
			q.c.log().Error("fcgi: panic in the handler", append(q.attrs(), "panic", v, "stack", string(debug.Stack()))...)
		}
		if q.sink != nil {
			q.sink.Lost(http.ErrAbortHandler)
			return
		}
		rw.end(!returned)
	}()
	h.ServeHTTP(rw, q.http)
	returned = true
}

// leave is the end of the handler: from here on nothing of the request may wait
// without bound.
func (q *request) leave() {
	q.left.Store(true)
	q.body.Close()
	q.body.deadline.set(time.Time{})
	if at := q.writeDeadline.get(); at.IsZero() || time.Until(at) > finishTimeout {
		q.setWriteDeadline(time.Now().Add(finishTimeout))
	}
	q.cancel(nil)
}

func (q *request) attrs() []any {
	return []any{"method", q.http.Method, "path", requestPath(q.http)}
}

func requestPath(r *http.Request) string {
	if r.URL == nil {
		return ""
	}
	return r.URL.Path
}

func (q *request) err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.writeErr
}

// write sends one record of the response.
func (q *request) write(rec []byte) error {
	if err := q.err(); err != nil {
		return err
	}
	err := q.c.write(rec, &q.writeDeadline, q)
	switch {
	case err == nil:
		return nil
	case err == ErrRequestAborted:
		return err
	}
	err = writeError{err}
	q.fail(err)
	return err
}

// fail makes all writes from now on return err, and cancels the context with it.
func (q *request) fail(err error) {
	q.mu.Lock()
	if q.writeErr == nil {
		q.writeErr = err
	}
	q.mu.Unlock()
	q.cancel(err)
	q.body.lost(err)
}

// cut is the end of the request by the web server, or by the end of the connection.
func (q *request) cut(cause error) {
	q.fail(cause)
	q.body.finish(cause)
}

// setWriteDeadline is safe for concurrent use, with a write too.
func (q *request) setWriteDeadline(t time.Time) {
	q.writeDeadline.set(t)
	q.c.deadlineMoved(&q.writeDeadline, t)
}

// writeError is ErrWrite with its reason.
type writeError struct{ reason error }

func (e writeError) Error() string   { return ErrWrite.Error() + ": " + e.reason.Error() }
func (e writeError) Unwrap() []error { return []error{ErrWrite, e.reason} }
