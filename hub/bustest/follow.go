package bustest

import (
	"errors"
	"sync/atomic"
	"testing"

	"tandem/hub"
)

// A follower that was stopped is told nothing, and others go on.
func testStop(t *testing.T, newHub Hub) {
	buses := several(2, newHub(t, 0))
	other, _ := follow(t, buses[0], "t")
	stopped, stop := follow(t, buses[0], "t")
	all, stopAll := follow(t, buses[0], hub.Everything)

	// One that stops itself.
	ready := make(chan struct{})
	var stopSelf func()
	var calls atomic.Int32
	stopSelf, err := buses[0].Follow("t", func(*hub.Event, bool) {
		<-ready
		calls.Add(1)
		stopSelf()
	})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)

	publish(t, buses[1], "a", "t", "")
	stopped.until(t, "a")
	all.until(t, "a")
	stop()
	stop()
	stopAll()
	publish(t, buses[1], "b", "t", "")
	publish(t, buses[0], "c", "t", "")
	other.until(t, "c")

	// What is followed from now on comes.
	late, stopLate := follow(t, buses[0], "t")
	publish(t, buses[1], "d", "t", "")
	late.until(t, "d")
	if got := ids(other.until(t, "d")); got != "a b c d" {
		t.Errorf("got %s", got)
	}
	for _, l := range []*log{stopped, all} {
		if got := ids(l.all()); got != "a" {
			t.Errorf("the one that was stopped has %s", got)
		}
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the one that stopped itself was called %d times", n)
	}
	// The last one of a topic leaves, and another one comes.
	stopLate()
	other2, _ := follow(t, buses[0], "u")
	publish(t, buses[1], "e", "u", "")
	other2.until(t, "e")
	again, _ := follow(t, buses[0], "t")
	publish(t, buses[1], "f", "t", "")
	again.until(t, "f")
	other.check(t)
}

func testClose(t *testing.T, newHub Hub) {
	open := newHub(t, 0)
	b, other := open(), open()
	l, _ := follow(t, b, "t")
	late := newLog()
	publish(t, other, "a", "t", "")
	l.until(t, "a")
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if err := b.Publish(t.Context(), &hub.Event{ID: "x", Topic: "t"}); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := b.Follow("t", late.tell); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("Follow: %v", err)
	}
	if _, err := b.History(t.Context(), hub.Query{Earliest: true}, func(*hub.Event) bool { return true }); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("History: %v", err)
	}
	if _, err := b.Presence(t.Context(), nil, nil); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("Presence: %v", err)
	}
	o, _ := follow(t, other, "t")
	publish(t, other, "b", "t", "")
	o.until(t, "b")
	if got := ids(l.all()) + ids(late.all()); got != "a" {
		t.Errorf("followers of a closed bus have %s", got)
	}
	// What was stored is there for those that come after all have gone.
	if err := other.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if got, span := history(t, open(), hub.Query{Earliest: true}); ids(got) != "a b" || !span.Complete {
		t.Errorf("got %s, %+v", ids(got), span)
	}
}
