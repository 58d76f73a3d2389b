package hub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// SubscriberOptions say who subscribes, and how events reach it.
type SubscriberOptions struct {
	// Name names the subscriber in log lines, such as a session's.
	Name string
	// ID is its name in presence; "": a random one.
	ID string
	// Readable select the topics whose private events it may have; nil: none.
	Readable []Matcher
	// Payload is what others may know of a subscription, as JSON; nil, "": nothing.
	Payload func(Matcher) string
	// Write passes updates on, in order; what it is given is not its to keep. It may block: then only
	// this subscriber waits. One call runs at a time for new events, and beside it one for each Subscribe that
	// brings history. An error ends the subscriber.
	Write func([]*Update) error
	// End is called once, in a goroutine of its own, when the hub ends the subscriber: with ErrTooSlow, ErrFull,
	// ErrClosed, or Write's error. Close is still to be called then. May be nil.
	End func(error)
}

// A Subscriber gets the events of its subscriptions. It is safe for concurrent use. Who made it closes
// it.
type Subscriber struct {
	hub  *Hub
	opt  SubscriberOptions
	slow atomic.Bool // served by a goroutine of its own

	subs map[*Subscription]struct{} // guarded by hub.mu
	last *Update                    // the one that was queued last; guarded by hub.mu
	seen *recent                    // with several subscriptions, which may bring the same; guarded by hub.mu

	mu      sync.Mutex
	queue   queue
	active  bool          // in the senders' line, or served
	err     error         // why it is over
	idle    chan struct{} // Close waits for active to end; nil: it doesn't
	dropped bool          // the log knows
}

// recent is a few numbers of events.
type recent struct {
	seq [128]uint64
	at  int
}

// has tells whether seq is known, and knows it from now on.
func (r *recent) has(seq uint64) bool {
	if slices.Contains(r.seq[:], seq) {
		return true
	}
	r.seq[r.at%len(r.seq)] = seq
	r.at++
	return false
}

// NewSubscriber makes a Subscriber that has no subscription yet. One that there is no room for (ErrFull) is over
// already, as is one of a closed hub: subscribing says so, too.
func (h *Hub) NewSubscriber(o SubscriberOptions) *Subscriber {
	if o.ID == "" {
		o.ID = newID()
	}
	s := &Subscriber{hub: h, opt: o, subs: make(map[*Subscription]struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		s.end(ErrClosed)
	case h.opt.MaxSubscribers > 0 && len(h.joined) >= h.opt.MaxSubscribers:
		h.full++
		s.end(ErrFull)
	default:
		h.joined[s] = struct{}{}
	}
	return s
}

// ID is its name in presence.
func (s *Subscriber) ID() string { return s.opt.ID }

// Close ends all subscriptions. When it has returned no Write runs or comes any more, but for those of a
// Subscribe that still reads history: end its ctx. Not to be called within Write.
func (s *Subscriber) Close() {
	s.end(nil)
	s.hub.remove(s)
	s.mu.Lock()
	if !s.active {
		s.mu.Unlock()
		return
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	<-idle
}

// end makes s get nothing more. nil: Close was called.
func (s *Subscriber) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
}

func (s *Subscriber) endLocked(err error) {
	if s.err != nil {
		return
	}
	s.err, s.queue = err, queue{}
	if err == nil {
		s.err = context.Canceled
		return
	}
	if s.opt.End != nil {
		go s.opt.End(err)
	}
}

// Err is why s is over; nil while it isn't.
func (s *Subscriber) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// push puts u in the queue, within its bounds. It reports whether s has to be put in the
// senders' line. hub.mu is held.
func (s *Subscriber) push(u *Update) (ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	q, o := &s.queue, &s.hub.opt
	switch {
	case u == Gap:
		if q.gap() {
			return false
		}
	case u.policy == KeepLatest && q.latest(u):
		s.hub.dropped[KeepLatest].Add(1)
	case !q.fits(u, o.QueueEvents, o.QueueBytes) && !s.room(u):
		return false
	}
	q.add(u)
	if s.active {
		return false
	}
	s.active = true
	if s.slow.Load() {
		go s.alone(new(sender), true)
		return false
	}
	return true
}

// room makes room for u in a full queue. Where it can't, u is dropped or s ended.
func (s *Subscriber) room(u *Update) bool {
	q, o := &s.queue, &s.hub.opt
	dropped := q.shed(u, o.QueueEvents, o.QueueBytes)
	fits := q.fits(u, o.QueueEvents, o.QueueBytes)
	say := func(what string) {
		s.hub.log.Warn("subscriber too slow: "+what, "session", s.opt.Name, "topic", u.Topic,
			"waiting", q.events, "bytes", q.bytes, "policy", u.policy.String())
	}
	if !fits && u.policy == Disconnect {
		s.hub.tooSlow.Add(1)
		say("disconnected")
		s.endLocked(ErrTooSlow)
		return false
	}
	if !fits {
		dropped[u.policy]++
		if !q.gap() {
			q.add(Gap)
		}
	}
	for p, n := range dropped {
		s.hub.dropped[p].Add(n)
	}
	if !s.dropped {
		s.dropped = true
		say("events are dropped")
	}
	return fits
}

// write has one batch written. more: s still has something and is the caller's, else
// it is nobody's.
func (s *Subscriber) write(w *sender) (more bool) {
	s.mu.Lock()
	var gaps int
	w.batch, gaps = s.queue.take(w.batch[:0])
	if len(w.batch) == 0 {
		s.rest()
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	w.turn.Add(1)
	err := s.opt.Write(w.batch)
	w.turn.Add(1)
	n := len(w.batch)
	clear(w.batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.endLocked(err)
	} else {
		s.hub.delivered.Add(uint64(n - gaps))
		if gaps > 0 {
			s.hub.gaps.Add(uint64(gaps))
		}
	}
	if s.queue.empty() {
		s.rest()
		return false
	}
	return true
}

// rest: nobody serves s. s.mu is held.
func (s *Subscriber) rest() {
	s.active = false
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}
