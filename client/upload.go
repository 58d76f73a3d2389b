package client

import (
	"bytes"
	"errors"
	"io"
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
	rt      *http.Transport
	opening chan<- []byte // takes the first Write, where the attach opens a session
	begin   sync.Once
	runs    sync.WaitGroup

	mu   sync.Mutex
	fail error
	told bool
}

func newUpload(a *attach, rt *http.Transport, opening chan<- []byte) *upload {
	u := &upload{body: newBody(a.way.Declared, a.conn.dialer.empty, func() {}), attach: a, rt: rt, opening: opening}
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
	resp, err := u.rt.RoundTrip(req)
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
	u.fail = err
	u.told = err == errUploadEnded && isClosed(u.finished) && a.conn.closing.Load()
	u.mu.Unlock()
	if a.conn.link.Err() == nil {
		u.end()
		a.cancel(err)
	}
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
