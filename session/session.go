package session

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// An App is what a session talks with. Serve is called once for each session,
// in a goroutine of its own. The session ends when it returns: nil, io.EOF and
// an error that s itself returned are the normal end (CodeNormal, or as the
// session ended); another *CloseError ends with that code; any other error is
// logged and ends with CodeInternal.
//
// ctx is cancelled when the session is over; Serve must return soon then.
type App interface {
	Serve(ctx context.Context, s *Session) error
}

// AppFunc makes an App of a function.
type AppFunc func(ctx context.Context, s *Session) error

// Serve calls f.
func (f AppFunc) Serve(ctx context.Context, s *Session) error { return f(ctx, s) }

// The vocabulary that sessions share with the wire and with clients.
type (
	Message    = frame.Message
	CloseError = frame.CloseError
	Code       = frame.Code
)

// A Session is two ordered sequences of messages, one each way, between a
// client and an App.
//
// Receive may be called by one goroutine at a time; everything else is safe for
// concurrent use.
type Session struct {
	id      string
	peer    Peer
	link    *flow.Link
	handler *Handler

	ctx    context.Context // the app's
	cancel context.CancelCauseFunc

	begin   sync.Once   // start the app, or find that it never will be
	opening sync.Mutex  // held while a first batch is taken in
	late    *time.Timer // ends a session whose client never has the app start
	place   *place      // within the limits
	unclaim func()      // let other processes have openKey
	openKey string      // its Tandem-Open and user; empty without
	started bool        // the app was, and must not be again by a late request with openKey
	counted bool        // as opened; guarded by handler.stats

	claimed   chan struct{} // closed when it is known whether another process has openKey; nil without one
	elsewhere http.Handler  // relays there, or says why it can't be known
	born      time.Time
	grace     time.Duration // 0: it can't be resumed

	halves   sync.Mutex // held to change who carries the session
	attempts attempts
	upload   *http.ResponseController // of the request that is the send half
	removed  bool                     // no request may wait for it any more
}

func newSession(h *Handler, peer Peer, framed bool) *Session {
	s := &Session{peer: peer, handler: h, born: time.Now(), unclaim: func() {}}
	if framed {
		s.grace = h.options.Grace
	}
	s.id = h.options.Owner + "." + randomID()
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	cfg := h.options.link()
	cfg.Grace = s.grace
	cfg.Terminated = s.terminated
	s.link = flow.New(cfg)
	s.late = time.AfterFunc(startTime, func() {
		s.link.Fail(frame.Errorf(frame.CodeExpired, "the app was not started within %v: expected an open frame, and a start frame where that holds the app", startTime))
	})
	return s
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// randomID is 128 random bits as 26 characters of [a-z2-7].
func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return idEncoding.EncodeToString(b[:])
}

// ID names the session. Who knows it can act for the client: don't show it to
// others and don't log it whole.
func (s *Session) ID() string { return s.id }

// Peer tells about the client. It must not be changed.
func (s *Session) Peer() *Peer { return &s.peer }

// Name is what log lines call the session: the beginning of its ID, with which nobody can
// act for the client.
func (s *Session) Name() string { return s.id[:len(s.handler.options.Owner)+9] }

// Log is the logger for this session: its lines name the session.
func (s *Session) Log() *slog.Logger { return s.handler.options.Log.With("session", s.Name()) }

// Receive returns the client's next message. io.EOF: the client's input has
// ended, messages can still be sent. A *CloseError: the session is over.
// Whatever came before the end is received first.
func (s *Session) Receive(ctx context.Context) (Message, error) { return s.link.Receive(ctx) }

// React has f called with what Receive would return, in its place: by one goroutine at a
// time, and by none while there is nothing. An error is the last call; so is one for which
// f returns false.
func (s *Session) React(f func(Message, error) bool) { s.link.React(f) }

// WillBlock is for a function given to React, before it waits for something that is not
// this session's: a file, another process, a lock that is held for long.
func (s *Session) WillBlock() { s.link.WillBlock() }

// ForgetRequest lets go of the Header and the Vars of Peer(): an app that has taken what
// it needs of them has its sessions cost less. Nobody may read them at that time.
func (s *Session) ForgetRequest() { s.peer.Header, s.peer.Vars = nil, nil }

