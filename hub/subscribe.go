package hub

import (
	"context"
	"fmt"
	"slices"
)

// A Subscription is a set of matchers of one subscriber.
type Subscription struct {
	Matchers []Matcher
	// After asks for the history behind the event with this ID, Earliest for all of it, or for all of it where After
	// isn't stored. Without either there is none.
	After    string
	Earliest bool
	// Start is called once, before the first event: recovered says that of what is asked for nothing was
	// lost. An error is Subscribe's. May be nil.
	Start func(recovered bool) error

	subscriber *Subscriber
	exact      []string // the topics, where all matchers are Exact ones: to be followed one by one. nil: followed with all else
	places     []place

	// Guarded by hub.mu.
	live     bool      // past its history
	held     []*Update // what came meanwhile
	bytes    int       // of held
	overflow bool      // held was too small: the history has it
	from     uint64    // what comes up to this Seq is known
}

// entry is the subscriptions that one topic or pattern has.
type entry struct {
	slots []slot
	stop  func() // ends following; nil: it isn't, or not yet
}

type slot struct {
	sub *Subscription
	n   int // sub.places[n] is this slot
}

type place struct {
	of *entry
	at int
}

func (e *entry) add(sub *Subscription) {
	e.slots = append(e.slots, slot{sub, len(sub.places)})
	sub.places = append(sub.places, place{e, len(e.slots) - 1})
}

func (e *entry) remove(at int) {
	last := len(e.slots) - 1
	moved := e.slots[last]
	e.slots[at] = moved
	moved.sub.places[moved.n].at = at
	e.slots[last] = slot{}
	e.slots = e.slots[:last]
}

// Subscribe adds sub to s: it first has the history written that sub asks for, on the caller's goroutine, and returns
// once new events come. An error leaves nothing behind: *Refused, ctx's, the bus's, Write's or Start's. ctx is only for
// Subscribe itself. sub must not be changed afterwards.
func (s *Subscriber) Subscribe(ctx context.Context, sub *Subscription) error {
	h := s.hub
	if len(sub.Matchers) == 0 {
		return refusedf(400, "no topic: expected one matcher or more")
	}
	history := sub.After != "" || sub.Earliest
	sub.subscriber, sub.live, sub.exact = s, false, sub.topics()
	if err := h.insert(s, sub); err != nil {
		return err
	}
	err := func() error {
		if history {
			return sub.replay(ctx)
		}
		if err := sub.start(true); err != nil {
			return err
		}
		sub.goLive(0)
		return nil
	}()
	if err != nil {
		s.drop(sub)
		return err
	}
	h.members.joined(s, sub)
	return nil
}

// Unsubscribe removes sub. An event that is being written, or waits, may still come.
func (s *Subscriber) Unsubscribe(sub *Subscription) {
	if s.drop(sub) {
		s.hub.members.left(s, sub)
	}
}

func (sub *Subscription) start(recovered bool) error {
	if sub.Start == nil {
		return nil
	}
	return sub.Start(recovered)
}

// replay writes the history, and what came meanwhile.
func (sub *Subscription) replay(ctx context.Context) error {
	s := sub.subscriber
	h := s.hub
	q := Query{Topics: sub.exact, After: sub.After, Earliest: true}
	r := &replay{sub: sub, after: sub.After}
	for {
		var err error
		span, herr := h.bus.History(ctx, q, func(e *Event) bool {
			if err = ctx.Err(); err == nil {
				err = r.add(ctx, e)
			}
			return err == nil
		})
		if err == nil && herr != nil {
			err = fmt.Errorf("hub: history: %w", herr)
		}
		if err == nil {
			err = r.finish(span.Complete)
		}
		if err != nil {
			return err
		}
		if sub.goLive(span.LastSeq) {
			return nil
		}
		q.After, r.after, r.known, r.checked = span.LastID, span.LastID, span.LastSeq, false
	}
}

// topics are those that the matchers name; nil where one may select several.
func (sub *Subscription) topics() []string {
	var list []string
	for _, m := range sub.Matchers {
		topic, ok := m.Exact()
		if !ok {
			return nil
		}
		list = append(list, topic)
	}
	return list
}

// replay is the way of history to a subscriber, in one query or more. Whether all of it is there is known at a query's end, and told before its
// first event: where it is short it is kept so long, and where it is long the bus is asked once more.
type replay struct {
	sub     *Subscription
	after   string // the query's
	page    []*Update
	bytes   int64
	gaps    int    // in page
	told    bool   // Start was called
	checked bool   // whether the query is complete was told
	sure    bool   // and it was
	known   uint64 // what comes up to this Seq was written
}

func (r *replay) add(ctx context.Context, e *Event) error {
	s := r.sub.subscriber
	if e.Seq <= r.known {
		return nil
	}
	if r.sub.exact == nil && !r.any(r.sub.Matchers, e.Topic) || e.Private && !r.any(s.opt.Readable, e.Topic) {
		return nil
	}
	r.page = append(r.page, &Update{Event: e})
	r.bytes += int64(r.page[len(r.page)-1].size())
	if len(r.page) < historyPage && r.bytes < historyBytes {
		return nil
	}
	if !r.checked {
		span, err := s.hub.bus.History(ctx, Query{Topics: []string{Everything}, After: r.after, Earliest: r.after == ""}, func(*Event) bool { return true })
		if err != nil {
			return fmt.Errorf("hub: history: %w", err)
		}
		if err := r.check(span.Complete); err != nil {
			return err
		}
	}
	return r.flush()
}

// any tells whether one of list matches. Nothing is cached: each event of a history is another topic's.
func (r *replay) any(list []Matcher, topic string) bool {
	for _, m := range list {
		if m.Match(topic) {
			return true
		}
	}
	return false
}

// check tells, before what the page has, whether all is there.
func (r *replay) check(complete bool) error {
	r.checked, r.sure = true, complete
	switch {
	case !r.told:
		r.told = true
		if !complete {
			r.sub.subscriber.hub.gaps.Add(1)
		}
		return r.sub.start(complete)
	case !complete:
		r.page = slices.Insert(r.page, 0, Gap)
		r.gaps++
	}
	return nil
}

// finish writes what is left when a query is through.
func (r *replay) finish(complete bool) error {
	switch {
	case !r.checked:
		if err := r.check(complete); err != nil {
			return err
		}
	case !complete && r.sure: // lost while it was read
		r.page = append(r.page, Gap)
		r.gaps++
	}
	return r.flush()
}

func (r *replay) flush() error {
	if len(r.page) == 0 {
		return nil
	}
	s := r.sub.subscriber
	if err := s.Err(); err != nil {
		return err
	}
	err := s.opt.Write(r.page)
	s.hub.delivered.Add(uint64(len(r.page) - r.gaps))
	s.hub.gaps.Add(uint64(r.gaps))
	clear(r.page)
	r.page, r.bytes, r.gaps = r.page[:0], 0, 0
	return err
}

// goLive has new events come, behind seq. False: too many have come meanwhile, and the history has
// to be read on.
func (sub *Subscription) goLive(seq uint64) bool {
	s := sub.subscriber
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	held, overflow := sub.held, sub.overflow
	sub.held, sub.bytes, sub.overflow = nil, 0, false
	if overflow {
		return false
	}
	sub.live, sub.from = true, seq
	var ready []*Subscriber
	for _, u := range held {
		ready = h.offer(sub, u, ready)
	}
	h.senders.add(ready)
	return true
}

// Matcher is ParseMatcher with the hub's URL as the base.
func (h *Hub) Matcher(typ, pattern string) (Matcher, error) {
	return ParseMatcher(typ, pattern, h.opt.Base)
}
