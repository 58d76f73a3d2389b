package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tandem/hub"
)

// Memory is what several Buses of one process share, for tests of what is built on a Bus. The zero value works.
type Memory struct {
	// Keep bounds the history, in events. 0: no bound.
	Keep int

	delivering sync.Mutex // held while followers are called, so that they are in order
	mu         sync.Mutex
	seq        uint64
	last       string // ID of the newest event
	events     []*hub.Event
	followers  []*follower
	buses      []*memoryBus
	lost       []hub.Member
	fail       error
}

type follower struct {
	bus     *memoryBus
	topic   string
	f       hub.Follower
	stopped bool
}

type memoryBus struct {
	m       *Memory
	closed  bool
	members []hub.Member
}

// Bus gives the Bus of one more process. Kill ends it.
func (m *Memory) Bus() hub.Bus {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := &memoryBus{m: m}
	m.buses = append(m.buses, b)
	return b
}

// Kill ends a Bus of m as the death of its process would.
func (m *Memory) Kill(bus hub.Bus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := bus.(*memoryBus)
	b.closed = true
	m.lost = append(m.lost, b.members...)
	m.buses = slices.DeleteFunc(m.buses, func(o *memoryBus) bool { return o == b })
}

// Fail has all calls fail with err from now on; nil: work again.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Followed counts who follows topic.
func (m *Memory) Followed(topic string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.followers {
		if f.topic == topic {
			n++
		}
	}
	return n
}

// Lose has the followers of topic told of a gap.
func (m *Memory) Lose(topic string) {
	m.deliver(topic, nil)
}

func (m *Memory) deliver(topic string, e *hub.Event) {
	m.delivering.Lock()
	defer m.delivering.Unlock()
	m.deliverLocked(topic, e)
}

func (m *Memory) deliverLocked(topic string, e *hub.Event) {
	m.mu.Lock()
	all := slices.Clone(m.followers)
	m.mu.Unlock()
	for _, f := range all {
		m.mu.Lock()
		on := !f.stopped && !f.bus.closed && (f.topic == topic || f.topic == hub.Everything)
		m.mu.Unlock()
		if on {
			f.f(e, e == nil)
		}
	}
}

func (b *memoryBus) check(ctx context.Context) error {
	if b.closed {
		return fmt.Errorf("bustest: closed: %w", hub.ErrUnavailable)
	}
	if b.m.fail != nil {
		return b.m.fail
	}
	return ctx.Err()
}

func (b *memoryBus) Publish(ctx context.Context, e *hub.Event) error {
	m := b.m
	m.delivering.Lock()
	defer m.delivering.Unlock()
	m.mu.Lock()
	if err := b.check(ctx); err != nil {
		m.mu.Unlock()
		return err
	}
	if i := slices.IndexFunc(m.events, func(o *hub.Event) bool { return o.ID == e.ID }); i >= 0 {
		e.Seq, e.Time = m.events[i].Seq, m.events[i].Time
		m.mu.Unlock()
		return nil
	}
	m.seq++
	e.Seq, e.Time, m.last = m.seq, time.Now(), e.ID
	stored := *e
	m.events = append(m.events, &stored)
	if m.Keep > 0 && len(m.events) > m.Keep {
		m.events = m.events[len(m.events)-m.Keep:]
	}
	m.mu.Unlock()
	m.deliverLocked(e.Topic, &stored)
	return nil
}

func (b *memoryBus) Follow(topic string, f hub.Follower) (func(), error) {
	m := b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := b.check(context.Background()); err != nil {
		return nil, err
	}
	fo := &follower{bus: b, topic: topic, f: f}
	m.followers = append(m.followers, fo)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		fo.stopped = true
		m.followers = slices.DeleteFunc(m.followers, func(o *follower) bool { return o == fo })
	}, nil
}

func (b *memoryBus) History(ctx context.Context, q hub.Query, yield func(*hub.Event) bool) (hub.Span, error) {
	m := b.m
	m.mu.Lock()
	if err := b.check(ctx); err != nil {
		m.mu.Unlock()
		return hub.Span{}, err
	}
	span := hub.Span{Complete: true, LastID: m.last, LastSeq: m.seq}
	events := m.events
	whole := uint64(len(events)) == m.seq
	m.mu.Unlock()
	switch i := slices.IndexFunc(events, func(e *hub.Event) bool { return e.ID == q.After }); {
	case q.After != "" && i >= 0:
		events = events[i+1:]
	case q.After != "":
		span.Complete = false
		if !q.Earliest {
			events = nil
		}
	case q.Earliest:
		span.Complete = whole
	default:
		events = nil
	}
	for _, e := range events {
		if (q.Topics == nil || slices.Contains(q.Topics, e.Topic)) && !yield(e) {
			break
		}
	}
	return span, nil
}

func (b *memoryBus) Presence(ctx context.Context, changes []hub.Change, list func(hub.Member) bool) ([]hub.Member, error) {
	m := b.m
	m.mu.Lock()
	if err := b.check(ctx); err != nil {
		m.mu.Unlock()
		return nil, err
	}
	for _, c := range changes {
		b.members = slices.DeleteFunc(b.members, func(o hub.Member) bool {
			return o.Subscriber == c.Subscriber && o.MatchType == c.MatchType && o.Match == c.Match
		})
		if !c.Gone {
			b.members = append(b.members, c.Member)
		}
	}
	var all []hub.Member
	for _, o := range m.buses {
		all = append(all, o.members...)
	}
	lost := m.lost
	m.lost = nil
	m.mu.Unlock()
	if list != nil {
		for _, member := range all {
			if !list(member) {
				break
			}
		}
	}
	return lost, nil
}

// Stored counts the events that were ever stored.
func (m *Memory) Stored() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seq
}
