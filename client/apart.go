package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"
)

// In split and poll the halves travel in requests of their own: a GET receives,
// POSTs send beside it (docs/protocol.md section 5). The POST that opens the
// session does both: its response is the first that is received.

// How long a poll waits at the server for something to say: in whole seconds, less
// where something on the way has cut one that waited longer.
const (
	pollMost  = 20 * time.Second
	pollLeast = time.Second
)

// answerTimeout is how long an answer may take that has nothing to wait for.
const answerTimeout = 15 * time.Second

// apart has the halves travel in requests of their own.
func (a *attach) apart() {
	c := a.conn
	rt := c.dialer.options.roundTripper(true)
	v := &receiver{attach: a, rt: rt, opening: make(chan []byte, 1)}
	var send sender
	if a.way.Declared == 0 {
		send = newPoster(a, rt, v.opening)
	} else {
		send = newUpload(a, v.opening)
	}
	a.out = send
	a.run = func() error {
		defer rt.CloseIdleConnections()
		defer send.wait()
		defer v.close()
		link := c.link
		err := a.flow.Feed(v, c.dialer.codec, a.control)
		if link.Err() != nil { // our close may still be on its way
			late := time.NewTimer(closeGrace)
			defer late.Stop()
			select {
			case <-a.flow.Finished():
			case <-late.C:
			case <-a.ctx.Done():
			}
		}
		switch {
		case send.heard() || err == nil && isClosed(link.Delivered()):
			return nil
		case err == nil || errors.Is(err, io.ErrUnexpectedEOF):
			return a.ended()
		}
		return err
	}
}

// A sender is the outlet of split and poll.
type sender interface {
	outlet
	heard() bool // the server has our close
	wait()       // returns when nothing of it runs; after the attach's ctx is done
}

// request makes one of the attach's requests: with the session's name once it has
// one.
func (a *attach) request(method string) *http.Request {
	c := a.conn
	media := c.dialer.codec.MediaType()
	ctx := httptrace.WithClientTrace(a.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.up() }})
	if a.body != nil {
		ctx = a.ctx // its body tells
	}
	req := c.dialer.request(ctx, method, media)
	h := req.Header
	if method == http.MethodPost {
		h.Set("Content-Type", media)
	}
	h.Set("Tandem-Transport", a.way.Transport)
	attempt := c.attempts.Load()
	if id := c.SessionID(); id != "" {
		h.Set("Tandem-Session", id)
		attempt = c.attempts.Add(1)
	} else if c.key != "" {
		h.Set("Tandem-Open", c.key)
	}
	if attempt > 0 {
		h.Set("Tandem-Attempt", strconv.FormatUint(attempt, 10))
	}
	return req
}

// setBody gives req a finite body, which must not change any more.
func setBody(req *http.Request, b []byte) {
	req.ContentLength = int64(len(b))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	req.Body, _ = req.GetBody()
}

// refused makes an error of an answer that does not carry the session, within a
// bounded time.
func (a *attach) refused(req *http.Request, resp *http.Response) *HTTPError {
	slow := time.AfterFunc(closeGrace, func() { a.cancel(errors.New("the answer did not end")) })
	defer slow.Stop()
	return notASession(req, resp, a.conn.dialer.codec.MediaType())
}

// A receiver is the receive half: the responses, one after the other, are one
// body to the link.
type receiver struct {
	attach  *attach
	rt      *http.Transport
	opening chan []byte // the open frame, for the POST that opens the session
	body    io.ReadCloser
	asked   time.Time
	asks    int
	late    *time.Timer // ends what takes too long
}

func (v *receiver) Read(p []byte) (int, error) {
	for {
		if v.body == nil {
			if err := v.ask(); err != nil {
				return 0, err
			}
		}
		n, err := v.body.Read(p)
		if n > 0 || err == nil {
			return n, nil // an error comes again
		}
		v.close()
		again, waited := v.again(), time.Since(v.asked)
		if err == io.EOF && again {
			if a := v.attach; a.way.Transport == Poll && a.conn.upDue() {
				return 0, errUp
			}
			continue
		}
		if poll := v.attach.way.Transport == Poll; poll && waited > pollLeast {
			v.attach.conn.cutAfter(waited)
		}
		return 0, err
	}
}

func (v *receiver) close() {
	if v.late != nil {
		v.late.Stop()
	}
	if v.body != nil {
		v.body.Close()
		v.body = nil
	}
}

// again tells whether another response is to follow the one that has ended.
func (v *receiver) again() bool {
	a, link := v.attach, v.attach.conn.link
	a.conn.mu.Lock()
	detached := a.detached
	a.conn.mu.Unlock()
	switch {
	case !detached:
		return false
	case link.Err() == nil:
		return true
	}
	return !isClosed(link.Delivered()) && !isClosed(a.flow.Finished())
}

// ask makes the next request.
func (v *receiver) ask() error {
	a, c := v.attach, v.attach.conn
	v.asks++
	var req *http.Request
	limit := answerTimeout
	if a.first && v.asks == 1 {
		select {
		case open := <-v.opening:
			req = a.request(http.MethodPost)
			setBody(req, open)
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
	} else {
		if err := v.pause(); err != nil {
			return err
		}
		req = a.request(http.MethodGet)
		req.Header.Set("Tandem-After", strconv.FormatUint(c.link.AckFrame().Received, 10))
		if a.way.Transport == Poll {
			wait := c.pollWait()
			if v.asks == 1 {
				wait = 0 // the answer tells that the session goes on
			}
			limit += wait
			req.Header.Set("Prefer", fmt.Sprintf("wait=%d", wait/time.Second))
		}
	}
	v.asked = time.Now()
	v.late = time.AfterFunc(limit, func() { a.cancel(fmt.Errorf("%s %s: no answer in %v", req.Method, req.URL.Redacted(), limit)) })
	resp, err := a.exchange(v.rt, req)
	if err != nil {
		v.late.Stop()
		return err
	}
	if a.way.Transport == Split {
		v.late.Stop()
	}
	v.body = resp.Body
	return nil
}

// pause is what has to pass between two requests: what the server asked for, and a
// slow reader's time, because what is not taken yet is not acked, and would come
// once more. Not for long: who does not ask seems to have gone.
func (v *receiver) pause() error {
	a, c := v.attach, v.attach.conn
	c.mu.Lock()
	retry := a.retry
	a.detached, a.retry = false, 0
	c.mu.Unlock()
	if retry > 0 {
		timer := time.NewTimer(retry)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-a.ctx.Done():
		}
	}
	if v.asks > 1 {
		ctx, cancel := context.WithTimeout(a.ctx, min(slowReader, c.resumable()/4))
		c.link.Taken(ctx)
		cancel()
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return nil
}

// slowReader is how long a poll waits for Receive to be called.
const slowReader = 5 * time.Second

// pollWait is how long the next poll waits at the server. It is not longer than
// the server's heartbeat: a silence beyond 2.5 of these is a lost transport.
func (c *Conn) pollWait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := pollMost
	if c.heartbeat > 0 {
		wait = min(wait, c.heartbeat)
	}
	if c.cut > 0 {
		wait = min(wait, c.cut*3/4)
	}
	return max(pollLeast, wait.Truncate(time.Second))
}

// cutAfter takes in that a poll was cut when it had waited so long.
func (c *Conn) cutAfter(waited time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut == 0 || waited < c.cut {
		c.cut = waited
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
