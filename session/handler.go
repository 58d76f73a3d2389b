package session

import (
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"tandem/internal/gateway"
	"tandem/session/frame"
)

// Handler serves the sessions of one endpoint (docs/protocol.md section 1): GET
// describes it, POST and PUT open a session. It is safe for concurrent use, as
// every http.Handler.
type Handler struct {
	app     App
	options Options

	mu       sync.Mutex
	sessions map[string]*Session
	stop     chan struct{} // closed when no new session may come
	idle     chan struct{} // closed when stopping and no session is left
}

// NewHandler makes a Handler whose sessions talk with app. o may be nil.
func NewHandler(app App, o *Options) *Handler {
	return &Handler{
		app:      app,
		options:  o.withDefaults(),
		sessions: make(map[string]*Session),
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

func (h *Handler) remove(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, s.id)
	if h.stopping() && len(h.sessions) == 0 {
		close(h.idle)
	}
}

// ServeHTTP answers one request. It returns when the request no longer carries
// a session, and no Read of its body nor Write of its response runs.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := gateway.Of(r)
	w.Header().Set("Tandem-Transports", strings.Join(transports(info), ", "))
	if p := crossSite(r, info, h.options.Origins); p != nil {
		h.refuse(w, r, p)
		return
	}
	allowOrigin(w.Header(), r, h.options.Origins)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if r.Header.Get("Tandem-Session") != "" {
			h.refuse(w, r, errGone)
			return
		}
		defer unread(w, r)()
		h.describe(w, r, info)
	case http.MethodPost, http.MethodPut:
		if id := r.Header.Get("Tandem-Session"); id != "" {
			h.resume(w, r, info, id)
			return
		}
		h.open(w, r, info)
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
	closeAfter(w, r, gateway.Of(r).Interface)
	return func() {
		rc.Flush()
		rc.SetReadDeadline(longAgo)
	}
}

// open makes a session of the request and carries it to its end.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, info *gateway.Info) {
	in, out, p := codecs(r)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	peer := newPeer(r, info)
	peer.Codec = in.Name()
	peer.Transport = transport(r, info)
	release, p := h.options.Limits.admit(&peer)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	s := newSession(h, peer, in.Framed())
	s.release = release

	h.mu.Lock()
	if h.stopping() {
		h.mu.Unlock()
		s.late.Stop()
		release()
		h.refuse(w, r, &refusal{status: http.StatusServiceUnavailable, retryAfter: 2, detail: "This server is stopping. Try again soon."})
		return
	}
	h.sessions[s.id] = s
	h.mu.Unlock()

	s.carry(w, r, attach{in: in, out: out, transport: peer.Transport})
}

// resume carries a session that another request opened. The request with the
// higher attempt has it: the other one, if it is still there, gets a detach, and a
// late one is refused, so it never takes the session from its successor.
func (h *Handler) resume(w http.ResponseWriter, r *http.Request, info *gateway.Info, id string) {
	in, out, p := codecs(r)
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil || s.grace == 0 || s.peer.User != info.User || s.forgotten() {
		h.refuse(w, r, errGone)
		return
	}
	attempt, err := strconv.ParseUint(r.Header.Get("Tandem-Attempt"), 10, 53)
	switch {
	case err != nil || attempt == 0:
		h.refuse(w, r, refusalf(http.StatusBadRequest, "Expected a Tandem-Attempt of 1 or more, higher with each request that resumes the session; got %.40q.", r.Header.Get("Tandem-Attempt")))
	case !in.Framed():
		h.refuse(w, r, refusalf(http.StatusUnsupportedMediaType, "Expected json or binary to resume a session; got %s, which can't tell what has arrived.", in.MediaType()))
	case !s.claim(attempt):
		h.refuse(w, r, refusalf(http.StatusConflict, "Expected a Tandem-Attempt above that of the session's last request; got %d: this request came late.", attempt))
	default:
		s.log.Info("session resumed", "attempt", attempt, "address", r.RemoteAddr)
		s.carry(w, r, attach{in: in, out: out, transport: transport(r, info), resumes: true})
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

func mediaTypes() string {
	var names []string
	for _, c := range frame.Codecs() {
		names = append(names, c.MediaType())
	}
	return strings.Join(names, ", ")
}
