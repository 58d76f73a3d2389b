package client

import (
	"errors"
	"io"
	"net/http"

	"tandem/session/frame"
)

// both has one request carry both ways: its body stays open (single, pulse).
func (a *attach) both() {
	c := a.conn
	a.body = newBody(a.way.Declared, c.dialer.empty, a.up)
	a.out = a.body
	if a.way.Transport == Single {
		a.aside = newAside(a, a.body)
		a.out = a.aside
	}
	req := a.request(http.MethodPost)
	req.Body, req.ContentLength = a.body, a.way.Declared
	req.Header.Set("Incremental", "?1")
	if a.way.Transport == Pulse {
		a.body.pulse()
	}
	a.run = func() error {
		// A connection carries one such request: at a session's end it can't be used
		// again, and at its beginning a connection that the server is just closing
		// would cost a request that can't be repeated.
		rt := c.dialer.options.roundTripper(false)
		defer rt.CloseIdleConnections()
		resp, err := a.exchange(rt, req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if a.aside != nil {
			a.aside.answered(resp)
			defer a.aside.wait()
		}
		err = a.flow.Feed(resp.Body, c.dialer.codec, a.control)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return a.ended()
		}
		return err
	}
}

// ended says why a response has come to its end while the session goes on.
func (a *attach) ended() error {
	a.conn.mu.Lock()
	defer a.conn.mu.Unlock()
	if a.detached {
		return errDetached
	}
	return errNoClose
}

// exchange sends a request whose response carries the session.
func (a *attach) exchange(rt *http.Transport, req *http.Request) (*http.Response, error) {
	c, codec := a.conn, a.conn.dialer.codec
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if got, ok := frame.ByMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || !ok || got != codec {
		defer resp.Body.Close()
		err := a.refused(req, resp)
		c.mu.Lock()
		a.fail = err
		c.mu.Unlock()
		return nil, err
	}
	c.mu.Lock()
	c.path.Proto = resp.Proto
	c.path.Server = resp.Header.Get("Server")
	c.mu.Unlock()
	return resp, nil
}
