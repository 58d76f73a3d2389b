package session

import (
	"context"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"tandem/internal/gateway"
	"tandem/session/frame"
)

// Handler serves the sessions of one endpoint (docs/protocol.md section 1): GET
// describes it, POST and PUT open a session. It is safe for concurrent use, as
// every http.Handler.
type Handler struct {
	app     App
	options Options
	stats   stats

	mu       sync.Mutex
	sessions map[string]*Session
	opens    map[string]*Session // by Tandem-Open and user; nil: its session is over
	over     int                 // how many of opens are
	stop     chan struct{}       // closed when no new session may come
	idle     chan struct{}       // closed when stopping and no session is left
}

// NewHandler makes a Handler whose sessions talk with app. o may be nil.
func NewHandler(app App, o *Options) *Handler {
	return &Handler{
		app:      app,
		options:  o.withDefaults(),
		stats:    newStats(),
		sessions: make(map[string]*Session),
		opens:    make(map[string]*Session),
		stop:     make(chan struct{}),
		idle:     make(chan struct{}),
	}
}

// Sessions is the number of sessions whose app has not returned yet.
func (h *Handler) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// Shutdown refuses new sessions with 503, ends the others with CodeRestart, and
// waits until their apps have returned, or ctx is done.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if !h.stopping() {
		close(h.stop)
		if len(h.sessions) == 0 {
			close(h.idle)
		}
	}
	for _, s := range h.sessions {
		go s.link.Finish(ctx, frame.CodeRestart, "the server stops")
	}
	h.mu.Unlock()
	select {
	case <-h.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stopping tells whether Shutdown was called. h.mu is held.
func (h *Handler) stopping() bool {
	select {
	case <-h.stop:
		return true
	default:
		return false
	}
}

// remove forgets s, which is over.
func (h *Handler) remove(s *Session) {
	s.halves.Lock() // not within h.mu: who holds it may wait for a client
	s.removed = true
	s.stopUpload()
	s.halves.Unlock()
	h.mu.Lock()
	here := h.sessions[s.id] == s
	delete(h.sessions, s.id)
	if here && h.stopping() && len(h.sessions) == 0 {
		close(h.idle)
	}
	remember := here && s.started && s.openKey != "" && s.grace > 0 && h.over < maxOver
	if remember {
		h.opens[s.openKey] = nil
		h.over++
	}
	h.mu.Unlock()
	switch {
	case remember:
		key, unclaim := s.openKey, s.unclaim
		time.AfterFunc(s.grace, func() { h.forget(key, unclaim, 1) })
	case here:
		h.forget(s.openKey, s.unclaim, 0)
	}
}

// maxOver is how many sessions' Tandem-Open are remembered after their end, for the
// grace time: a request that opened one may have been delayed or doubled on its way,
// and must not start the app once more.
const maxOver = 10_000

// forget has another session be opened with key; over is 1 where it was remembered.
func (h *Handler) forget(key string, unclaim func(), over int) {
	unclaim()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.opens, key)
	h.over -= over
}

// ServeHTTP answers one request. It returns when the request no longer carries
// a session, and no Read of its body nor Write of its response runs.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := gateway.Of(r)
	w.Header().Set("Tandem-Transports", strings.Join(h.transports(info), ", "))
	if p := crossSite(r, info, h.options.Origins); p != nil {
		h.refuse(w, r, p)
		return
	}
	allowOrigin(w.Header(), r, h.options.Origins)
	id := r.Header.Get("Tandem-Session")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if id != "" && r.Method == http.MethodGet {
			h.named(w, r, info, id, (*Session).receiveHalf)
			return
		}
		defer unread(w, r)()
		h.describe(w, r, info)
	case http.MethodPost, http.MethodPut:
		switch {
		case id == "":
			h.open(w, r, info)
		case apart(r):
			h.named(w, r, info, id, (*Session).sendHalf)
		default:
			h.named(w, r, info, id, (*Session).resume)
		}
	case http.MethodOptions:
		defer unread(w, r)()
		w.Header().Set("Allow", methods)
		w.WriteHeader(http.StatusNoContent)
	default:
		h.refuse(w, r, &refusal{status: http.StatusMethodNotAllowed, allow: methods,
			detail: "Expected GET, which describes the endpoint, or POST or PUT, which open a session; got " + r.Method + "."})
	}
}

