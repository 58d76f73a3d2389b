package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"tandem/internal/gateway"
	"tandem/session/flow"
	"tandem/session/frame"
)

// In split and poll a session's halves travel in requests of their own
// (docs/protocol.md section 1): GET is the receive half, POST the send half, and
// the opening POST is both.

// How long a poll waits for something to say, in seconds: what a client gets that
// doesn't ask, and the most, below the time-outs of web servers (docs/servers.md
// trap 6).
const (
	defaultWait = 20
	maxWait     = 55
)

// apart tells whether the request is one half of a session.
func apart(r *http.Request) bool {
	t := r.Header.Get("Tandem-Transport")
	return t == "split" || t == "poll"
}

// mayPart tells why a session can't be opened by a request that is apart.
func (h *Handler) mayPart(r *http.Request, info *gateway.Info, in frame.Codec) *refusal {
	switch {
	case !in.Framed():
		return refusalf(http.StatusUnsupportedMediaType, "Expected json or binary for the transports split and poll; got %s, which can't tell what has arrived.", in.MediaType())
	case !h.apartWorks(info):
		return refusalf(http.StatusNotImplemented, "Expected the transport single: each request is a process of its own here, and they can't find each other (state_dir).")
	case r.Header.Get("Tandem-Transport") == "poll" && h.options.Grace == 0:
		return refusalf(http.StatusNotImplemented, "Expected a transport that streams: a session ends with its request here (grace), so it can't be polled.")
	}
	return nil
}

// attempts are the numbers of the last requests that carried the halves.
type attempts struct{ send, receive uint64 }

// named is what has been found out about a request of a session.
type named struct {
	in, out   frame.Codec // of the request's body and of the response
	transport string
	attempt   uint64
	opens     bool // it made the session
	whole     bool // its body has been read to its end
}

// attempt is the number that r tells, 0 if it tells none.
func attempt(r *http.Request) (uint64, *refusal) {
	told := r.Header.Get("Tandem-Attempt")
	if told == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(told, 10, 53)
	if err != nil {
		return 0, refusalf(http.StatusBadRequest, "Expected a Tandem-Attempt of 1 or more, higher with each request of the session; got %.40q.", told)
	}
	return n, nil
}

// claim makes the request with attempt n the one that carries these halves,
// unless a later one was there. The request that opened the session has claimed
// both already. A request that was the send half stops reading. s.halves is held.
func (s *Session) claim(n uint64, opens, send, receive bool) *refusal {
	if s.removed && (send || !opens) { // but the answer to what opened it brings its end
		return errGone
	}
	if late := func(last uint64) bool { return n < last || n == last && !opens }; send && late(s.attempts.send) || receive && late(s.attempts.receive) {
		return &refusal{status: http.StatusConflict, late: true, ack: true,
			detail: fmt.Sprintf("Expected a Tandem-Attempt above that of the session's last request; got %d: this request came late.", n)}
	}
	if receive {
		s.attempts.receive = n
	}
	if send {
		s.attempts.send = n
		s.stopUpload()
	}
	return nil
}

// stopUpload has the request that is the send half read no more. s.halves is held.
func (s *Session) stopUpload() {
	if s.upload != nil {
		s.upload.SetReadDeadline(longAgo)
		s.upload = nil
	}
}

// openKey is the name under which a client opens a session as often as it has to,
// and that no other user's request has; empty if there is none.
func openKey(r *http.Request, info *gateway.Info) (string, *refusal) {
	key := r.Header.Get("Tandem-Open")
	switch {
	case key == "":
		return "", nil
	case len(key) < 22 || len(key) > 64 || strings.ContainsFunc(key, func(c rune) bool { return !word(c) && c != '_' && c != '-' }):
		return "", refusalf(http.StatusBadRequest, "Expected a Tandem-Open of 22 to 64 characters [A-Za-z0-9_-], 128 random bits; got %d bytes.", len(key)) // a secret
	}
	return key + " " + info.User, nil
}