// Send sends a message; it copies m.Data. It blocks while the client's window
// is full. nil means that the message is on its way, not that it arrived.
func (s *Session) Send(ctx context.Context, m Message) error { return s.link.Send(ctx, m) }

// Pass is Send for a message whose Data nobody changes any more, as that of one which
// was received: it is not copied.
func (s *Session) Pass(ctx context.Context, m Message) error { return s.link.Pass(ctx, m) }

// Close ends the session after what was sent has left, which it waits for, 30 s
// without progress at most.
func (s *Session) Close(code Code, reason string) error {
	return s.link.Finish(context.Background(), code, reason)
}

// CloseNow drops the session: nothing more is sent, not even the reason.
func (s *Session) CloseNow() { s.link.Lost("dropped by the app") }

// startTime is how long a client may take to have the app start. Until then a
// session costs it nothing, and takes a place within the limits.
const startTime = 30 * time.Second

// start has the app run, unless the session is over before.
func (s *Session) start() {
	s.begin.Do(func() {
		s.late.Stop()
		s.late, s.started = nil, true
		go s.run()
	})
}

func (s *Session) run() {
	if r, ok := s.handler.app.(reactor); ok {
		s.react(r)
		return
	}
	s.over(s.guard(func() error { return s.handler.app.Serve(s.ctx, s) }))
}

// over ends the session when the app is done, with err. It returns when the session
// may be forgotten.
func (s *Session) over(err error) {
	code, reason := s.outcome(err)
	s.link.Finish(context.Background(), code, reason)
	s.cancel(context.Canceled)
	s.logEnd()
	s.keep()
	s.place.release()
	s.handler.remove(s)
}

// keep returns when the session may be forgotten: its client knows of its end,
// or has had its time to come back for it, or another session needs its place.
func (s *Session) keep() {
	if s.grace == 0 {
		return
	}
	s.place.keep()
	timer := time.NewTimer(s.grace)
	defer timer.Stop()
	select {
	case <-s.link.Delivered():
	case <-timer.C:
	case <-s.place.needed:
	case <-s.handler.stop:
	}
}

// forgotten tells whether the session is over and its client knows: what is left
// of it is an app that has not returned yet.
func (s *Session) forgotten() bool {
	select {
	case <-s.link.Delivered():
		return true
	default:
		return false
	}
}

// abandon drops a session that nobody has heard of.
func (s *Session) abandon() {
	s.begin.Do(func() {
		s.late.Stop()
		s.place.release()
		s.handler.remove(s)
	})
	s.link.Lost("never begun")
}

// outcome is how the session ends when the app returned err.
func (s *Session) outcome(err error) (Code, string) {
	var e *CloseError
	switch {
	case err == nil || err == io.EOF:
		return frame.CodeNormal, ""
	case errors.As(err, &e):
		return e.Code, e.Reason
	case errors.Is(err, context.Canceled) && s.ctx.Err() != nil:
		return frame.CodeNormal, "" // the session is over, the app went along
	}
	s.Log().Error("the app failed", "error", err)
	return frame.CodeInternal, "the app failed"
}

// terminated is the link's word that the session is over.
func (s *Session) terminated(e *CloseError) {
	s.cancel(e)
	s.opening.Lock() // the batch that brought the end may have the app start
	defer s.opening.Unlock()
	s.begin.Do(func() { // it never started
		s.late.Stop()
		s.logEnd()
		s.place.release()
		s.handler.remove(s)
	})
}

// logEnd writes the one line that each session leaves.
func (s *Session) logEnd() {
	e := s.link.Err()
	if e == nil {
		return
	}
	s.handler.stats.ended(s, e.Code)
	level := slog.LevelInfo
	switch e.Code {
	case frame.CodeProtocol, frame.CodeUnsupported, frame.CodeBadUTF8, frame.CodePolicy, frame.CodeTooBig, frame.CodeInternal:
		level = slog.LevelWarn
	}
	s.Log().Log(context.Background(), level, "session ended", "code", uint16(e.Code), "reason", e.Reason,
		"transport", s.peer.Transport, "codec", s.peer.Codec, "user", s.peer.User, "address", s.peer.Addr,
		"seconds", time.Since(s.born).Round(time.Millisecond).Seconds())
}
