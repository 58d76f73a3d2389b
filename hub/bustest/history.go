package bustest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"tandem/hub"
)

// Queries of a history that nothing has been lost of.
func testHistory(t *testing.T, newHub Hub) {
	buses := several(2, newHub(t, 0))
	for i, topic := range []string{"a", "b", "a", "c", "b", "a"} {
		publish(t, buses[i%2], name("e", i), topic, "")
	}
	for _, b := range buses {
		for _, tt := range []struct {
			q        hub.Query
			want     string
			complete bool
		}{
			{hub.Query{}, "", true},
			{hub.Query{Topics: []string{"a"}}, "", true},
			{hub.Query{Earliest: true}, "e-0 e-1 e-2 e-3 e-4 e-5", true},
			{hub.Query{Topics: []string{"a"}, Earliest: true}, "e-0 e-2 e-5", true},
			{hub.Query{Topics: []string{"c", "a"}, Earliest: true}, "e-0 e-2 e-3 e-5", true},
			{hub.Query{Topics: []string{"a", "a"}, Earliest: true}, "e-0 e-2 e-5", true},
			{hub.Query{Topics: []string{"none"}, Earliest: true}, "", true},
			{hub.Query{After: "e-1"}, "e-2 e-3 e-4 e-5", true},
			{hub.Query{After: "e-1", Earliest: true}, "e-2 e-3 e-4 e-5", true},
			{hub.Query{After: "e-1", Topics: []string{"a"}}, "e-2 e-5", true},
			{hub.Query{After: "e-3", Topics: []string{"b", "none"}}, "e-4", true},
			{hub.Query{After: "e-5"}, "", true},
			{hub.Query{After: "unknown"}, "", false},
			{hub.Query{After: "unknown", Earliest: true}, "e-0 e-1 e-2 e-3 e-4 e-5", false},
			{hub.Query{After: "unknown", Earliest: true, Topics: []string{"b"}}, "e-1 e-4", false},
			{hub.Query{After: "E-1"}, "", false},
		} {
			got, span := history(t, b, tt.q)
			if ids(got) != tt.want || span.Complete != tt.complete || span.LastID != "e-5" {
				t.Errorf("%+v: got %s, %+v\nwant %s, complete %v", tt.q, ids(got), span, tt.want, tt.complete)
			}
		}
		var n int
		if _, err := b.History(t.Context(), hub.Query{Earliest: true}, func(*hub.Event) bool { n++; return n < 3 }); err != nil || n != 3 {
			t.Errorf("yield ended it at 3: called %d times, %v", n, err)
		}
		// yield may call the bus, and what is stored meanwhile doesn't come.
		var got []*hub.Event
		_, err := b.History(t.Context(), hub.Query{Earliest: true}, func(e *hub.Event) bool {
			if len(got) == 0 {
				publish(t, b, "e-0", "a", "")
			}
			_, span := history(t, b, hub.Query{})
			got = append(got, e)
			return span.LastID == "e-5"
		})
		if err != nil || len(got) != 6 {
			t.Errorf("got %s, %v", ids(got), err)
		}
	}
}

func testEmpty(t *testing.T, newHub Hub) {
	b := newHub(t, 0)()
	for _, tt := range []struct {
		q        hub.Query
		complete bool
	}{
		{hub.Query{}, true},
		{hub.Query{Earliest: true}, true},
		{hub.Query{After: "x"}, false},
		{hub.Query{After: "x", Earliest: true}, false},
	} {
		if got, span := history(t, b, tt.q); len(got) != 0 || span != (hub.Span{Complete: tt.complete}) {
			t.Errorf("%+v: got %s, %+v", tt.q, ids(got), span)
		}
	}
	first := publish(t, b, "x", "t", "")
	if got, span := history(t, b, hub.Query{After: "x"}); len(got) != 0 || span != (hub.Span{Complete: true, LastID: "x", LastSeq: first.Seq}) {
		t.Errorf("after the only one: got %s, %+v", ids(got), span)
	}
}

