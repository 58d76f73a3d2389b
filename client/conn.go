package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
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
type Conn struct {
	link   *flow.Link
	attach *flow.Attach
	body   *body
	codec  frame.Codec
	cancel context.CancelCauseFunc // of the request
	done   chan struct{}           // closed when the request is over
	opened chan struct{}           // closed when the server's open came

	mu   sync.Mutex
	path Path
	id   string
	max  int64 // largest message that the server takes; 0: not told
	fail error // why the request did not become a session, or ended in disorder
	down bool  // the response has ended in order
}

// Path is how a session runs.
type Path struct {
	Transport string // Single or Pulse
	Codec     string // "binary" or "json"
	Declared  int64  // Content-Length of the request; -1: chunked, or HTTP/2 without it
	Proto     string // "HTTP/1.1" or "HTTP/2.0"
	Server    string // the answer's Server header
}

// Body says how the length of the request was told, for people.
func (p Path) Body() string {
	if p.Declared < 0 {
		return "chunked"
	}
	return fmt.Sprintf("length %d", p.Declared)
}

// Transport is the session's transport, Single or Pulse.
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

// Ping measures a round trip to the server and back.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) { return c.link.Ping(ctx) }

// Close ends the session after what was sent has left (30 s without progress at
// most) and waits until the server has ended it, too (5 s at most). An error
// says that the server may not have heard of it; if the session was over
// already, how it had ended. The Conn is gone in any case.
func (c *Conn) Close(code frame.Code, reason string) error {
	before := c.link.Err()
	c.link.Finish(context.Background(), code, reason)
	<-c.done // terminated sees to it
	if before != nil && before.Code != frame.CodeNormal {
		return before
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.down {
		return fmt.Errorf("client: the server may not have got the close: %w", c.fail)
	}
	return nil
}

// CloseNow drops the session: what was not sent is lost, and the server finds
// the connection closed. It returns when nothing of the Conn is left.
func (c *Conn) CloseNow() {
	c.link.Lost("closed by CloseNow")
	c.cancel(errAbandoned)
	c.body.end()
	<-c.done
}

// terminated runs when the session is over, and sees the request off.
func (c *Conn) terminated(e *frame.CloseError) {
	select {
	case <-c.body.finished:
	case <-c.done:
		return
	}
	if e.Code == frame.CodeHeartbeat { // no transport to carry last words
		c.cancel(e)
		return
	}
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.done:
		return
	}
	c.cancel(fmt.Errorf("the server did not end its response within %v of the end", closeGrace))
}

// carry runs the request to its end: it feeds the link with the response.
func (c *Conn) carry(ctx context.Context, rt *http.Transport, req *http.Request) {
	err := c.exchange(ctx, rt, req)
	c.mu.Lock()
	if c.down = err == nil; c.down {
		err = errNoClose // where the link has not got it before
	} else if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if failure := c.body.failure(); failure != nil {
		err = failure // net/http only knows that it was told to stop
	}
	if c.fail == nil {
		c.fail = err
	}
	c.mu.Unlock()
	c.link.Lost("the transport was lost: " + err.Error())
	c.body.end()
	c.cancel(errAbandoned)
	rt.CloseIdleConnections()
	close(c.done)
}

// errNoClose: web servers show a program that crashed as a complete response, so
// only a close frame tells a normal end (docs/servers.md trap 5).
var errNoClose = errors.New("the response ended without a close frame: a web server or proxy has cut it, or the program's side died")

// exchange sends the request and reads the response to its end. A nil error
// says that it has ended in order, as HTTP sees it.
func (c *Conn) exchange(ctx context.Context, rt *http.Transport, req *http.Request) error {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got, ok := frame.ByMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || !ok || got != c.codec {
		slow := time.AfterFunc(closeGrace, func() { c.cancel(errors.New("the answer did not end")) })
		defer slow.Stop()
		err := notASession(req, resp, c.codec.MediaType())
		c.mu.Lock()
		c.fail = err
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	c.path.Proto = resp.Proto
	c.path.Server = resp.Header.Get("Server")
	c.mu.Unlock()
	err = c.attach.Feed(resp.Body, c.codec, c.control)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errNoClose
	}
	return err
}

// control takes the frames that are about the attach.
func (c *Conn) control(f *frame.Frame) error {
	switch f.Type {
	case frame.TypeOpen:
		c.mu.Lock()
		c.id = f.Session
		c.max = int64(f.MaxMessage)
		if f.Transport != "" {
			c.path.Transport = f.Transport // the server's word is binding
		}
		pulse := c.path.Transport == Pulse
		c.mu.Unlock()
		if pulse {
			c.body.pulse()
		}
		close(c.opened)
	case frame.TypeDetach:
		return frame.Errorf(frame.CodeHeartbeat, "the server ended this request (detach, %d %s): expected a session that lives as long as its request", uint16(f.Code), f.Code)
	}
	return nil
}