const methods = "GET, HEAD, POST, PUT, OPTIONS"

// errGone is the answer to a request that names a session which is not here, or
// not this client's: it shall not learn which.
var errGone = refusalf(http.StatusGone, "This session is not here: it has ended, or never was. Open a new one, with a POST that has no Tandem-Session header.")

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p *refusal) {
	h.stats.refused(p.status)
	h.options.Log.Info("request refused", "status", p.status, "method", r.Method, "path", r.URL.Path, "address", r.RemoteAddr, "detail", p.detail)
	defer unread(w, r)()
	p.write(w)
}

// unread has an answer not wait for the request's body, which an HTTP/1 server does to
// be able to use the connection again: one that stays open would hold it back. What
// it returns is to be called when the answer is written.
func unread(w http.ResponseWriter, r *http.Request) (written func()) {
	if r.ContentLength == 0 {
		return func() {}
	}
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	closeAfter(w, r)
	return func() {
		rc.Flush()
		rc.SetReadDeadline(longAgo)
	}
}

// open makes a session of the request and carries it to its end.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, info *gateway.Info) {
	n := named{transport: transport(r, info), opens: true}
	key, p := openKey(r, info)
	if p == nil {
		n.in, n.out, p = codecs(r)
	}
	if p == nil {
		n.attempt, p = attempt(r)
	}
	if p == nil && apart(r) {
		p = h.mayPart(r, info, n.in)
	}
	if p == nil && apart(r) {
		n.whole = true
		p = whole(w, r)
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	if s, p := h.opened(key); p != nil {
		h.refuse(w, r, p)
		return
	} else if s != nil {
		s.reopen(w, r, n)
		return
	}
	peer := newPeer(r, info)
	peer.Codec = n.in.Name()
	peer.Transport = n.transport
	place, p := h.options.Limits.admit(&peer)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	s := newSession(h, peer, n.in.Framed())
	s.place, s.openKey, s.attempts = place, key, attempts{n.attempt, n.attempt}
	if key != "" {
		s.claimed = make(chan struct{})
	}
	first, p := h.add(s)
	switch {
	case p != nil:
		s.abandon()
		h.refuse(w, r, p)
		return
	case first != s:
		s.abandon()
		first.reopen(w, r, n)
		return
	}
	if s.claimOwner(); s.elsewhere != nil {
		s.abandon()
		s.elsewhere.ServeHTTP(w, r)
		return
	}
	if apart(r) {
		s.openApart(w, r, n)
		return
	}
	h.stats.opened(s)
	s.carry(w, r, n, s.link.Attach)
}

// opened is the session that was opened with key, if there is one.
func (h *Handler) opened(key string) (*Session, *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, known := h.opens[key]
	if known && s == nil {
		return nil, errOver
	}
	return s, nil
}

var errOver = refusalf(http.StatusGone, "The session with this Tandem-Open has ended. To open another one, send another value.")

// add makes s one of the handler's sessions, unless another request has opened
// it first: that one it returns.
func (h *Handler) add(s *Session) (*Session, *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping() {
		return nil, &refusal{status: http.StatusServiceUnavailable, retryAfter: 2, detail: "This server is stopping. Try again soon."}
	}
	if s.openKey != "" {
		if first, known := h.opens[s.openKey]; first != nil {
			return first, nil
		} else if known {
			return nil, errOver
		}
		h.opens[s.openKey] = s
	}
	h.sessions[s.id] = s
	return s, nil
}