// A bound drops the oldest, and those who ask for what was dropped are told.
func testBounds(t *testing.T, newHub Hub) {
	const most, all = 20, 50
	buses := several(2, newHub(t, most))
	l, _ := follow(t, buses[1], "t")
	for i := range most {
		publish(t, buses[i%2], name("e", i), "t", "")
	}
	if got, span := history(t, buses[0], hub.Query{Earliest: true}); len(got) != most || !span.Complete {
		t.Fatalf("before the bound: got %s, %+v", ids(got), span)
	}
	for i := most; i < all; i++ {
		publish(t, buses[i%2], name("e", i), "t", "")
	}
	got, span := history(t, buses[0], hub.Query{Earliest: true})
	if len(got) != most || got[0].ID != name("e", all-most) || span.Complete || span.LastID != name("e", all-1) {
		t.Fatalf("behind the bound: got %s, %+v", ids(got), span)
	}
	for i, tt := range []struct {
		q        hub.Query
		n        int
		complete bool
	}{
		{hub.Query{After: "e-3"}, 0, false},
		{hub.Query{After: "e-3", Earliest: true}, most, false},
		{hub.Query{After: name("e", all-most)}, most - 1, true},
		{hub.Query{After: name("e", all-1), Earliest: true}, 0, true},
		{hub.Query{Topics: []string{"t"}, Earliest: true}, most, false},
		{hub.Query{Topics: []string{"other"}, Earliest: true}, 0, false},
	} {
		if got, span := history(t, buses[i%2], tt.q); len(got) != tt.n || span.Complete != tt.complete {
			t.Errorf("%+v: got %s, %+v", tt.q, ids(got), span)
		}
	}
	if got := l.until(t, name("e", all-1)); len(got) != all && l.gaps == 0 {
		t.Errorf("the follower has %d of %d, and was told of no gap", len(got), all)
	}
}

// Who follows and then reads history has each event once, whatever is published meanwhile.
func testFollowHistory(t *testing.T, newHub Hub) {
	buses := several(3, newHub(t, 0))
	publish(t, buses[0], "start", "t", "")
	const publishers, each, subscribers = 2, 150, 12
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for n := range each {
				if err := buses[p].Publish(t.Context(), &hub.Event{ID: name("e", p, n), Topic: "t"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	subs := make([]*subscriber, subscribers)
	for i := range subs {
		subs[i] = subscribe(t, buses[i%len(buses)], hub.Query{Topics: []string{"t"}, After: "start"})
	}
	wg.Wait()
	publish(t, buses[1], "end", "t", "")
	stored, _ := history(t, buses[2], hub.Query{After: "start"})
	for i, s := range subs {
		s.live.until(t, "end")
		if got := s.got(); ids(got) != ids(stored) {
			t.Errorf("subscriber %d, of which %d in history:\ngot  %s\nwant %s", i, len(s.past), ids(got), ids(stored))
		}
		s.live.check(t)
	}
}

// subscriber follows one topic, and has read its history, as a hub does it.
type subscriber struct {
	topic string
	live  *log
	stop  func()
	past  []*hub.Event
	span  hub.Span
}

func subscribe(t *testing.T, b hub.Bus, q hub.Query) *subscriber {
	t.Helper()
	s := &subscriber{topic: q.Topics[0]}
	s.live, s.stop = follow(t, b, s.topic)
	if s.topic == hub.Everything {
		q.Topics = nil
	}
	s.past, s.span = history(t, b, q)
	return s
}

func (s *subscriber) got() []*hub.Event {
	return append(s.past[:len(s.past):len(s.past)], dated(s.live.all(), s.span.LastSeq+1)...)
}

func testContexts(t *testing.T, newHub Hub) {
	b := newHub(t, 0)()
	publish(t, b, "a", "t", "")
	publish(t, b, "b", "t", "")
	gone := cancelled()
	if err := b.Publish(gone, &hub.Event{ID: "x", Topic: "t"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := b.History(gone, hub.Query{Earliest: true}, func(*hub.Event) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("History: %v", err)
	}
	if _, err := b.Presence(gone, nil, func(hub.Member) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("Presence: %v", err)
	}
	// That was no end of the bus.
	publish(t, b, "x", "t", "")
	if got, _ := history(t, b, hub.Query{Earliest: true}); ids(got) != "a b x" {
		t.Errorf("got %s", ids(got))
	}
}
