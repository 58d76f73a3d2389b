package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// Dial opens a session at the endpoint rawURL, and returns once the session is
// open and the program told to start. o may be nil. ctx bounds the dialling, not the session.
//
// An answer that is not a session is an *HTTPError, and a server that does not
// let messages through both ways a *NoTransportError. A session that ends while
// it is opened is a *frame.CloseError.
func Dial(ctx context.Context, rawURL string, o *Options) (*Conn, error) {
	options, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &dialer{options: options}
	if d.url, err = parseURL(rawURL); err != nil {
		return nil, err
	}
	d.codec, _ = frame.ByName(options.Codec)
	if d.empty, err = d.codec.Append(nil, &frame.Frame{Type: frame.TypeEmpty}); err != nil {
		return nil, err
	}
	return d.dial(ctx)
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil && !strings.Contains(raw, "://") {
		return nil, usageErrorf("expected an address such as https://www.example.org/tandem, got %q", raw)
	}
	if err != nil {
		return nil, usageErrorf("%v", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageErrorf("expected an address such as https://www.example.org/tandem, got %q", u.Redacted())
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// dialer is one Dial.
type dialer struct {
	options  Options
	url      *url.URL
	codec    frame.Codec
	empty    []byte                 // the empty frame
	software atomic.Pointer[string] // the web server, once known
}

func (d *dialer) dial(ctx context.Context) (*Conn, error) {
	if d.options.Transport != "" {
		return d.force(ctx)
	}
	if c, err := d.recall(ctx); c != nil || err != nil {
		return c, err
	}
	known, err := d.describe(ctx)
	if err != nil {
		return nil, err
	}
	failed := &NoTransportError{URL: d.url.Redacted()}
	c, err := d.climb(ctx, known.ways(), failed)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, d.hint(ctx, failed)
	}
	w := c.now.Load().way
	l := newLadder(known, known.ways(), w)
	best := l.at == 0
	c.ladder.Store(l)
	c.remember(w, best)
	c.begin()
	return c, nil
}

// force opens a session on the transport that the options name. What is tried once
// more can't start the program twice. In single and pulse that is only done where the
// server refused the first request. In split and poll the opening is repeated until an
// answer comes: its key has the server know it again, and the program waits for a start
// frame, as a request that comes late may find its session over, and its key forgotten.
func (d *dialer) force(ctx context.Context) (*Conn, error) {
	s := opening{}
	var ways []way
	for _, w := range (advice{Transports: []string{d.options.Transport}}).ways() {
		switch {
		case w.Transport != d.options.Transport:
		case w.apart():
			s.key, s.hold = rand.Text(), true // at least 128 random bits
			ways = slices.Repeat([]way{w}, openTries)
		default:
			ways = append(append(ways, w), w.smaller()...)
		}
	}
	failed := &NoTransportError{URL: d.url.Redacted()}
	for i, w := range ways {
		if i > 0 && s.key == "" && w.Declared > 0 == (ways[i-1].Declared > 0) && !tooLarge(failed.Attempts[len(failed.Attempts)-1].Err) {
			continue // a smaller length is no better
		}
		s.ladder = newLadder(advice{}, []way{w}, w)
		c, err := d.open(ctx, w, s)
		if err == nil {
			if s.hold {
				c.begin()
			}
			return c, nil
		}
		if ctx.Err() != nil || !d.isTheWay(err) && !(s.key != "" && conflict(err)) {
			return nil, err
		}
		failed.Attempts = append(failed.Attempts, Attempt{w.Transport, w.body(), err, i})
		if s.attempt++; s.key == "" && !refusedByServer(err) {
			break
		}
	}
	return nil, d.hint(ctx, failed)
}

// conflict tells whether another request has been quicker: one of ours that seemed
// to be lost, or this one's double.
func conflict(err error) bool {
	var answer *HTTPError
	return errors.As(err, &answer) && answer.Status == http.StatusConflict
}

// openTries is how often a session that has a key is opened until an answer comes.
const openTries = 3

// hint completes the error of a Dial that found no way.
func (d *dialer) hint(ctx context.Context, failed *NoTransportError) error {
	if d.software.Load() == nil {
		d.describe(ctx) // for the hint alone; nothing may come of it
	}
	if name := d.software.Load(); name != nil {
		failed.Software = *name
	}
	failed.Hint = hint(failed.Software)
	return failed
}

// errHeldBack: the connection is up, and no session opens on it.
var errHeldBack = errors.New("no session opened in time")

// isTheWay tells whether err says something of the way that was tried, and not
// of the endpoint.
func (d *dialer) isTheWay(err error) bool {
	var answer *HTTPError
	if errors.As(err, &answer) {
		d.software.Store(&answer.Server)
		if d.options.Transport != "" && answer.Status == http.StatusNotImplemented && answer.Detail != "" {
			return false // the endpoint's own word, whichever way the transport is tried
		}
		switch answer.Status {
		case http.StatusLengthRequired, http.StatusRequestEntityTooLarge, http.StatusNotImplemented,
			http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	var over *frame.CloseError
	if errors.As(err, &over) {
		return over.Code == frame.CodeHeartbeat
	}
	// A connection that can't be made has nothing to do with transports; one that
	// breaks may have.
	var connect *connectError
	return !errors.As(err, &connect)
}

// connectError says that there was no connection on which to send a request.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

// refusedByServer tells whether err is the web server's own refusal, which came
// before the program was started.
func refusedByServer(err error) bool {
	var answer *HTTPError
	if errors.As(err, &answer) {
		switch answer.Status {
		case http.StatusLengthRequired, http.StatusRequestEntityTooLarge, http.StatusNotImplemented:
			return true
		}
	}
	return false
}

// opening is how a session is opened.
type opening struct {
	hold    bool   // its program waits for a start frame
	key     string // its Tandem-Open; empty: it is opened once only
	attempt uint64 // how often that was tried before
	ladder  *ladder
}

// open sends one request and waits until it is a session.
func (d *dialer) open(ctx context.Context, w way, s opening) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &Conn{
		dialer: d,
		key:    s.key,
		done:   make(chan struct{}),
		path:   Path{Codec: d.codec.Name()},
	}
	c.attempts.Store(s.attempt)
	c.ladder.Store(s.ladder)
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.link = flow.New(flow.Config{
		MaxMessage: d.options.MaxMessage,
		Window:     d.options.Window,
		Messages:   d.options.Messages,
		Heartbeat:  d.options.Heartbeat,
		Trace:      c.trace(d.options.Trace),
		Terminated: func(*frame.CloseError) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.overAt = time.Now()
		},
	})
	first := c.newAttach(w, true, s.hold)
	go c.run(first)
	if err := d.await(ctx, c, first); err != nil {
		c.drop()
		return nil, err
	}
	return c, nil
}

// trace calls the user's trace, and tells a pulsing body of messages.
func (c *Conn) trace(user func(bool, *frame.Frame)) func(bool, *frame.Frame) {
	return func(sent bool, f *frame.Frame) {
		if s := c.now.Load().aside; s != nil {
			s.trace(sent, f)
		}
		switch f.Type {
		case frame.TypeMessage:
			if b := c.now.Load().body; b != nil {
				b.message(sent)
			}
		case frame.TypeClose:
			if sent {
				c.closing.Store(true)
			}
		}
		if user != nil {
			user(sent, f)
		}
	}
}

// await waits until c's session is open.
func (d *dialer) await(ctx context.Context, c *Conn, first *attach) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	select { // connecting has time-outs of its own
	case <-first.begun:
	case <-c.done:
		if !isClosed(first.begun) {
			return &connectError{c.refused(first)}
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	late := time.AfterFunc(d.options.OpenTimeout, func() {
		cancel(fmt.Errorf("%w (%v)", errHeldBack, d.options.OpenTimeout))
	})
	defer late.Stop()
	select {
	case <-first.opened:
		return nil
	case <-c.link.Done():
		if isClosed(first.opened) {
			return nil // and over already, which who receives learns
		}
		return c.refused(first)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// proveBoth waits until a ping has been answered: then messages pass both ways
// while the requests are open.
func (c *Conn) proveBoth(ctx context.Context) error {
	most := c.dialer.options.OpenTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("%w (%v)", errHeldBack, most))
	defer cancel()
	if _, err := c.link.Ping(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// begin has the program of a session that was held start.
func (c *Conn) begin() {
	c.outlive() // not before: what is only tried out is not resumed
	c.link.Start()
}

// refused is why the session is over before Dial is done. nil: it was open, its
// program runs, and what came can be received.
func (c *Conn) refused(first *attach) error {
	over := c.link.Err()
	if over.Code != frame.CodeHeartbeat {
		return over
	}
	<-c.done // soon: terminated doesn't wait for a lost transport
	select {
	case <-first.opened:
		if first.hold {
			return over
		}
		return nil
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var answer *HTTPError
	if errors.As(first.fail, &answer) {
		return answer
	}
	return fmt.Errorf("client: no session: %w", first.fail)
}

// request makes a request without a body.
func (d *dialer) request(ctx context.Context, method, accept string) *http.Request {
	u := *d.url
	u.User = nil
	req := (&http.Request{Method: method, URL: &u, Host: u.Host, Header: d.options.Header.Clone()}).WithContext(ctx)
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	if d.url.User != nil && req.Header.Get("Authorization") == "" {
		password, _ := d.url.User.Password()
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(d.url.User.Username()+":"+password)))
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "tandem")
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", "identity") // a compressor holds messages back
	return req
}
