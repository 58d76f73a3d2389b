package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"tandem/session/flow"
	"tandem/session/frame"
)

// An upload is the send half as one request whose body stays open, where the
// endpoint welcomes that.
type upload struct {
	*body
	attach  *attach
	opening chan<- []byte // takes the first Write, where the attach opens a session
	begin   sync.Once
	runs    sync.WaitGroup

	mu   sync.Mutex
	fail error
	told bool
}

func newUpload(a *attach, opening chan<- []byte) *upload {
	u := &upload{body: newBody(a.way.Declared, a.conn.dialer.empty, func() {}), attach: a, opening: opening}
	if !a.first {
		u.opening = nil
	}
	return u
}

// Write hands p to the request, which it makes the first time.
func (u *upload) Write(p []byte) (int, error) {
	if u.opening != nil {
		u.opening <- bytes.Clone(p) // has room for the one
		u.opening = nil
		return len(p), nil
	}
	select {
	case <-u.attach.opened: // now the session has a name
	case <-u.ended:
		return 0, errAbandoned
	}
	u.begin.Do(func() { u.runs.Go(u.run) })
	return u.body.Write(p)
}

// run makes the request. Its answer comes when the session is over; before that
// the transport is lost by it.
func (u *upload) run() {
	a := u.attach
	req := a.request(http.MethodPost)
	req.Header.Set("Incremental", "?1")
	req.Body, req.ContentLength = u.body, u.length
	rt := u.roundTripper()
	defer rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		codec := a.conn.dialer.codec
		if got, ok := frame.ByMediaType(resp.Header.Get("Content-Type")); ok && got == codec && resp.StatusCode == http.StatusOK {
			a.conn.link.Batch(codec, func(*frame.Frame) error { return nil }).Feed(io.LimitReader(resp.Body, maxProblem))
			err = errUploadEnded
		} else {
			err = a.refused(req, resp)
		}
	}
	u.mu.Lock()
	if u.fail == nil {
		u.fail = err
	}
	u.told = err == errUploadEnded && isClosed(u.finished) && a.conn.closing.Load()
	u.mu.Unlock()
	if a.conn.link.Err() == nil {
		u.end()
		a.cancel(u.failure())
	}
}

// roundTripper is for the one request. On HTTP/1 net/http tells of a connection that was
// closed before the answer only when the body's Read has returned, and that waits for
// something to send: so the connection tells the body.
func (u *upload) roundTripper() *http.Transport {
	options := u.attach.conn.dialer.options
	dial := options.DialContext
	options.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &watched{conn, u.lost}, nil
	}
	return options.roundTripper(false)
}

// lost takes in that the connection is closed.
func (u *upload) lost(err error) {
	u.mu.Lock()
	if u.fail == nil {
		u.fail = fmt.Errorf("the connection of the request that sends was closed: %w", err)
	}
	u.mu.Unlock()
	u.end()
}

// watched is a connection that tells when nothing more can be read from it.
type watched struct {
	net.Conn
	lost func(error)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.lost(err)
	}
	return n, err
}

var errUploadEnded = errors.New("the request that sends was answered before the session's end")

func (u *upload) failure() error {
	if err := u.body.failure(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fail
}

func (u *upload) heard() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.told
}

func (u *upload) wait() {
	u.end()
	u.begin.Do(func() {})
	u.runs.Wait()
}

var (
	_ flow.Carrier = (*upload)(nil)
	_ sender       = (*upload)(nil)
)
