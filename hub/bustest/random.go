package bustest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"tandem/hub"
)

// testRandom has processes and subscribers come and go while others publish, some of it twice. Then
// each subscriber must have had, in order and once, what was stored between its coming and its
// going, and what was acknowledged must be stored.
func testRandom(t *testing.T, newHub Hub, random *rand.Rand, seed uint64) {
	t.Logf("seed %d", seed)
	open := newHub(t, 0)
	topics := []string{"a", "b", "c"}
	var buses []Instance
	for range 3 {
		buses = append(buses, open())
	}
	publish(t, buses[0], "start", "a", "")

	type stay struct {
		*subscriber
		bus    Instance
		from   string   // the ID behind which it asked
		before []string // acknowledged when it was stopped
	}
	var present, past []*stay
	var acknowledged []string
	known := []string{"start"}
	leave := func(i int) {
		s := present[i]
		present = append(present[:i], present[i+1:]...)
		// What it must have had by now is on its way: it is waited for.
		s.before = slices.Clone(acknowledged)
		waitFor(t, buses[0], s.subscriber, s.from)
		s.stop()
		past = append(past, s)
	}

	for step := range 60 {
		switch k := random.IntN(10); {
		case k < 5: // a burst by several at once, with an ID that is published twice
			var wg sync.WaitGroup
			var mu sync.Mutex
			for p := range 1 + random.IntN(4) {
				b := buses[random.IntN(len(buses))]
				topic := topics[random.IntN(len(topics))]
				n := 1 + random.IntN(5)
				again := known[random.IntN(len(known))]
				wg.Go(func() {
					for i := range n {
						e := &hub.Event{ID: name("e", step, p, i), Topic: topic}
						if err := b.Publish(t.Context(), e); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						acknowledged = append(acknowledged, e.ID)
						mu.Unlock()
					}
					if err := b.Publish(t.Context(), &hub.Event{ID: again, Topic: topic}); err != nil {
						t.Error(err)
					}
				})
				if random.IntN(3) == 0 { // a subscriber comes amid it
					b, topic, from := buses[random.IntN(len(buses))], topics[random.IntN(len(topics))], known[random.IntN(len(known))]
					s := subscribe(t, b, hub.Query{Topics: []string{topic}, After: from})
					present = append(present, &stay{subscriber: s, bus: b, from: from})
				}
			}
			wg.Wait()
			known = append([]string{"start"}, acknowledged...)
		case k < 7:
			topic := append(topics, hub.Everything)[random.IntN(len(topics)+1)]
			b, from := buses[random.IntN(len(buses))], known[random.IntN(len(known))]
			s := subscribe(t, b, hub.Query{Topics: []string{topic}, After: from})
			present = append(present, &stay{subscriber: s, bus: b, from: from})
		case k < 9:
			if len(present) > 0 {
				leave(random.IntN(len(present)))
			}
		default: // a process ends, its subscribers with it, and another one begins
			i := random.IntN(len(buses))
			for j := len(present) - 1; j >= 0; j-- {
				if present[j].bus == buses[i] {
					leave(j)
				}
			}
			if err := buses[i].Close(); err != nil {
				t.Fatal(err)
			}
			buses[i] = open()
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for len(present) > 0 {
		leave(0)
	}

	stored, span := history(t, buses[0], hub.Query{After: "start"})
	if len(stored) != len(acknowledged) || !span.Complete {
		t.Fatalf("%d events are stored of %d that were acknowledged, %+v", len(stored), len(acknowledged), span)
	}
	at := map[string]int{"start": -1}
	for i, e := range stored {
		at[e.ID] = i
	}
	for _, s := range past {
		s.live.check(t)
		if !s.span.Complete {
			t.Errorf("history behind %s isn't complete", s.from)
		}
		want := ofTopic(stored[at[s.from]+1:], s.topic)
		got := s.got()
		if len(got) > len(want) || ids(got) != ids(want[:len(got)]) {
			t.Errorf("seed %d: the subscriber of %s behind %s\ngot  %s\nwant %s", seed, s.topic, s.from, ids(got), ids(want))
			continue
		}
		rest := make(map[string]bool)
		for _, e := range want[len(got):] {
			rest[e.ID] = true
		}
		for _, id := range s.before {
			if rest[id] {
				t.Errorf("seed %d: the subscriber of %s behind %s missed %s", seed, s.topic, s.from, id)
			}
		}
	}
	t.Logf("%d events, %d subscribers", len(stored), len(past))
}

// waitFor waits until s has the newest of its topic.
func waitFor(t *testing.T, b hub.Bus, s *subscriber, from string) {
	t.Helper()
	q := hub.Query{After: from}
	if s.topic != hub.Everything {
		q.Topics = []string{s.topic}
	}
	stored, _ := history(t, b, q)
	if n := len(stored); n > 0 && stored[n-1].Seq > s.span.LastSeq {
		s.live.until(t, stored[n-1].ID)
	}
}
