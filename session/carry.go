package session

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"tandem/internal/gateway"
	"tandem/session/flow"
	"tandem/session/frame"
)

// carry runs the session over one request, the server's side of single and
// pulse: this goroutine reads the body at once, the app and others write the
// response, of which begin makes an attach. It returns when the session is over, or
// has lost this request or left it for another, and nothing reads or writes.
func (s *Session) carry(w http.ResponseWriter, r *http.Request, n named, begin func(flow.Carrier, frame.Codec, flow.Pulse, *frame.Frame) *flow.Attach) {
	if r.Header.Get("Expect") != "" && r.ProtoAtLeast(1, 1) && s.peer.Interface == gateway.HTTP {
		w.WriteHeader(http.StatusContinue) // else curl holds its body back for a second: our header comes before we read
	}
	s.halves.Lock()
	if p := s.claim(n.attempt, n.opens, true, true); p != nil {
		s.halves.Unlock()
		s.handler.refuse(w, r, p)
		return
	}
	if !n.opens {
		s.handler.stats.resumed()
		s.Log().Info("session resumed", "transport", n.transport, "attempt", n.attempt, "address", r.RemoteAddr)
	}
	resp := newResponse(w, r)
	if n.in.Framed() && direct(r) && r.ContentLength < 0 {
		resp.linger = linger
	}
	resp.read(true)
	resp.rc.EnableFullDuplex() // only HTTP/1 servers need it, the others say it is not supported
	closeAfter(w, r)
	streamHeader(w, n.out)
	var carrier flow.Carrier = resp
	var body io.Reader = r.Body
	switch {
	case needsHold(gateway.Of(r), n.in):
		held := newHold(resp, r.Body)
		defer held.release() // nothing of it may run when the handler returns
		carrier, body = held, held
	case !n.out.Framed():
		resp.Flush() // a framed response begins with open, which takes the header along
	}
	at := begin(carrier, n.out, flow.Pulse(n.transport == "pulse"), s.handler.options.openFrame(s, n.transport))
	s.halves.Unlock()
	if !n.in.Framed() {
		s.start() // no open frame will come that could tell it to wait
	}
	in := at.Feeder(n.in, s.control)
	if carrier == resp && resp.detach(at, &fed{follower{at}, s, in}) {
		return
	}
	defer at.Lost("the request was left") // does nothing but after a panic
	lost := loseWith(r, at)
	err := in.Feed(body)
	resp.read(false)
	s.bodyEnded(at, err)
	<-at.Finished()
	lost()
	at.Detach()
}

// bodyEnded takes in how the body of a request that carried the session has ended.
func (s *Session) bodyEnded(at *flow.Attach, err error) {
	switch {
	case err == nil:
	case errors.Is(err, io.ErrUnexpectedEOF) && s.grace == 0:
		s.link.Fail(frame.Errorf(frame.CodeHeartbeat, "the request's body ended without end, close or detach: that looks like a cut"))
	default:
		at.Lost("the request's body could not be read: " + err.Error())
	}
}

// loseWith has at be lost with its request. What it returns ends that.
func loseWith(r *http.Request, at *flow.Attach) (stop func() bool) {
	return context.AfterFunc(r.Context(), func() {
		at.Lost("the web server closed the request: " + context.Cause(r.Context()).Error())
	})
}

// streamHeader writes the header of a response that streams frames.
func streamHeader(w http.ResponseWriter, out frame.Codec) {
	h := w.Header()
	h.Set("Content-Type", out.MediaType())
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Incremental", "?1")
	w.WriteHeader(http.StatusOK)
}

// closeAfter has an HTTP/1 connection end with this response. The request's body may
// not have been read to its end by then, and net/http doesn't know that of a read
// which met a deadline: it would take the rest for the connection's next request.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if direct(r) && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}

// direct tells whether net/http's own HTTP/1 server serves r.
func direct(r *http.Request) bool {
	return r.Context().Value(http.ServerContextKey) != nil && r.ProtoMajor == 1
}

// linger is how long a chunked body is read after the last frame, for a client that
// then ends it. What comes to a closed connection is answered with a reset, and a
// client that meets it when it writes, a pulse perhaps, may not see the last frame.
// (Of a body with a length net/http knows that it was not read, and waits by itself.)
const linger = 500 * time.Millisecond

// control takes the frames that are about the attach.
func (s *Session) control(f *frame.Frame) error {
	switch f.Type {
	case frame.TypeOpen:
		if !f.Hold {
			s.start()
		}
	case frame.TypeStart:
		s.start()
	case frame.TypeDetach:
		return frame.Errorf(frame.CodeProtocol, "expected end, close, or just the request's end; got detach, which only the server sends")
	}
	return nil
}

// response is the write half of an attach: a flow.Carrier.
type response struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	body io.Closer

	linger time.Duration // how long the body is read when the link needs no more of it

	mu      sync.Mutex
	reading bool   // the handler reads the body
	over    bool   // the link needs nothing more of the request
	leave   func() // ends a detached request
}

func newResponse(w http.ResponseWriter, r *http.Request) *response {
	resp := &response{w: w, rc: http.NewResponseController(w), body: r.Body}
	resp.rc.SetReadDeadline(time.Time{}) // an http.Server's ReadTimeout is not meant for sessions
	return resp
}

var longAgo = time.Unix(1, 0)

func (r *response) Write(p []byte) (int, error) { return r.w.Write(p) }
func (r *response) Flush() error                { return r.rc.Flush() }

// Finished has the handler's read of the body return, or ends the request where
// there is no handler any more.
func (r *response) Finished() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	switch {
	case r.leave != nil:
		go r.leave()
	case r.reading:
		until := longAgo
		if r.linger > 0 {
			until = time.Now().Add(r.linger)
		}
		if err := r.rc.SetReadDeadline(until); err != nil {
			r.body.Close()
		}
	}
}

// read has Finished end the handler's reading, or not any more.
func (r *response) read(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = on
}

// detach has s get the body, without the handler. False: the handler has to stay.
func (r *response) detach(at *flow.Attach, s gateway.Sink) bool {
	d, ok := r.w.(gateway.Detacher)
	if !ok {
		return false
	}
	finish, ok := d.Detach(s)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave = func() {
		at.Detach()
		finish()
	}
	if r.over {
		go r.leave()
	}
	return true
}

// follower is the Sink of a request that has brought all it had to.
type follower struct{ at *flow.Attach }

func (f follower) Input([]byte) {}
func (f follower) End()         {}
func (f follower) Turn(func())  {}
func (f follower) Lost(cause error) {
	f.at.Lost("the web server closed the request: " + cause.Error())
}

// fed is the Sink of a request whose body carries the session.
type fed struct {
	follower
	s  *Session
	in *flow.Feeder
}

func (f *fed) Input(p []byte)    { f.in.Write(p) }
func (f *fed) Turn(yield func()) { f.in.Turn(yield) }
func (f *fed) End()              { f.s.bodyEnded(f.at, f.in.End()) }

// Abort has a blocked Write return.
func (r *response) Abort() { r.rc.SetWriteDeadline(longAgo) }
