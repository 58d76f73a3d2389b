package bustest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"tandem/hub"
)

// testTopics: followers of several topics in one process are called in the order of Seq over all of these, one at a time.
func testTopics(t *testing.T, newHub Hub) {
	const each = 60
	topics := []string{"a", "b", "c", "d"}
	buses := several(3, newHub(t, 0))
	publish(t, buses[0], "start", "a", "")
	var logs []*log
	for _, b := range buses {
		l := newLog()
		for _, topic := range topics[:3] {
			followInto(t, b, topic, l)
		}
		logs = append(logs, l)
	}
	var wg sync.WaitGroup
	for p := range 2 * len(buses) {
		wg.Go(func() {
			for n := range each {
				e := &hub.Event{ID: name("e", p, n), Topic: topics[(p+n)%len(topics)]}
				if err := buses[p%len(buses)].Publish(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	publish(t, buses[0], "end", "b", "")
	stored, _ := history(t, buses[0], hub.Query{After: "start"})
	want := ids(ofTopics(stored, topics[:3]))
	for i, l := range logs {
		if got := ids(l.until(t, "end")); got != want {
			t.Errorf("process %d:\ngot  %s\nwant %s", i, got, want)
		}
		l.check(t)
	}
}

// testResume: subscribers of several topics are cut after any event, while others publish, and resume after it
// in any process: each has all events of its topics, once, in order.
func testResume(t *testing.T, newHub Hub, random *rand.Rand, seed uint64) {
	t.Logf("seed %d", seed)
	const publishers, each, subscribers = 4, 100, 8
	topics := []string{"a", "b", "c", "d", "e"}
	buses := several(3, newHub(t, 0))
	publish(t, buses[0], "start", "a", "")

	var wg sync.WaitGroup
	allowed := make(chan struct{}, publishers*each)
	for p := range publishers {
		mine := rand.New(rand.NewPCG(seed, uint64(p)+1))
		wg.Go(func() {
			n := 0
			for range allowed {
				e := &hub.Event{ID: name("e", p, n), Topic: topics[mine.IntN(len(topics))]}
				if err := buses[mine.IntN(len(buses))].Publish(t.Context(), e); err != nil {
					t.Error(err)
				}
				n++
			}
		})
	}

	list := make([]*resuming, subscribers)
	for i := range list {
		s := &resuming{topics: slices.Clone(topics), after: "start"}
		random.Shuffle(len(s.topics), func(i, j int) { s.topics[i], s.topics[j] = s.topics[j], s.topics[i] })
		s.topics = s.topics[:2+random.IntN(3)]
		s.come(t, buses[random.IntN(len(buses))])
		list[i] = s
	}
	cuts := 0
	for left := publishers * each; left > 0; cuts++ {
		burst := min(left, random.IntN(20))
		for range burst {
			allowed <- struct{}{}
		}
		left -= burst
		s := list[random.IntN(len(list))]
		s.cut(random)
		s.come(t, buses[random.IntN(len(buses))])
	}
	close(allowed)
	wg.Wait()
	for _, topic := range topics {
		publish(t, buses[0], name("end", topic), topic, "")
	}
	stored, _ := history(t, buses[0], hub.Query{After: "start"})
	if len(stored) != publishers*each+len(topics) {
		t.Fatalf("%d events are stored, expected %d", len(stored), publishers*each+len(topics))
	}
	for i, s := range list {
		want := ofTopics(stored, s.topics)
		if last := want[len(want)-1]; last.Seq > s.span.LastSeq {
			s.live.until(t, last.ID)
		}
		s.live.check(t)
		if got := append(s.had, s.got()...); ids(got) != ids(want) {
			t.Errorf("seed %d: subscriber %d of %q\ngot  %s\nwant %s", seed, i, s.topics, ids(got), ids(want))
		}
	}
	t.Logf("%d cuts", cuts)
}

// resuming is a subscriber of several topics that knows only what it has had.
type resuming struct {
	subscriber
	topics []string
	after  string // the last that it had
	had    []*hub.Event
}

func (s *resuming) come(t *testing.T, b hub.Bus) {
	t.Helper()
	l := newLog()
	var stops []func()
	for _, topic := range s.topics {
		stops = append(stops, followInto(t, b, topic, l))
	}
	s.live, s.stop = l, func() {
		for _, stop := range stops {
			stop()
		}
	}
	s.past, s.span = history(t, b, hub.Query{Topics: s.topics, After: s.after})
	if !s.span.Complete {
		t.Errorf("history behind %s isn't complete", s.after)
	}
}

// cut ends it anywhere in what it was sent.
func (s *resuming) cut(random *rand.Rand) {
	s.stop()
	got := s.got()
	got = got[:random.IntN(len(got)+1)]
	s.had = append(s.had, got...)
	if n := len(got); n > 0 {
		s.after = got[n-1].ID
	}
}

func followInto(t *testing.T, b hub.Bus, topic string, l *log) (stop func()) {
	t.Helper()
	stop, err := b.Follow(topic, l.tell)
	if err != nil {
		t.Fatalf("Follow(%q): %v", topic, err)
	}
	t.Cleanup(stop)
	return stop
}

func ofTopics(events []*hub.Event, topics []string) []*hub.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e *hub.Event) bool { return !slices.Contains(topics, e.Topic) })
}
