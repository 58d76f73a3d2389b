package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// lengths are the declared lengths to try: each far beyond what will be sent,
// for servers and proxies that pass a body on only if they know its length, and
// smaller ones for those that hold the value against a limit (413).
var lengths = []int64{1 << 40, 1 << 30, 1 << 20}

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
	d := dialer{options: options}
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
	empty    []byte // the empty frame
	software string // the web server, once known
}

// A rung is a way to open a session.
type rung struct {
	transport string
	chunked   bool // else the length is declared
}

// rungs are the ways to try, best first, for transports that are. Single begins
// with a declared length, which more servers and proxies pass on (docs/servers.md);
// pulse with chunks, each of which has Apache hand on a record.
func rungs(transports []string) (r []rung) {
	for _, t := range transports {
		switch t {
		case Single:
			r = append(r, rung{Single, false}, rung{Single, true})
		case Pulse:
			r = append(r, rung{Pulse, true}, rung{Pulse, false})
		}
	}
	return r
}

func (d *dialer) dial(ctx context.Context) (*Conn, error) {
	transports := []string{d.options.Transport}
	if d.options.Transport == "" {
		known, err := d.describe(ctx)
		if err != nil {
			return nil, err
		}
		if transports = []string{Single, Pulse}; known != nil {
			transports = known
		}
	}
	failed := &NoTransportError{URL: d.url.Redacted()}
	for _, r := range rungs(transports) {
		c, err := d.climb(ctx, r, failed)
		if c != nil || err != nil {
			return c, err
		}
		if last := len(failed.Attempts) - 1; d.started(failed.Attempts[last].Err) {
			break
		}
	}
	if d.software == "" {
		d.describe(ctx) // for the hint alone; nothing may come of it
	}
	failed.Software = d.software
	failed.Hint = hint(d.software)
	return nil, failed
}

// climb tries one way. Neither a Conn nor an error: it does not work, failed
// holds what was wrong with it.
func (d *dialer) climb(ctx context.Context, r rung, failed *NoTransportError) (*Conn, error) {
	tries := lengths
	if r.chunked {
		tries = []int64{-1}
	}
	for _, length := range tries {
		c, err := d.open(ctx, r.transport, length)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil || !d.isTheWay(err) {
			return nil, err
		}
		failed.Attempts = append(failed.Attempts, Attempt{r.transport, Path{Declared: length}.Body(), err})
		var answer *HTTPError
		if !errors.As(err, &answer) || answer.Status != http.StatusRequestEntityTooLarge {
			break // a smaller length is no better
		}
	}
	return nil, nil
}

// errHeldBack: the connection is up, and no session opens on it.
var errHeldBack = errors.New("no session opened in time")

// isTheWay tells whether err says something of the way that was tried, and not
// of the endpoint.
func (d *dialer) isTheWay(err error) bool {
	var answer *HTTPError
	if errors.As(err, &answer) {
		d.software = answer.Server
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

// started tells whether an attempt that failed with err may have started the
// program, so that another one could start it twice.
func (d *dialer) started(err error) bool {
	if d.options.Transport == "" {
		return false // each attempt holds it
	}
	var answer *HTTPError
	if errors.As(err, &answer) {
		switch answer.Status {
		case http.StatusLengthRequired, http.StatusRequestEntityTooLarge, http.StatusNotImplemented:
			return false // the web server's own refusals
		}
	}
	return true
}

// open sends one request and waits until it is a session.
func (d *dialer) open(ctx context.Context, transport string, length int64) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	hold := d.options.Transport == ""
	c := &Conn{
		dialer: d,
		done:   make(chan struct{}),
		path:   Path{Transport: transport, Codec: d.codec.Name(), Declared: length},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.link = flow.New(flow.Config{
		MaxMessage: d.options.MaxMessage,
		Window:     d.options.Window,
		Messages:   d.options.Messages,
		Heartbeat:  d.options.Heartbeat,
		Trace:      c.trace(d.options.Trace),
		Terminated: c.terminated,
	})
	first := c.newRequest(0, hold)
	go c.run(first)

	if err := d.await(ctx, c, first); err != nil {
		c.CloseNow()
		return nil, err
	}
	return c, nil
}

// trace calls the user's trace, and tells a pulsing body of messages.
func (c *Conn) trace(user func(bool, *frame.Frame)) func(bool, *frame.Frame) {
	return func(sent bool, f *frame.Frame) {
		if f.Type == frame.TypeMessage {
			c.now.Load().body.message(sent)
		}
		if user != nil {
			user(sent, f)
		}
	}
}

// await waits until c's session is open and, where it holds the program, that
// both directions stream: the pong answers a ping that came while the body was
// open. Then the program is started.
func (d *dialer) await(ctx context.Context, c *Conn, first *request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	select { // connecting has time-outs of its own
	case <-first.body.begun:
	case <-c.done:
		select {
		case <-first.body.begun:
		default:
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
	case <-c.link.Done():
		return c.refused(first)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !first.hold {
		return nil
	}
	if _, err := c.link.Ping(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	c.outlive() // not before: what is only tried out is not resumed
	c.link.Start()
	return nil
}

// refused is why the session is over before Dial is done. nil: it was open, its
// program runs, and what came can be received.
func (c *Conn) refused(first *request) error {
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

// supported keeps the transports that this client has.
func supported(transports []string) []string {
	return slices.DeleteFunc(slices.Clone(transports), func(t string) bool {
		t = strings.TrimSpace(t)
		return t != Single && t != Pulse
	})
}
