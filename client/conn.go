package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"tandem/session/flow"
	"tandem/session/frame"
)

// closeGrace is how long a server may take to end its response after the last
// frames have left, before the connection is cut.
const closeGrace = 5 * time.Second

// A Conn is the client's end of a session.
//
// Receive may be called by one goroutine at a time; everything else is safe for
// concurrent use. Close or CloseNow must be called in the end, even after an
// error. Once the session is over every method returns the same
// *frame.CloseError, and what had been received before can still be received.
//
// Where the server grants a time for it, a lost transport does not end the
// session: the Conn resumes it over another request, and Receive and Send just
// wait meanwhile.
type Conn struct {
	link   *flow.Link
	dialer *dialer
	key    string                  // its Tandem-Open, if it may be opened once more
	cancel context.CancelCauseFunc // of all requests
	ctx    context.Context
	done   chan struct{}          // closed when nothing runs any more
	now    atomic.Pointer[attach] // what carries the session, or did last

	attempts atomic.Uint64          // the number of the last request that names the session
	closing  atomic.Bool            // our close frame was written
	ladder   atomic.Pointer[ladder] // nil until Dial has chosen a way

	mu        sync.Mutex
	path      Path
	id        string
	max       int64         // largest message that the server takes; 0: not told
	grace     time.Duration // how long the session can be resumed for; 0: it can't be
	heartbeat time.Duration // the server's
	overAt    time.Time     // when the session ended
	cut       time.Duration // a poll that waited so long was cut; 0: none was
}

// Path is how a session runs.
type Path struct {
	Transport string // Single, Split, Pulse or Poll
	Codec     string // "binary" or "json"
	Declared  int64  // Content-Length of the request that stays open; -1: chunked, or HTTP/2 without it; 0: none does
	Proto     string // "HTTP/1.1" or "HTTP/2.0"
	Server    string // the answer's Server header
}

// Body says how the bodies of requests are told, for people.
func (p Path) Body() string { return way{p.Transport, p.Declared}.body() }

// Transport is the session's transport at present: Single, Split, Pulse or Poll.
func (c *Conn) Transport() string { return c.Path().Transport }

// Path tells how the session runs.
func (c *Conn) Path() Path {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.path
}

// SessionID names the session at the server. Who knows it can act for this
// client: don't show it to others and don't log it whole.
func (c *Conn) SessionID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// Done is closed when the session is over.
func (c *Conn) Done() <-chan struct{} { return c.link.Done() }

// Err is why the session is over, a *frame.CloseError; nil while it runs.
func (c *Conn) Err() error {
	if e := c.link.Err(); e != nil {
		return e
	}
	return nil
}

// Receive returns the server's next message. A *frame.CloseError: the session is
// over, and the code says how it ended. io.EOF: the server will send no more,
// though it still receives. What came before the end is received first.
//
// The server may be a window ahead of Receive (Options.Window), no more.
func (c *Conn) Receive(ctx context.Context) (frame.Message, error) { return c.link.Receive(ctx) }

// Send sends a message; it copies m.Data. It blocks while the server's window is
// full. nil means that the message is on its way, not that it arrived.
//
// A message that the server can't take, because it is larger than its limit or
// text that is not UTF-8, is an error that leaves the session as it was. After
// ctx ended in the middle of a message larger than 16 KiB the session is over.
func (c *Conn) Send(ctx context.Context, m frame.Message) error {
	c.mu.Lock()
	most := c.max
	c.mu.Unlock()
	if most > 0 && int64(len(m.Data)) > most {
		return frame.Errorf(frame.CodeTooBig, "expected a message of at most %d bytes, which is the server's limit (max_message); got %d", most, len(m.Data))
	}
	if m.Text && !utf8.Valid(m.Data) {
		return frame.Errorf(frame.CodeBadUTF8, "expected text in UTF-8: send it as a binary message")
	}
	return c.link.Send(ctx, m)
}

// CloseSend says that nothing more will be sent: the server's end of input.
// Messages can still be received.
func (c *Conn) CloseSend() error { return c.link.CloseSend() }

// Ping measures a round trip to the server and back. One that is cut with its
// transport gets no answer: give ctx a deadline.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) { return c.link.Ping(ctx) }

// Unacked gives the messages that were sent and that the server has not acked, or
// had not when the session ended: it may have got them, or not. They are the last ones
// that were sent, in order.
func (c *Conn) Unacked() []frame.Message { return c.link.Unacked() }

// Close ends the session after what was sent has left (30 s without progress at
// most) and waits until the server has ended it, too (5 s at most). A session
// whose transport is lost is resumed for it, if that works within 5 s. An error
// says that the server may not have heard of it; if the session was over
// already, how it had ended. The Conn is gone in any case.
func (c *Conn) Close(code frame.Code, reason string) error {
	before := c.link.Err()
	c.link.Finish(context.Background(), code, reason)
	<-c.done // leave sees to it
	if before != nil && before.Code != frame.CodeNormal {
		return before
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.now.Load(); !last.down && !c.heard() {
		return fmt.Errorf("client: the server may not have got the close: %w", last.fail)
	}
	return nil
}

// heard tells whether the server has said that the session is over.
func (c *Conn) heard() bool {
	over := c.link.Err()
	return over != nil && over.Code != frame.CodeHeartbeat && isClosed(c.link.Delivered())
}

// CloseNow drops the session: what was not sent is lost. The server is told, if that
// works within 0.5 s; else it finds the connection closed, and keeps the session
// for its grace time. It returns when nothing of the Conn is left.
func (c *Conn) CloseNow() {
	leave := func() {
		c.link.Lost("closed by CloseNow")
		c.cancel(errAbandoned)
		c.now.Load().out.end()
	}
	if c.SessionID() == "" || c.link.Err() != nil {
		leave()
	} else {
		c.link.Fail(frame.Errorf(frame.CodeGoingAway, "closed by CloseNow"))
		defer time.AfterFunc(goodbye, leave).Stop()
	}
	<-c.done
}

// goodbye is how long CloseNow tries to tell the server.
const goodbye = 500 * time.Millisecond

// drop sees off a session that was only tried out: the server need not keep it. c may
// be nil.
func (c *Conn) drop() {
	if c == nil {
		return
	}
	if c.SessionID() == "" {
		c.CloseNow()
		return
	}
	c.link.Fail(frame.Errorf(frame.CodeGoingAway, "another way is better"))
	time.AfterFunc(dropTime, func() { c.cancel(errAbandoned) })
}

// dropTime is how long the goodbye of a session that was tried out may take.
const dropTime = time.Second