// word tells a letter or digit of ASCII. (A regexp would cost every start of a CGI
// program.)
func word(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ownerName tells whether s is a name that processes have.
func ownerName(s string) bool {
	return len(s) == 16 && !strings.ContainsFunc(s, func(c rune) bool { return !word(c) || unicode.IsUpper(c) })
}

// claimOwner has other processes find the session. If one of them has opened it
// already, elsewhere is what relays there. Requests that open the session once more
// wait for that.
func (s *Session) claimOwner() {
	if s.claimed != nil {
		defer close(s.claimed)
	}
	h := s.handler
	o := &h.options
	if o.Owners == nil || s.openKey == "" && s.peer.Transport != "split" && s.peer.Transport != "poll" {
		return
	}
	owner, release, err := o.Owners.Claim(s.openKey)
	switch {
	case err != nil && s.peer.Transport != "split" && s.peer.Transport != "poll":
		s.Log().Warn("a request that opens this session once more would open another one", "error", err)
	case err != nil:
		s.Log().Error("other processes can't find this session", "error", err)
		s.elsewhere = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.refuse(w, r, &refusal{status: http.StatusServiceUnavailable, retryAfter: 5,
				detail: "The requests of a session would not find each other here; the server's log says why (state_dir)."})
		})
	case release != nil:
		h.mu.Lock()
		here := h.sessions[s.id] == s
		if here {
			s.unclaim = sync.OnceFunc(release)
		}
		h.mu.Unlock()
		if !here { // it has ended meanwhile, as the server stops
			release()
		}
	default:
		if s.elsewhere = o.Owners.Forward(owner); s.elsewhere == nil {
			s.elsewhere = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.refuse(w, r, errGone) })
		}
	}
}

// firstBatch is the most that a body has which opens a session, in bytes: what the
// window allows, with every byte escaped.
const firstBatch = 8 * flow.InitialWindow

