// Package bustest is what every [hub.Bus] has to pass.
package bustest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/hub"
)

// An Instance is the Bus of one process.
type Instance interface {
	hub.Bus
	Close() error
}

// A Hub makes a new hub without events or members, and returns what opens one more Bus
// of it, as another process would. The history is to keep maxEvents, give or take
// none; 0 is no bound that a test reaches. What is opened is closed by bustest, or else by the test's end.
type Hub func(t *testing.T, maxEvents int) (open func() Instance)

// Run is the suite. The random part uses seed.
func Run(t *testing.T, newHub Hub, seed uint64) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Hub)
	}{
		{"order", testOrder},
		{"topics", testTopics},
		{"fields", testFields},
		{"same id", testSameID},
		{"same id at once", testSameIDAtOnce},
		{"history", testHistory},
		{"empty", testEmpty},
		{"bounds", testBounds},
		{"follow, then history", testFollowHistory},
		{"stop", testStop},
		{"contexts", testContexts},
		{"presence", testPresence},
		{"presence of the dead", testPresenceLost},
		{"close", testClose},
		{"random", func(t *testing.T, h Hub) { testRandom(t, h, rand.New(rand.NewPCG(seed, 0)), seed) }},
		{"resume", func(t *testing.T, h Hub) { testResume(t, h, rand.New(rand.NewPCG(seed, 0)), seed) }},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newHub) })
	}
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// log is what one follower was told.
type log struct {
	mu     sync.Mutex
	events []*hub.Event
	gaps   int
	news   chan struct{}
	inside bool
	twice  bool // two calls at once
}

func newLog() *log { return &log{news: make(chan struct{}, 1)} }

func (l *log) tell(e *hub.Event, lost bool) {
	l.mu.Lock()
	l.twice = l.twice || l.inside
	l.inside = true
	if e != nil {
		l.events = append(l.events, e)
	}
	if lost {
		l.gaps++
	}
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	l.mu.Lock()
	l.inside = false
	l.mu.Unlock()
}

func (l *log) all() []*hub.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// until waits for an event with an ID, and returns all up to then.
func (l *log) until(t *testing.T, id string) []*hub.Event {
	t.Helper()
	timeout := time.After(patience)
	for {
		all := l.all()
		if slices.ContainsFunc(all, func(e *hub.Event) bool { return e.ID == id }) {
			return all
		}
		select {
		case <-l.news:
		case <-timeout:
			t.Fatalf("the follower wasn't told of %q; it has %s", id, ids(all))
		}
	}
}

// check looks at what holds for every follower that had no reason for a gap.
func (l *log) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gaps > 0 {
		t.Errorf("%d gaps were told of", l.gaps)
	}
	if l.twice {
		t.Error("a follower was called twice at once")
	}
	inOrder(t, l.events)
}

func inOrder(t *testing.T, events []*hub.Event) {
	t.Helper()
	var last uint64
	for _, e := range events {
		if e.Seq <= last || e.Seq >= 1<<53 {
			t.Errorf("event %q has Seq %d behind %d", e.ID, e.Seq, last)
		}
		last = e.Seq
	}
}

func follow(t *testing.T, b hub.Bus, topic string) (*log, func()) {
	t.Helper()
	l := newLog()
	return l, followInto(t, b, topic, l)
}

// publish is Publish of one that must be stored.
func publish(t *testing.T, b hub.Bus, id, topic, data string) *hub.Event {
	t.Helper()
	e := &hub.Event{ID: id, Topic: topic, Data: data}
	if err := b.Publish(t.Context(), e); err != nil {
		t.Fatalf("Publish(%q): %v", id, err)
	}
	return e
}

// history reads what q asks for.
func history(t *testing.T, b hub.Bus, q hub.Query) ([]*hub.Event, hub.Span) {
	t.Helper()
	var events []*hub.Event
	span, err := b.History(t.Context(), q, func(e *hub.Event) bool {
		events = append(events, e)
		return true
	})
	if err != nil {
		t.Fatalf("History(%+v): %v", q, err)
	}
	inOrder(t, events)
	if n := len(events); n > 0 && events[n-1].Seq > span.LastSeq {
		t.Errorf("History(%+v) passed Seq %d on, and says that the last is %d", q, events[n-1].Seq, span.LastSeq)
	}
	return events, span
}

// ids are the IDs of events, for comparing and for messages.
func ids(events []*hub.Event) string {
	var b strings.Builder
	for i, e := range events {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(e.ID)
	}
	return b.String()
}

func ofTopic(events []*hub.Event, topic string) []*hub.Event {
	if topic == hub.Everything {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), func(e *hub.Event) bool { return e.Topic != topic })
}

// dated cuts off what was stored before first: a follower may have been told of it.
func dated(events []*hub.Event, first uint64) []*hub.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e *hub.Event) bool { return e.Seq < first })
}

func several(n int, open func() Instance) []Instance {
	l := make([]Instance, n)
	for i := range l {
		l[i] = open()
	}
	return l
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// name joins parts to an ID.
func name(parts ...any) string {
	return strings.ReplaceAll(strings.TrimSpace(fmt.Sprintln(parts...)), " ", "-")
}
