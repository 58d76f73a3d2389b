package client

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// How often a POST is made before the transport counts as lost, and how long the
// pause after the first failure is at most; it doubles. The frames are the same each
// time: the server drops what it has already.
const (
	postTries = 3
	postPause = 50 * time.Millisecond
)

// A poster is the send half as finite requests, one at a time: each Write of the
// link is one. It returns when that is answered, so the link collects what is sent
// meanwhile, and the next request carries all of it.
type poster struct {
	attach  *attach
	rt      *http.Transport
	opening chan<- []byte // takes the first Write, where the attach opens a session
	ctx     context.Context
	cancel  context.CancelFunc
	most    int // bytes of a body, for a server that takes no larger ones; 0: no limit
	told    atomic.Bool

	mu   sync.Mutex
	fail error
}

func newPoster(a *attach, rt *http.Transport, opening chan<- []byte) *poster {
	p := &poster{attach: a, rt: rt, opening: opening}
	if !a.first {
		p.opening = nil
	}
	p.ctx, p.cancel = context.WithCancel(a.ctx)
	return p
}

// Slow makes it a flow.SlowCarrier.
func (p *poster) Slow() {}

// Write sends whole frames.
func (p *poster) Write(frames []byte) (int, error) {
	if p.opening != nil {
		p.opening <- bytes.Clone(frames) // has room for the one
		p.opening = nil
		return len(frames), nil
	}
	select {
	case <-p.attach.opened: // now the session has a name
	case <-p.ctx.Done():
		return 0, errAbandoned
	}
	closing := p.attach.conn.closing.Load()
	for rest := frames; len(rest) > 0; {
		n := p.cut(rest)
		err := p.post(rest[:n])
		if smaller := p.whole(rest[:n], n/2); tooLarge(err) && smaller < n {
			p.most = n / 2
			continue
		}
		if err != nil {
			p.mu.Lock()
			p.fail = err
			p.mu.Unlock()
			return 0, err
		}
		rest = rest[n:]
	}
	if closing {
		p.told.Store(true)
	}
	return len(frames), nil
}

// cut is how much of frames goes into one request.
func (p *poster) cut(frames []byte) int {
	if p.most == 0 || len(frames) <= p.most {
		return len(frames)
	}
	return p.whole(frames, p.most)
}

// whole is the length of the frames at the start that make at most n bytes, or of
// the first one.
func (p *poster) whole(frames []byte, n int) (length int) {
	dec := p.attach.conn.dialer.codec.NewDecoder()
	var f frame.Frame
	for length < len(frames) {
		size, err := dec.Decode(frames[length:], &f)
		if err != nil || size == 0 {
			return len(frames) // not ours to judge
		}
		if length > 0 && length+size > n {
			break
		}
		length += size
	}
	return length
}

func tooLarge(err error) bool {
	var answer *HTTPError
	return errors.As(err, &answer) && answer.Status == http.StatusRequestEntityTooLarge
}

// post makes a request until it is answered, a few times.
func (p *poster) post(frames []byte) error {
	body := bytes.Clone(frames) // net/http may look at it even after the answer
	for try := 1; ; try++ {
		err := p.once(body)
		if err == nil || try == postTries || !again(err) || p.ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(rand.N(postPause << try))
		select {
		case <-timer.C:
		case <-p.ctx.Done():
		}
		timer.Stop()
	}
}

// again tells whether a POST that failed with err may fare better. A 409 says that
// another one has been quicker, this one's own double perhaps: it is overtaken.
func again(err error) bool {
	var answer *HTTPError
	if !errors.As(err, &answer) {
		return true
	}
	switch answer.Status {
	case http.StatusBadRequest, // a body that was cut, for one
		http.StatusConflict, http.StatusRequestTimeout, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (p *poster) once(body []byte) error {
	a := p.attach
	ctx, cancel := context.WithTimeoutCause(p.ctx, answerTimeout, errNoAnswer)
	defer cancel()
	req := a.request(http.MethodPost)
	req = req.WithContext(ctx)
	setBody(req, body)
	resp, err := p.rt.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause == errNoAnswer {
			return cause
		}
		return err
	}
	defer resp.Body.Close()
	codec := a.conn.dialer.codec
	if got, ok := frame.ByMediaType(resp.Header.Get("Content-Type")); ok && got == codec {
		err := a.conn.link.Batch(codec, func(*frame.Frame) error { return nil }).Feed(resp.Body)
		if errors.Is(err, flow.ErrSuperseded) {
			err = nil
		}
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return a.refused(req, resp)
}

var errNoAnswer = errors.New("client: a POST was not answered in time")

// Flush has nothing to do: a Write has gone out when it returns.
func (p *poster) Flush() error { return nil }

// Finished has nothing to do: each Write is complete by itself.
func (p *poster) Finished() {}

func (p *poster) Abort() { p.end() }
func (p *poster) end()   { p.cancel() }
func (p *poster) wait()  { p.cancel() }

func (p *poster) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fail
}

func (p *poster) heard() bool { return p.told.Load() }

var (
	_ flow.SlowCarrier = (*poster)(nil)
	_ sender           = (*poster)(nil)
)
