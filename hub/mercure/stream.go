package mercure

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"tandem/hub"
	"tandem/internal/gateway"
)

// drain is how long a write may still take when its stream ends.
const drain = 2 * time.Second

var (
	comment = []byte(":\n\n")                  // goes to show that the connection lives
	lost    = []byte(": events were lost\n\n") // where a Gap is; a client that has to know compares Last-Event-ID when it connects
)

// stream is the response to a subscriber: events, for as long as it stays.
//
// Back-pressure: write blocks while the web server takes nothing. Then the hub has this subscriber's events wait, within
// its bounds, and nobody else's; its End ends the stream.
type stream struct {
	h     *Handler
	w     http.ResponseWriter
	rc    *http.ResponseController
	after string // what was asked for

	writing sync.Mutex // held to write the response
	begun   bool       // the header is out
	quiet   bool       // nothing was written since the last tick

	once sync.Once
	over chan struct{} // closed when the stream is to end

	mu     sync.Mutex // guards what follows
	cancel func()     // ends the reading of history
	done   bool
	sub    *hub.Subscriber
	timer  *time.Timer
	until  time.Time // when it ends; zero: never
	leave  func()    // ends a detached request; nil: the handler is still there
}

// stream serves a subscriber until it is gone; where the web server's interface allows, without staying for it.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, sn *subscription) {
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if sn.after != "" {
		ctx, cancel = context.WithCancel(ctx)
	}
	s := &stream{h: h, w: w, rc: http.NewResponseController(w), after: sn.after, cancel: cancel, over: make(chan struct{})}
	_ = s.rc.SetReadDeadline(time.Time{}) // an http.Server's timeouts are not meant for what stays open
	_ = s.rc.SetWriteDeadline(time.Time{})
	if r.ProtoMajor == 1 && r.Context().Value(http.ServerContextKey) != nil {
		w.Header().Set("Connection", "close") // net/http would keep the write deadline of the end
	}
	detached := false
	defer func() {
		if !detached {
			s.close()
		}
	}()
	s.open(r, sn)
	err := s.sub.Subscribe(ctx, s.subscription(sn))
	switch {
	case err != nil && !s.begun && r.Context().Err() == nil:
		h.refuse(w, h.ofHub(err))
	case err != nil:
	case s.detach():
		detached = true
	default:
		select {
		case <-s.over:
		case <-r.Context().Done():
		}
	}
}

func (s *stream) open(r *http.Request, sn *subscription) {
	s.mu.Lock() // the hub may end it at once
	defer s.mu.Unlock()
	o := &s.h.o
	s.sub = o.Hub.NewSubscriber(hub.SubscriberOptions{
		Name: r.RemoteAddr, ID: sn.id, Readable: sn.grants.subscribe, Payload: sn.grants.payload,
		Write: s.write, End: func(error) { s.close() },
	})
	now := time.Now()
	if o.MaxLifetime > 0 { // not all at once, where many began at once
		s.until = now.Add(o.MaxLifetime - jitter(o.MaxLifetime/10))
	}
	if e := sn.grants.expires; !e.IsZero() && (s.until.IsZero() || e.Before(s.until)) {
		s.until = e
	}
	s.timer = time.AfterFunc(min(jitter(o.Heartbeat/2), s.next()), s.tick)
}

func jitter(d time.Duration) time.Duration { return rand.N(max(d, 1)) }

// next is how long to wait until the next tick. mu is held.
func (s *stream) next() time.Duration {
	d := s.h.o.Heartbeat / 2
	if !s.until.IsZero() {
		d = min(d, max(time.Until(s.until), 0))
	}
	return d
}

// tick ends the stream at its time, and breaks a silence.
func (s *stream) tick() {
	s.mu.Lock()
	end := !s.until.IsZero() && !time.Now().Before(s.until)
	s.mu.Unlock()
	if end || s.heartbeat() != nil {
		s.close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.timer.Reset(s.next())
	}
}

func (s *stream) heartbeat() error {
	if !s.writing.TryLock() { // by a write, or what it waits for
		return nil
	}
	defer s.writing.Unlock()
	quiet := s.quiet
	s.quiet = true
	s.mu.Lock()
	done := s.done
	s.mu.Unlock()
	if done || !s.begun || !quiet {
		return nil
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.h.o.Heartbeat)) // the end must not wait for it
	if _, err := s.w.Write(comment); err != nil {
		return err
	}
	if err := s.rc.Flush(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		_ = s.rc.SetWriteDeadline(time.Time{})
	}
	return nil
}

func (s *stream) subscription(sn *subscription) *hub.Subscription {
	sub := &hub.Subscription{Matchers: sn.matchers, Start: s.start}
	if sn.after == earliest {
		sub.Earliest = true
	} else {
		sub.After = sn.after
	}
	return sub
}

// start sends the header, with what the history could recover (section 7), and something behind it: there are
// intermediaries that hold a header back until then.
func (s *stream) start(recovered bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	hd := s.w.Header()
	hd.Set("Content-Type", "text/event-stream")
	hd.Set("Cache-Control", "private, no-store, no-transform")
	hd.Set("X-Accel-Buffering", "no")
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("Incremental", "?1")
	hd.Set("Link", s.h.link)
	switch {
	case s.after == "":
	case recovered:
		hd.Set("Last-Event-ID", s.after)
	default:
		hd.Set("Last-Event-ID", earliest)
	}
	s.w.WriteHeader(http.StatusOK)
	s.begun = true
	if _, err := s.w.Write(comment); err != nil {
		return err
	}
	return s.rc.Flush()
}

// write sends events: encoded once for all, and flushed together.
func (s *stream) write(list []*hub.Update) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.quiet = false
	for _, u := range list {
		b := u.SSE()
		if u == hub.Gap {
			b = lost
		}
		if _, err := s.w.Write(b); err != nil {
			return err
		}
	}
	return s.rc.Flush()
}

// detach leaves the request without its handler. False: that has to stay.
func (s *stream) detach() bool {
	d, ok := s.w.(gateway.Detacher)
	if !ok {
		return false
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return false
	}
	if s.leave, ok = d.Detach(s); ok {
		s.cancel()
		s.cancel = func() {} // or it would keep the request's context
	}
	return ok
}

// Input, Turn, End and Lost make a stream a gateway.Sink: of a subscriber's request only its end is of interest.
func (s *stream) Input([]byte) {}
func (s *stream) Turn(func())  {}
func (s *stream) End()         {}
func (s *stream) Lost(error)   { go s.close() }

// close ends the stream. When it returns nothing writes any more but a Subscribe that is still reading
// history, which will end, and a detached request is over.
func (s *stream) close() {
	s.once.Do(func() {
		s.mu.Lock()
		s.done = true
		leave, cancel := s.leave, s.cancel
		_ = s.rc.SetWriteDeadline(time.Now().Add(drain))
		s.mu.Unlock()
		close(s.over)
		cancel()
		s.timer.Stop()
		s.sub.Close()
		s.writing.Lock() // a heartbeat may have it
		defer s.writing.Unlock()
		if leave != nil {
			leave()
		}
	})
}