// named has a request that names a session served by it, wherever it lives.
func (h *Handler) named(w http.ResponseWriter, r *http.Request, info *gateway.Info, id string, serve func(*Session, http.ResponseWriter, *http.Request, named)) {
	owner, _, _ := strings.Cut(id, ".")
	if owner != h.options.Owner && h.options.Owners != nil && ownerName(owner) {
		if elsewhere := h.options.Owners.Forward(owner); elsewhere != nil {
			elsewhere.ServeHTTP(w, r)
			return
		}
	}
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil || s.peer.User != info.User || s.forgotten() {
		h.refuse(w, r, errGone)
		return
	}
	n := named{transport: transport(r, info)}
	var p *refusal
	if r.Method == http.MethodGet {
		n.out, p = receiveCodec(r)
	} else {
		n.in, n.out, p = codecs(r)
	}
	if p == nil && n.in != nil && !n.in.Framed() {
		p = refusalf(http.StatusUnsupportedMediaType, "Expected json or binary for a request of a session; got %s, which can't tell what has arrived.", n.in.MediaType())
	}
	if p == nil {
		n.attempt, p = attempt(r)
	}
	if p == nil && n.attempt == 0 {
		p = refusalf(http.StatusBadRequest, "Expected a Tandem-Attempt of 1 or more, higher with each request of the session; got none.")
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	serve(s, w, r, n)
}

// resume carries a session that another request opened over this one, both ways.
// The request with the higher attempt has it: the other one, if it is still there,
// gets a detach, and a late one is refused, so it never takes the session from its
// successor.
func (s *Session) resume(w http.ResponseWriter, r *http.Request, n named) {
	if s.grace == 0 {
		s.handler.refuse(w, r, errGone)
		return
	}
	s.carry(w, r, n, s.link.Resume)
}

// reopen carries a session for a client that opens it once more, because it got no
// answer: the program is not started twice.
func (s *Session) reopen(w http.ResponseWriter, r *http.Request, n named) {
	n.opens = false
	select {
	case <-s.claimed:
	case <-r.Context().Done():
		return
	}
	switch {
	case s.elsewhere != nil:
		s.elsewhere.ServeHTTP(w, r)
	case !n.in.Framed():
		s.handler.refuse(w, r, refusalf(http.StatusUnsupportedMediaType, "Expected json or binary to open a session once more; got %s, which can't tell what has arrived.", n.in.MediaType()))
	case apart(r):
		s.openApart(w, r, n)
	default:
		s.carry(w, r, n, s.link.Reopen)
	}
}

// codecs chooses the codecs of the request's body and of the response.
func codecs(r *http.Request) (in, out frame.Codec, p *refusal) {
	in, ok := frame.ByMediaType(r.Header.Get("Content-Type"))
	if !ok {
		return nil, nil, refusalf(http.StatusUnsupportedMediaType,
			"Expected a Content-Type of %s, or none; got %.100q. With curl, add: -H 'Content-Type: text/plain'.", mediaTypes(), r.Header.Get("Content-Type"))
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		return in, in, nil
	}
	for _, item := range strings.Split(accept, ",") {
		media, params, err := mime.ParseMediaType(item)
		if err != nil || strings.Trim(params["q"], "0.") == "" && params["q"] != "" {
			continue // q=0: not that one (RFC 9110 section 12.4.2)
		}
		if media == "*/*" || media == in.MediaType() || media == "text/*" && strings.HasPrefix(in.MediaType(), "text/") || media == "application/*" && strings.HasPrefix(in.MediaType(), "application/") {
			return in, in, nil
		}
		// A codec without acks can't answer one with them, nor the other way round.
		if c, ok := frame.ByMediaType(media); ok && c.Framed() == in.Framed() {
			return in, c, nil
		}
	}
	return nil, nil, refusalf(http.StatusNotAcceptable, "Expected an Accept that allows %s beside this Content-Type; got %.100q.", in.MediaType(), accept)
}

// receiveCodec chooses the codec of a receive half: json, if the client doesn't
// say.
func receiveCodec(r *http.Request) (frame.Codec, *refusal) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	for _, item := range strings.Split(accept, ",") {
		media, _, err := mime.ParseMediaType(item)
		if accept == "" || media == "*/*" {
			return frame.JSON, nil
		}
		if c, ok := frame.ByMediaType(media); err == nil && ok && c.Framed() {
			return c, nil
		}
	}
	return nil, refusalf(http.StatusNotAcceptable, "Expected an Accept of %s or %s; got %.100q.", frame.JSON.MediaType(), frame.Binary.MediaType(), accept)
}

func mediaTypes() string {
	var names []string
	for _, c := range frame.Codecs() {
		names = append(names, c.MediaType())
	}
	return strings.Join(names, ", ")
}
