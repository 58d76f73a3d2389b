// Package hub is publish and subscribe: topics, events, history, who is there. Behind it
// is a [Bus], which joins the processes of one hub.
//
// [New] makes a Hub; [Hub.Publish] checks an event and stores it; [Hub.NewSubscriber] and
// [Subscriber.Subscribe] have events written, first those of the history that are asked for,
// then new ones, with nothing missed or doubled between the two and in the order that
// all subscribers see.
//
// The way of an event: the bus calls the hub once per process (a Follower); the hub finds the subscribers
// and puts the event, which is encoded once for all of them, into their queues; a few
// goroutines empty the queues (senders). A subscriber that doesn't take its events has a bounded queue and a
// [Policy], and a goroutine of its own: nobody waits for it.
package hub

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Defaults of Options.
const (
	DefaultMaxData           = 1 << 20
	DefaultQueueEvents       = 1024
	DefaultQueueBytes        = 1 << 20
	DefaultMaxMatchers       = 100
	MaxTopic                 = 2048 // bytes
	maxID, maxType           = 256, 256
	historyPage              = 256       // events, and
	historyBytes       int64 = 256 << 10 // bytes, that are looked at before a subscriber is told whether all are there
)

// Options of a Hub. The zero value works.
type Options struct {
	Log *slog.Logger // nil: slog.Default()
	// Base is the hub's URL, against which relative topics are resolved. "": NoBase.
	Base string
	// MaxData is the most that an event's Data may have, in bytes. Default 1 MiB.
	MaxData int
	// QueueEvents and QueueBytes bound what waits for one subscriber. Default 1024 and 1 MiB.
	QueueEvents int
	QueueBytes  int
	// Slow says what becomes of events that a subscriber is too slow for: the first rule that matches
	// the topic counts. None: Disconnect.
	Slow []Rule
	// MaxMatchers is how many matchers one subscriber may have. Default 100.
	MaxMatchers int
	// MaxSubscribers is how many subscribers there may be at once; further ones end with ErrFull. 0: no bound.
	MaxSubscribers int
	// Presence has the hub keep the list of its subscriptions at the bus, and publish an event
	// for each that begins or ends (Mercure's subscription events).
	Presence bool
}

// A Rule is the policy for the topics that a matcher selects.
type Rule struct {
	Matcher Matcher
	Policy  Policy
}

// A Hub passes the events of a Bus on to subscribers of this process, and publishes. It is safe
// for concurrent use.
type Hub struct {
	bus     Bus
	opt     Options
	log     *slog.Logger
	senders senders
	members members

	following sync.Mutex // held to follow at the bus and to stop that; taken before mu

	mu       sync.Mutex // guards what follows, and orders what subscribers get
	topics   map[string]*entry
	patterns map[Matcher]*entry // of subscriptions that have more than Exact ones
	every    *entry             // of the patterns: follows Everything; nil: nobody needs it
	closed   bool
	joined   map[*Subscriber]struct{}
	ready    []*Subscriber // scratch of dispatch

	full uint64 // subscribers for whom there was no room; guarded by mu

	published, unpublished   atomic.Uint64
	delivered, gaps, tooSlow atomic.Uint64
	dropped                  [len(policies)]atomic.Uint64
}

// New makes a Hub over bus, which it neither opens nor closes: nothing is asked of it before it is
// needed. opts may be nil.
func New(bus Bus, opts *Options) *Hub {
	h := &Hub{bus: bus, topics: make(map[string]*entry), patterns: make(map[Matcher]*entry), joined: make(map[*Subscriber]struct{})}
	if opts != nil {
		h.opt = *opts
	}
	if h.opt.Log == nil {
		h.opt.Log = slog.Default()
	}
	h.log = h.opt.Log
	for _, d := range []struct {
		p     *int
		value int
	}{{&h.opt.MaxData, DefaultMaxData}, {&h.opt.QueueEvents, DefaultQueueEvents}, {&h.opt.QueueBytes, DefaultQueueBytes}, {&h.opt.MaxMatchers, DefaultMaxMatchers}} {
		if *d.p <= 0 {
			*d.p = d.value
		}
	}
	h.members.hub = h
	return h
}

// Close ends all subscribers with ErrClosed, and tells the bus that they are gone. It doesn't wait for
// their writes: who made a Subscriber closes it.
func (h *Hub) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	var all []*Subscriber
	for s := range h.joined {
		all = append(all, s)
	}
	h.mu.Unlock()
	for _, s := range all {
		s.end(ErrClosed)
		h.remove(s)
	}
	return h.members.close(ctx)
}

// Stats are counts since the start, but for Subscribers.
type Stats struct {
	Subscribers int    // now
	Full        uint64 // subscribers that ended with ErrFull
	Published   uint64 // events of this process that were stored
	Unpublished uint64 // events that the bus didn't store, or not for sure
	Delivered   uint64 // events written, each for each subscriber
	Gaps        uint64 // times that a subscriber was told that events are missing, when it subscribed or later
	TooSlow     uint64 // subscribers that were disconnected for it
	// Dropped are events taken from a subscriber's queue, by their Policy: DropOldest for want of room, KeepLatest also
	// because a newer one had come.
	Dropped [len(policies)]uint64
}

// Stats counts.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	n, full := len(h.joined), h.full
	h.mu.Unlock()
	s := Stats{
		Subscribers: n, Full: full, Published: h.published.Load(), Unpublished: h.unpublished.Load(),
		Delivered: h.delivered.Load(), Gaps: h.gaps.Load(), TooSlow: h.tooSlow.Load(),
	}
	for p := range s.Dropped {
		s.Dropped[p] = h.dropped[p].Load()
	}
	return s
}
