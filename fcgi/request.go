package fcgi

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	stdfcgi "net/http/fcgi"
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
	ErrRequestAborted = stdfcgi.ErrRequestAborted
	// ErrConnClosed: the web server closed the connection.
	ErrConnClosed = stdfcgi.ErrConnClosed
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

	http    *http.Request // set at start
	handler http.Handler
	body    *body
	ctx     context.Context
	cancel  context.CancelCauseFunc

	writeDeadline deadline
	left          atomic.Bool // the handler has returned

	mu        sync.Mutex
	writeErr  error  // the first that a write returned: all later ones return it too
	appStatus uint32 // of END_REQUEST: not 0 after a panic
	ended     sync.Once

	onWire bool // END_REQUEST was not sent yet; owner: c.mu
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
	q.http = r.WithContext(gateway.NewContext(q.ctx, gateway.FromVars(gateway.FastCGI, vars)))
	return nil
}

// start runs h for the request, in a goroutine of net/http/fcgi. That gets a
// connection of its own, on which a request without a body has come as a whole, so
// that its reader ends at once and its 64 KiB of buffer can be collected; the real
// params and body come to h by q.http.
func (q *request) start(h http.Handler) {
	q.started = true
	q.handler = h
	if q.http == nil {
		q.http = (&http.Request{Method: http.MethodGet, Header: http.Header{}, Body: http.NoBody}).WithContext(q.ctx)
	}
	q.c.running.Add(1)
	err := stdfcgi.Serve(&oneConn{conn: &requestConn{Conn: q.c.nc, q: q, in: bytes.NewReader(prelude(q.id))}}, http.HandlerFunc(q.serve))
	if err != errOneConn {
		panic("fcgi: net/http/fcgi.Serve: " + err.Error()) // It can't be another.
	}
}

// prelude is what net/http/fcgi reads of a request.
func prelude(id uint16) []byte {
	params := appendPair(nil, "REQUEST_METHOD", "GET")
	params = appendPair(params, "SERVER_PROTOCOL", "HTTP/1.1")
	b := make([]byte, 0, 96)
	// Keep-alive: closing is this package's business.
	b = appendRecord(b, typeBeginRequest, id, []byte{0, roleResponder, flagKeepConn, 0, 0, 0, 0, 0})
	b = appendRecord(b, typeParams, id, params)
	b = appendRecord(b, typeParams, id, nil)
	return appendRecord(b, typeStdin, id, nil)
}

// serve is the http.Handler that net/http/fcgi runs.
func (q *request) serve(w http.ResponseWriter, _ *http.Request) {
	rw := &response{inner: w, q: q}
	returned := false
	defer func() {
		v := recover()
		switch {
		case returned:
		case v == nil:
			// runtime.Goexit: net/http/fcgi's goroutine ends with this one and writes no
			// END_REQUEST.
			q.c.log().Error("fcgi: the handler ended its goroutine", q.attrs()...)
			q.setAppStatus(1)
			q.leave()
			rw.finish(false)
			q.end()
			return
		case v == http.ErrAbortHandler:
			q.setAppStatus(1)
		default:
			q.c.log().Error("fcgi: panic in the handler", append(q.attrs(), "panic", v, "stack", string(debug.Stack()))...)
			q.setAppStatus(1)
		}
		q.leave()
		rw.finish(!returned)
	}()
	q.handler.ServeHTTP(rw, q.http)
	returned = true
}

// leave is the end of the handler: from here on nothing of the request may wait
// without bound.
func (q *request) leave() {
	q.left.Store(true)
	q.body.Close()
	q.body.deadline.set(time.Time{})
	if at, _ := q.writeDeadline.get(); at.IsZero() || time.Until(at) > finishTimeout {
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

func (q *request) setAppStatus(n uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.appStatus = n
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
	if !q.c.isOnWire(q) {
		return ErrRequestAborted
	}
	err := q.c.write(rec, &q.writeDeadline)
	if err == nil {
		return nil
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

// end sends END_REQUEST, once, and gives the request back to its connection.
func (q *request) end() {
	q.ended.Do(func() {
		defer q.c.running.Done()
		q.mu.Lock()
		status := q.appStatus
		q.mu.Unlock()
		q.c.endRequest(q, status, statusRequestComplete)
		q.setWriteDeadline(time.Time{}) // Its timer must not outlive it.
	})
}

// writeError is ErrWrite with its reason.
type writeError struct{ reason error }

func (e writeError) Error() string   { return ErrWrite.Error() + ": " + e.reason.Error() }
func (e writeError) Unwrap() []error { return []error{ErrWrite, e.reason} }

// requestConn is the connection that net/http/fcgi serves: it reads the prelude,
// and what it writes, record by record, goes out on the real one.
type requestConn struct {
	net.Conn
	q  *request
	in *bytes.Reader
}

func (rc *requestConn) Read(p []byte) (int, error) { return rc.in.Read(p) }

// Write gets one whole record in each call: net/http/fcgi's writeRecord.
func (rc *requestConn) Write(p []byte) (int, error) {
	if len(p) >= headerLen && p[1] == typeEndRequest {
		rc.q.end()
		return len(p), nil
	}
	if err := rc.q.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close does nothing: net/http/fcgi calls it after the prelude, while the request runs.
func (rc *requestConn) Close() error { return nil }

// oneConn is a listener of one connection.
type oneConn struct{ conn net.Conn }

var errOneConn = errors.New("fcgi: no more connections")

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, errOneConn
	}
	c := l.conn
	l.conn = nil
	return c, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return nil }
