package bustest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/hub"
)

// Several processes publish to several topics at once, and all followers see one order.
func testOrder(t *testing.T, newHub Hub) {
	const each = 40
	topics := []string{"a", "b", hub.Everything}
	buses := several(3, newHub(t, 0))
	logs := make(map[string][]*log)
	for _, b := range buses {
		for _, topic := range topics {
			l, _ := follow(t, b, topic)
			logs[topic] = append(logs[topic], l)
		}
	}
	var wg sync.WaitGroup
	for p := range 2 * len(buses) {
		wg.Go(func() {
			for n := range each {
				e := &hub.Event{ID: name("e", p, n), Topic: topics[n%2], Data: "data"}
				if err := buses[p%len(buses)].Publish(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stored, span := history(t, buses[0], hub.Query{Earliest: true})
	if len(stored) != 2*len(buses)*each || !span.Complete {
		t.Fatalf("%d events are stored (%+v), expected %d", len(stored), span, 2*len(buses)*each)
	}
	last := map[string]string{hub.Everything: stored[len(stored)-1].ID}
	for _, e := range stored {
		last[e.Topic] = e.ID
	}
	for topic, list := range logs {
		want := ids(ofTopic(stored, topic))
		for i, l := range list {
			if got := ids(l.until(t, last[topic])); got != want {
				t.Errorf("topic %s, follower %d:\ngot  %s\nwant %s", topic, i, got, want)
			}
			l.check(t)
		}
	}
	// The order of one publisher's events is the one in which it published.
	next := make(map[string]int)
	for _, e := range stored {
		p, _, _ := strings.Cut(strings.TrimPrefix(e.ID, "e-"), "-")
		if e.ID != name("e", p, next[p]) {
			t.Errorf("%s comes where %d is next", e.ID, next[p])
		}
		next[p]++
	}
}

// What an event has arrives with followers of all processes, and in history.
func testFields(t *testing.T, newHub Hub) {
	buses := several(2, newHub(t, 0))
	big := strings.Repeat("0123456789abcdef", 32<<10) // 512 KiB
	events := []*hub.Event{
		{ID: "plain", Topic: "https://example.com/books/1", Data: "{}"},
		{ID: "full", Topic: "t", Type: "update", Data: "two\nlines", Retry: 1<<63 + 7, Private: true},
		{ID: "empty", Topic: "t"},
		{ID: "urn:uuid:ünïcode 日本", Topic: "日本/книги?q=1 2#ä", Type: "ж", Data: "\u2028\"\\<>\x00\x01\U0001F600"},
		{ID: strings.Repeat("i", 200), Topic: "https://example.com/" + strings.Repeat("long/", 200), Data: "long"},
		{ID: "big", Topic: "t", Data: big},
	}
	for i, topic := range []string{"*.a", ">", "a.b", "a.*", "a b", "A", "a", "%", "_", ".", "..", "$x", "'", `"`, "{id}", "**"} {
		events = append(events, &hub.Event{ID: name("odd", i), Topic: topic, Data: topic})
	}
	var logs []*log
	for _, b := range buses {
		l, _ := follow(t, b, hub.Everything)
		logs = append(logs, l)
		for _, topic := range []string{"a", "A", "a.b", ">", "日本/книги?q=1 2#ä"} {
			alone, _ := follow(t, b, topic)
			t.Cleanup(func() {
				if got, want := ids(alone.all()), ids(ofTopic(logs[0].all(), topic)); got != want {
					t.Errorf("the follower of %q has %s, expected %s", topic, got, want)
				}
			})
		}
	}
	began := time.Now()
	for i, e := range events {
		if err := buses[i%2].Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if e.Seq == 0 || e.Time.Before(began.Add(-time.Second)) || e.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("%q has Seq %d, Time %v", e.ID, e.Seq, e.Time)
		}
	}
	stored, _ := history(t, buses[1], hub.Query{Earliest: true})
	for _, got := range [][]*hub.Event{stored, logs[0].until(t, "odd-15"), logs[1].until(t, "odd-15")} {
		if len(got) != len(events) {
			t.Fatalf("got %s", ids(got))
		}
		for i, e := range events {
			g := *got[i]
			if !g.Time.Equal(e.Time) {
				t.Errorf("%q: time %v, Publish said %v", e.ID, g.Time, e.Time)
			}
			if g.Time = e.Time; g != *e {
				t.Errorf("got %+.200v\nwant %+.200v", g, *e)
			}
			if got[i] == e {
				t.Error("a follower has the publisher's own event")
			}
		}
	}
	for _, e := range events {
		got, _ := history(t, buses[0], hub.Query{Topics: []string{e.Topic}, Earliest: true})
		if want := ofTopic(events, e.Topic); ids(got) != ids(want) {
			t.Errorf("topic %q: got %s, expected %s", e.Topic, ids(got), ids(want))
		}
	}
}

// An ID that was stored isn't stored again, whoever publishes and whatever else differs.
func testSameID(t *testing.T, newHub Hub) {
	buses := several(2, newHub(t, 0))
	l, _ := follow(t, buses[0], hub.Everything)
	first := publish(t, buses[0], "x", "t", "first")
	between := publish(t, buses[0], "y", "t", "")
	for i, b := range buses {
		for _, topic := range []string{"t", "other"} {
			again := publish(t, b, "x", topic, name("again", i))
			if again.Seq != first.Seq {
				t.Errorf("published again: Seq %d, expected the first one's, %d", again.Seq, first.Seq)
			}
		}
	}
	last := publish(t, buses[1], "z", "t", "")
	if last.Seq <= between.Seq {
		t.Errorf("Seq %d behind %d", last.Seq, between.Seq)
	}
	stored, _ := history(t, buses[0], hub.Query{Earliest: true})
	for _, got := range [][]*hub.Event{stored, l.until(t, "z")} {
		if ids(got) != "x y z" || got[0].Data != "first" {
			t.Errorf("got %s, the first with data %q", ids(got), got[0].Data)
		}
	}
	l.check(t)
}

// Of those who publish one ID at the same time, in one process and in others, one wins, and all learn its Seq.
func testSameIDAtOnce(t *testing.T, newHub Hub) {
	buses := several(2, newHub(t, 0))
	l, _ := follow(t, buses[0], "t")
	const rounds = 20
	for r := range rounds {
		var wg sync.WaitGroup
		seqs := make([]uint64, 6)
		for i := range seqs {
			wg.Go(func() {
				e := &hub.Event{ID: name("r", r), Topic: "t"}
				if err := buses[i%2].Publish(t.Context(), e); err != nil {
					t.Error(err)
				}
				seqs[i] = e.Seq
			})
		}
		wg.Wait()
		for _, s := range seqs {
			if s != seqs[0] || s == 0 {
				t.Fatalf("one ID has the Seqs %d", seqs)
			}
		}
	}
	publish(t, buses[1], "end", "t", "")
	if got := l.until(t, "end"); len(got) != rounds+1 {
		t.Errorf("%d events were stored, expected %d", len(got), rounds+1)
	}
	if stored, _ := history(t, buses[1], hub.Query{Earliest: true}); len(stored) != rounds+1 {
		t.Errorf("history has %d, expected %d", len(stored), rounds+1)
	}
	l.check(t)
}