// whole reads the body of a request that opens a session apart, so that one which
// is cut has opened nothing.
func whole(w http.ResponseWriter, r *http.Request) *refusal {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(startTime))
	body, err := io.ReadAll(io.LimitReader(r.Body, firstBatch+1))
	switch {
	case err != nil:
		return refusalf(http.StatusBadRequest, "The request's body could not be read to its end: %v.", err)
	case len(body) > firstBatch:
		return refusalf(http.StatusRequestEntityTooLarge, "Expected at most %d bytes in the request that opens a session; send the rest when it is open.", firstBatch)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// openApart opens the session, or opens it once more, with a body that is the first
// batch and a response that is the first receive half.
func (s *Session) openApart(w http.ResponseWriter, r *http.Request, n named) {
	if p := s.open(w, r, n); p != nil {
		s.handler.refuse(w, r, p)
		return
	}
	s.follow(w, r, n, 0)
}

// open takes in the first batch, and starts the app when all of it is in order: also
// where it brings the end at once, which otherwise has no app started.
func (s *Session) open(w http.ResponseWriter, r *http.Request, n named) *refusal {
	s.opening.Lock()
	defer s.opening.Unlock()
	opened, starts := false, false
	_, p := s.take(w, r, n, func(f *frame.Frame) error {
		opened = opened || f.Type == frame.TypeOpen
		if f.Type == frame.TypeStart || f.Type == frame.TypeOpen && !f.Hold {
			starts = true
			return nil
		}
		return s.control(f)
	})
	switch {
	case !n.opens:
	case p == nil && !opened:
		p = refusalf(http.StatusBadRequest, "Expected an open frame in the body that opens a session.")
	case p != nil && p.status == http.StatusConflict && !p.late:
		p = refusalf(http.StatusBadRequest, "%s", p.detail) // nobody could go on with it
	}
	switch {
	case p == nil && starts:
		s.start()
	case p != nil && n.opens && !p.late:
		s.abandon()
		return p
	}
	if n.opens {
		s.handler.stats.opened(s)
	}
	return p
}

// receiveHalf answers with what the session has to say from now on, or, in poll,
// what it has to say now.
func (s *Session) receiveHalf(w http.ResponseWriter, r *http.Request, n named) {
	if s.grace == 0 {
		s.handler.refuse(w, r, errGone)
		return
	}
	defer unread(w, r)()
	var after uint64
	if told := r.Header.Get("Tandem-After"); told != "" {
		var err error
		if after, err = strconv.ParseUint(told, 10, 53); err != nil {
			s.handler.refuse(w, r, refusalf(http.StatusBadRequest, "Expected in Tandem-After the seq of the last message received; got %.40q.", told))
			return
		}
	}
	s.follow(w, r, n, after)
}

// follow has the response carry what comes after a seq.
func (s *Session) follow(w http.ResponseWriter, r *http.Request, n named, after uint64) {
	s.halves.Lock()
	if p := s.claim(n.attempt, n.opens, false, true); p != nil {
		s.halves.Unlock()
		s.handler.refuse(w, r, p)
		return
	}
	streamHeader(w, n.out)
	resp := newResponse(w, r)
	var at *flow.Attach
	if n.transport == "poll" {
		wait := pollWait(r)
		if r.Method != http.MethodGet {
			wait = 0 // the client waits for the session's name
		}
		at = s.link.Poll(resp, n.out, s.handler.options.openFrame(s, "poll"), after, wait)
	} else {
		at = s.link.Stream(resp, n.out, s.handler.options.openFrame(s, "split"), after)
	}
	s.halves.Unlock()
	if resp.detach(at, follower{at}) {
		return
	}
	lost := loseWith(r, at)
	<-at.Finished()
	lost()
	at.Detach()
}

// pollWait is how long the client wants a poll to wait (RFC 7240 section 4.3).
func pollWait(r *http.Request) time.Duration {
	for _, p := range strings.Split(strings.Join(r.Header.Values("Prefer"), ","), ",") {
		if s, ok := strings.CutPrefix(strings.TrimSpace(p), "wait="); ok {
			if n, err := strconv.Atoi(s); err == nil && n >= 0 {
				return min(time.Duration(n), maxWait) * time.Second
			}
		}
	}
	return defaultWait * time.Second
}

// sendHalf takes in the request's body, and answers with an ack.
func (s *Session) sendHalf(w http.ResponseWriter, r *http.Request, n named) {
	batch, p := s.take(w, r, n, s.control)
	if p != nil && !p.ack {
		s.handler.refuse(w, r, p)
		return
	}
	status := http.StatusOK
	if p != nil {
		status = p.status
		defer unread(w, r)()
	}
	ack := s.link.AckFrame()
	if batch != nil {
		ack = batch.AckFrame()
	}
	body, err := n.out.Append(nil, &ack)
	if err != nil {
		panic(err) // numbers
	}
	h := w.Header()
	h.Set("Content-Type", n.out.MediaType())
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error here is a lost answer: the client asks again
}

// take feeds the session with the request's body. A refusal that is an ack, too,
// leaves the session as it was. The batch is nil where the body was not looked at.
func (s *Session) take(w http.ResponseWriter, r *http.Request, n named, control func(*frame.Frame) error) (*flow.Batch, *refusal) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{})
	s.halves.Lock()
	if p := s.claim(n.attempt, n.opens, true, false); p != nil {
		s.halves.Unlock()
		return nil, p
	}
	if !n.whole {
		s.upload = rc
	}
	batch := s.link.Batch(n.in, control)
	s.halves.Unlock()
	err := batch.Feed(r.Body)
	s.halves.Lock()
	if s.upload == rc {
		s.upload = nil
	} else if !n.whole {
		closeAfter(w, r) // net/http takes the deadline that it met for the connection's end
	}
	s.halves.Unlock()
	return batch, s.verdict(err)
}

// verdict is what becomes of a batch that was fed with err.
func (s *Session) verdict(err error) *refusal {

	var gap *flow.GapError
	var overrun *flow.OverrunError
	var violation *frame.CloseError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, flow.ErrSuperseded):
		return errSuperseded
	case errors.As(err, &gap):
		return &refusal{status: http.StatusConflict, detail: err.Error(), ack: true}
	case errors.As(err, &overrun):
		return &refusal{status: http.StatusRequestEntityTooLarge, detail: err.Error(), ack: true}
	case errors.As(err, &violation):
		return refusalf(http.StatusBadRequest, "The session is closed, %d %s: %s", uint16(violation.Code), violation.Code, violation.Reason)
	case s.link.Err() != nil:
		return nil // nothing more is wanted
	}
	return refusalf(http.StatusBadRequest, "The request's body could not be read to its end: %v.", err)
}

var errSuperseded = &refusal{status: http.StatusConflict, ack: true, late: true, detail: "A later request of the session has taken this one's place."}
