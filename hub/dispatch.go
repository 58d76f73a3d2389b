package hub

import (
	"errors"
	"fmt"
)

// insert makes sub known, so that what comes is held for it, and has the bus followed for what it needs.
func (h *Hub) insert(s *Subscriber, sub *Subscription) error {
	h.following.Lock()
	defer h.following.Unlock()
	h.mu.Lock()
	n := len(sub.Matchers)
	for other := range s.subs {
		n += len(other.Matchers)
	}
	_, joined := h.joined[s]
	var err error
	switch {
	case !joined || h.closed:
		if err = s.Err(); err != ErrFull {
			err = ErrClosed
		}
	case n > h.opt.MaxMatchers:
		err = refusedf(400, "%d topics and patterns: expected %d at most for one subscriber", n, h.opt.MaxMatchers)
	}
	if err != nil {
		h.mu.Unlock()
		return err
	}
	var needed []string // to follow
	if len(s.subs) > 0 && s.seen == nil {
		s.seen = new(recent)
	}
	s.subs[sub] = struct{}{}
	if sub.exact != nil {
		for _, t := range sub.exact {
			e := h.topics[t]
			if e == nil {
				e = new(entry)
				h.topics[t] = e
				needed = append(needed, t)
			}
			e.add(sub)
		}
	} else {
		for _, m := range sub.Matchers {
			e := h.patterns[m]
			if e == nil {
				e = new(entry)
				h.patterns[m] = e
			}
			e.add(sub)
		}
		if h.every == nil {
			h.every = new(entry)
			needed = append(needed, Everything)
		}
		h.every.add(sub)
	}
	h.mu.Unlock()
	for _, t := range needed {
		stop, ferr := h.bus.Follow(t, func(e *Event, lost bool) { h.dispatch(t, e, lost) })
		if ferr != nil {
			err = errors.Join(err, fmt.Errorf("hub: following %.100q: %w", t, ferr))
			continue
		}
		h.mu.Lock()
		if e := h.followed(t); e != nil {
			e.stop, stop = stop, nil
		}
		h.mu.Unlock()
		if stop != nil {
			stop()
		}
	}
	if err != nil {
		h.forget(s, sub)
	}
	return err
}

// followed is the entry that topic is followed for.
func (h *Hub) followed(topic string) *entry {
	if topic == Everything {
		return h.every
	}
	return h.topics[topic]
}

// drop removes sub from s. It reports whether it was there.
func (s *Subscriber) drop(sub *Subscription) bool {
	s.hub.following.Lock()
	defer s.hub.following.Unlock()
	return s.hub.forget(s, sub)
}

// forget takes sub out, and stops following what nobody needs any more. following is held.
func (h *Hub) forget(s *Subscriber, sub *Subscription) bool {
	h.mu.Lock()
	if _, ok := s.subs[sub]; !ok {
		h.mu.Unlock()
		return false
	}
	delete(s.subs, sub)
	for _, p := range sub.places {
		p.of.remove(p.at)
	}
	sub.places, sub.held = nil, nil
	var stops []func()
	unused := func(e *entry) bool {
		if len(e.slots) > 0 {
			return false
		}
		if e.stop != nil {
			stops = append(stops, e.stop)
		}
		return true
	}
	if sub.exact != nil {
		for _, t := range sub.exact {
			if e := h.topics[t]; e != nil && unused(e) {
				delete(h.topics, t)
			}
		}
	} else {
		for _, m := range sub.Matchers {
			if e := h.patterns[m]; e != nil && unused(e) {
				delete(h.patterns, m)
			}
		}
		if unused(h.every) {
			h.every = nil
		}
	}
	h.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	return true
}

// remove takes s out.
func (h *Hub) remove(s *Subscriber) {
	h.following.Lock()
	h.mu.Lock()
	delete(h.joined, s)
	var subs []*Subscription
	for sub := range s.subs {
		subs = append(subs, sub)
	}
	h.mu.Unlock()
	for _, sub := range subs {
		h.forget(s, sub)
	}
	h.following.Unlock()
	for _, sub := range subs {
		h.members.left(s, sub)
	}
}

// dispatch is called by the bus with what it has for topic.
func (h *Hub) dispatch(topic string, e *Event, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ready := h.ready[:0]
	at := h.followed(topic)
	if lost && at != nil {
		for _, slot := range at.slots {
			ready = h.offer(slot.sub, Gap, ready)
		}
	}
	if e != nil && at != nil {
		u := &Update{Event: e, policy: h.policy(e.Topic)}
		readers := readers{topic: e.Topic}
		each := func(at *entry) {
			for _, slot := range at.slots {
				if !e.Private || readers.may(slot.sub.subscriber.opt.Readable) {
					ready = h.offer(slot.sub, u, ready)
				}
			}
		}
		if topic != Everything {
			each(at)
		} else {
			for m, at := range h.patterns { // each is evaluated once, whatever the number of subscribers
				if m.Match(e.Topic) {
					each(at)
				}
			}
		}
	}
	h.senders.add(ready)
	clear(ready)
	h.ready = ready[:0]
}

// readers knows which matchers select a topic: a token's are often those of many.
type readers struct {
	topic string
	known map[Matcher]bool
}

func (r *readers) may(list []Matcher) bool {
	for _, m := range list {
		match, ok := r.known[m]
		if !ok {
			if r.known == nil {
				r.known = make(map[Matcher]bool)
			}
			match = m.Match(r.topic)
			r.known[m] = match
		}
		if match {
			return true
		}
	}
	return false
}

// offer gives u to sub: to its subscriber's queue, or to what is held while it reads its history. h.mu is
// held.
func (h *Hub) offer(sub *Subscription, u *Update, ready []*Subscriber) []*Subscriber {
	s := sub.subscriber
	switch {
	case !sub.live:
		if sub.overflow {
			return ready
		}
		if len(sub.held) >= h.opt.QueueEvents || sub.bytes+u.size() > h.opt.QueueBytes && len(sub.held) > 0 {
			sub.held, sub.bytes, sub.overflow = nil, 0, true
			return ready
		}
		sub.held = append(sub.held, u)
		sub.bytes += u.size()
		return ready
	case u.Event == nil:
	case u.Seq <= sub.from || s.last == u:
		return ready
	case s.seen != nil && s.seen.has(u.Seq):
		return ready
	}
	s.last = u
	if s.push(u) {
		ready = append(ready, s)
	}
	return ready
}

func (h *Hub) policy(topic string) Policy {
	for _, r := range h.opt.Slow {
		if r.Matcher.Match(topic) {
			return r.Policy
		}
	}
	return Disconnect
}
