package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// An attach is what carries the session, or is to: one request both ways (single,
// pulse), or one that receives and others that send beside it (split, poll).
type attach struct {
	conn   *Conn
	way    way
	first  bool // it opens the session, with no name yet
	hold   bool // the program waits for a start frame
	ctx    context.Context
	cancel context.CancelCauseFunc
	flow   *flow.Attach
	body   *body  // of the one request; nil in split and poll
	aside  *aside // of single: requests beside it
	out    outlet
	run    func() error // sends the requests, and reads to the session's end on it

	begun    chan struct{} // closed when there is a connection
	beginOne sync.Once
	opened   chan struct{} // closed when the server's open came
	openOne  sync.Once

	works atomic.Bool // messages pass both ways

	// Guarded by the Conn's mu.
	since    time.Time     // when it was opened; zero: it never was
	fail     error         // why it did not carry the session, or ended in disorder
	down     bool          // the server knows of the session's end
	told     time.Duration // the grace in its open
	detached bool          // the server ended it in order: the session goes on
	retry    time.Duration // it asked to wait so long
}

// An outlet is where the link of an attach writes.
type outlet interface {
	flow.Carrier
	end()           // has it carry no more
	failure() error // why it could not go on, nil if that was not its own doing
}

// newAttach makes what carries the session from now on, and attaches the link to
// it. carry sends its requests.
func (c *Conn) newAttach(w way, first, hold bool) *attach {
	c.mu.Lock()
	c.path.Transport, c.path.Declared = w.Transport, w.Declared
	c.mu.Unlock()
	d := c.dialer
	a := &attach{conn: c, way: w, first: first, hold: hold, begun: make(chan struct{}), opened: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(c.ctx)
	open := &frame.Frame{
		Type:       frame.TypeOpen,
		Version:    frame.Version,
		Transport:  w.Transport,
		Heartbeat:  uint64(d.options.Heartbeat / time.Millisecond),
		Window:     d.options.Window,
		Messages:   d.options.Messages,
		MaxMessage: uint64(d.options.MaxMessage),
		Hold:       hold,
	}
	switch {
	case w.apart():
		a.apart()
	default:
		a.both()
	}
	begin := c.link.Resume
	if first {
		begin = c.link.Attach
	}
	c.now.Store(a)
	a.flow = begin(a.out, d.codec, flow.Streaming, open)
	return a
}

// carry runs the attach to its end: it feeds the link with what the server sends.
func (a *attach) carry() {
	c := a.conn
	defer context.AfterFunc(a.ctx, a.out.end)() // net/http may wait for a Read of a body
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.leave()
	}()
	err := a.run()
	c.mu.Lock()
	if err == nil {
		a.down = true
		err = errNoClose // where the link has not got it before
	} else if cause := context.Cause(a.ctx); cause != nil {
		err = cause
	} else if failure := a.out.failure(); failure != nil {
		err = failure // net/http only knows that it was told to stop
	}
	if a.fail == nil {
		a.fail = err
	}
	c.mu.Unlock()
	a.flow.Lost("the transport was lost: " + err.Error())
	a.out.end()
	a.cancel(errAbandoned)
	<-left
}

// errGivenUp has an attach end that the link does not use any more.
var errGivenUp = errors.New("nothing came for 2.5 of the server's heartbeats")

// leave ends an attach on which the link writes no more: it has lost the server,
// by its silence for one, or the session is over and has had its last words.
func (a *attach) leave() {
	select {
	case <-a.flow.Finished():
	case <-a.ctx.Done():
		return
	}
	link := a.conn.link
	cause := a.out.failure()
	if link.Err() == nil {
		var answer *HTTPError
		if a.conn.resumable() == 0 || errors.As(cause, &answer) {
			// What the server said last, why it gave this answer perhaps, may be
			// on its way.
			late := time.NewTimer(lastWords)
			defer late.Stop()
			select {
			case <-late.C:
			case <-link.Done():
			case <-a.ctx.Done():
				return
			}
		}
		if link.Err() == nil || link.Err().Code == frame.CodeHeartbeat {
			if cause == nil {
				cause = errGivenUp
			}
			a.cancel(cause)
			return
		}
	}
	if link.Err().Code == frame.CodeHeartbeat { // no transport to carry last words
		a.cancel(link.Err())
		return
	}
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-timer.C:
		a.cancel(errNotEnded)
	case <-a.ctx.Done():
	}
}

var errNotEnded = fmt.Errorf("the server did not end its response within %v of the end", closeGrace)

// lastWords is how long after a failed write the server's may take to come.
const lastWords = 600 * time.Millisecond

// errNoClose: web servers show a program that crashed as a complete response, so
// only a close frame tells a normal end (docs/servers.md trap 5).
var errNoClose = errors.New("the response ended without a close frame: a web server or proxy has cut it, or the program's side died")

// errDetached: the server has ended the attach in order, and the session goes on.
var errDetached = errors.New("the server asked for another request")

// up tells that there is a connection.
func (a *attach) up() { a.beginOne.Do(func() { close(a.begun) }) }

// control takes the frames that are about the attach.
func (a *attach) control(f *frame.Frame) error {
	switch f.Type {
	case frame.TypeOpen:
		return a.nowOpen(f)
	case frame.TypeDetach:
		if f.Code != frame.CodeNormal {
			return frame.Errorf(frame.CodeHeartbeat, "the server gave the session to another request (detach, %d %s)", uint16(f.Code), f.Code)
		}
		c := a.conn
		c.mu.Lock()
		defer c.mu.Unlock()
		a.detached, a.retry = true, time.Duration(min(f.RetryMS, maxRetry))*time.Millisecond
	}
	return nil
}

// maxRetry is what is believed of a server's retry_ms.
const maxRetry = 60_000

// nowOpen takes the server's open.
func (a *attach) nowOpen(f *frame.Frame) error {
	c := a.conn
	c.mu.Lock()
	if c.id != "" && c.id != f.Session {
		c.mu.Unlock()
		err := fmt.Errorf("expected the session to be resumed, got another one: a proxy may have dropped the header Tandem-Session")
		a.cancel(err) // that session is nobody's
		return frame.Errorf(frame.CodeProtocol, "%v", err)
	}
	c.id = f.Session
	c.max = int64(f.MaxMessage)
	if f.Transport != "" && !a.way.apart() {
		c.path.Transport = f.Transport // the server's word is binding
	}
	pulse := c.path.Transport == Pulse
	if a.since.IsZero() {
		a.since = time.Now()
	}
	a.told = granted(f.Grace)
	c.heartbeat = time.Duration(f.Heartbeat) * time.Millisecond
	c.mu.Unlock()
	if pulse && a.body != nil {
		a.body.pulse()
	}
	if !a.hold {
		c.outlive()
	}
	a.openOne.Do(func() {
		close(a.opened)
		if !a.first {
			c.notify(Resumed, nil)
		}
	})
	return nil
}
