package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// A request is one HTTP request that carries the session, or is to.
type request struct {
	conn   *Conn
	http   *http.Request
	ctx    context.Context // of http
	cancel context.CancelCauseFunc
	body   *body
	attach *flow.Attach
	hold   bool // the program waits for a start frame

	opened chan struct{} // closed when the server's open came
	open   sync.Once

	// Guarded by the Conn's mu.
	since time.Time     // when it was opened; zero: it never was
	fail  error         // why it did not become a session, or ended in disorder
	down  bool          // the response has ended in order
	told  time.Duration // the grace in its open
}

// newRequest makes the session's request number attempt, from 0, and attaches
// the link to it. carry sends it.
func (c *Conn) newRequest(attempt uint64, hold bool) *request {
	path, id := c.Path(), c.SessionID()
	d := c.dialer
	r := &request{conn: c, hold: hold, body: newBody(path.Declared, d.empty), opened: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(c.ctx)
	r.http = d.request(r.ctx, http.MethodPost, d.codec.MediaType())
	r.http.Body, r.http.ContentLength = r.body, path.Declared
	r.http.Header.Set("Content-Type", d.codec.MediaType())
	r.http.Header.Set("Incremental", "?1")
	r.http.Header.Set("Tandem-Transport", path.Transport)
	if path.Transport == Pulse {
		r.body.pulse()
	}
	open := &frame.Frame{
		Type:       frame.TypeOpen,
		Version:    frame.Version,
		Transport:  path.Transport,
		Heartbeat:  uint64(d.options.Heartbeat / time.Millisecond),
		Window:     d.options.Window,
		Messages:   d.options.Messages,
		MaxMessage: uint64(d.options.MaxMessage),
		Hold:       hold,
	}
	begin := c.link.Attach
	if attempt > 0 {
		r.http.Header.Set("Tandem-Session", id)
		r.http.Header.Set("Tandem-Attempt", strconv.FormatUint(attempt, 10))
		begin = c.link.Resume
	}
	c.now.Store(r)
	r.attach = begin(r.body, d.codec, flow.Streaming, open)
	return r
}

// carry runs the request to its end: it feeds the link with the response.
func (r *request) carry() {
	c := r.conn
	rt := c.dialer.options.roundTripper()
	defer context.AfterFunc(r.ctx, r.body.end)() // net/http may wait for a Read of it
	left := make(chan struct{})
	go func() {
		defer close(left)
		r.leave()
	}()
	err := r.exchange(rt)
	c.mu.Lock()
	if r.down = err == nil; r.down {
		err = errNoClose // where the link has not got it before
	} else if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	} else if failure := r.body.failure(); failure != nil {
		err = failure // net/http only knows that it was told to stop
	}
	if r.fail == nil {
		r.fail = err
	}
	c.mu.Unlock()
	r.attach.Lost("the transport was lost: " + err.Error())
	r.body.end()
	r.cancel(errAbandoned)
	rt.CloseIdleConnections()
	<-left
}

// errGivenUp has a request end that the link does not use any more.
var errGivenUp = errors.New("the request was given up")

// leave ends a request on which the link has lost the server, by its silence
// for one, while the session waits to be resumed.
func (r *request) leave() {
	select {
	case <-r.attach.Finished():
	case <-r.ctx.Done():
		return
	}
	if c := r.conn; c.link.Err() == nil && c.resumable() > 0 {
		cause := r.body.failure()
		if cause == nil {
			cause = errGivenUp
		}
		r.cancel(cause)
	}
}

// errNoClose: web servers show a program that crashed as a complete response, so
// only a close frame tells a normal end (docs/servers.md trap 5).
var errNoClose = errors.New("the response ended without a close frame: a web server or proxy has cut it, or the program's side died")

// exchange sends the request and reads the response to its end. A nil error
// says that it has ended in order, as HTTP sees it.
func (r *request) exchange(rt *http.Transport) error {
	c, codec := r.conn, r.conn.dialer.codec
	resp, err := rt.RoundTrip(r.http)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got, ok := frame.ByMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || !ok || got != codec {
		slow := time.AfterFunc(closeGrace, func() { r.cancel(errors.New("the answer did not end")) })
		defer slow.Stop()
		err := notASession(r.http, resp, codec.MediaType())
		c.mu.Lock()
		r.fail = err
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	c.path.Proto = resp.Proto
	c.path.Server = resp.Header.Get("Server")
	c.mu.Unlock()
	err = r.attach.Feed(resp.Body, codec, r.control)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errNoClose
	}
	return err
}

// control takes the frames that are about the attach.
func (r *request) control(f *frame.Frame) error {
	switch f.Type {
	case frame.TypeOpen:
		return r.nowOpen(f)
	case frame.TypeDetach:
		return frame.Errorf(frame.CodeHeartbeat, "the server gave the session to another request (detach, %d %s)", uint16(f.Code), f.Code)
	}
	return nil
}

// nowOpen takes the server's open.
func (r *request) nowOpen(f *frame.Frame) error {
	c := r.conn
	c.mu.Lock()
	if c.id != "" && c.id != f.Session {
		c.mu.Unlock()
		err := fmt.Errorf("expected the session to be resumed, got another one: a proxy may have dropped the header Tandem-Session")
		r.cancel(err) // that session is nobody's
		return frame.Errorf(frame.CodeProtocol, "%v", err)
	}
	c.id = f.Session
	c.max = int64(f.MaxMessage)
	if f.Transport != "" {
		c.path.Transport = f.Transport // the server's word is binding
	}
	pulse := c.path.Transport == Pulse
	r.since = time.Now()
	r.told = granted(f.Grace)
	c.mu.Unlock()
	if pulse {
		r.body.pulse()
	}
	if !r.hold {
		c.outlive()
	}
	r.open.Do(func() { close(r.opened) })
	return nil
}
