package sqlitebus

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tandem/hub"
)

// More than a page, in number and in bytes, comes in order to those who read history and to those who follow.
func TestPages(t *testing.T) {
	path := newPath(t)
	a, b := newBus(t, path, Options{poll: time.Hour}), newBus(t, path, Options{})
	live, some := follow(t, a, hub.Everything), follow(t, a, "big")
	a.reader.lock <- struct{}{} // a looks when all is there
	var ids, bigs []string
	for i := range 2*pageEvents + 10 {
		topic, data := "small", ""
		if i%50 == 0 {
			topic, data = "big", strings.Repeat("x", pageBytes*2/5)
			bigs = append(bigs, fmt.Sprint(i))
		}
		ids = append(ids, fmt.Sprint(i))
		publish(t, b, fmt.Sprint(i), topic, data)
	}
	<-a.reader.lock
	for _, id := range ids {
		if got := next(t, live); got != id {
			t.Fatalf("a follower is told of %q, expected %s", got, id)
		}
	}
	for _, id := range bigs {
		if got := next(t, some); got != id {
			t.Fatalf("the follower of a topic is told of %q, expected %s", got, id)
		}
	}
	for _, tt := range []struct {
		topics []string
		want   []string
	}{{nil, ids}, {[]string{"big"}, bigs}, {[]string{"small", "big"}, ids}} {
		events, span := history(t, b, hub.Query{Topics: tt.topics, Earliest: true})
		var got []string
		for _, e := range events {
			got = append(got, e.ID)
		}
		if strings.Join(got, " ") != strings.Join(tt.want, " ") || !span.Complete {
			t.Errorf("topics %q: got %q, %+v", tt.topics, got, span)
		}
	}
}

// Of two that stop each other one is called.
func TestStopEachOther(t *testing.T) {
	b := newBus(t, newPath(t), Options{})
	var stops [2]func()
	called := 0
	for i := range stops {
		stop, err := b.Follow("t", func(*hub.Event, bool) {
			called++
			stops[1-i]()
		})
		if err != nil {
			t.Fatal(err)
		}
		stops[i] = stop
	}
	all := follow(t, b, hub.Everything) // is told after those of the topic
	publish(t, b, "e", "t", "")
	next(t, all)
	if called != 1 {
		t.Errorf("%d of two that stop each other were called", called)
	}
}

// A write that fails leaves the connection fit for the next one.
func TestFailedWrite(t *testing.T) {
	b := newBus(t, newPath(t), Options{})
	publish(t, b, "a", "t", "")
	conn := b.writer.file.conn
	err := b.write(t.Context(), &job{do: func(f *file) error {
		_, err := f.exec("INSERT INTO processes (name) VALUES (NULL)")
		return err
	}, done: make(chan error, 1)})
	unavailable(t, "a constraint", err, b.path, "constraint")
	publish(t, b, "b", "t", "")
	if b.writer.file.conn != conn {
		t.Error("the file was opened anew")
	}
	if events, _ := history(t, b, hub.Query{Earliest: true}); len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}

// A caller of Presence that gives up while another process's members are removed for it doesn't lose them.
func TestLostLater(t *testing.T) {
	path := newPath(t)
	a, b := newBus(t, path, Options{}), newBus(t, path, Options{})
	if _, err := a.Presence(t.Context(), []hub.Change{{Member: hub.Member{Subscriber: "x"}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	busy, held := make(chan struct{}), make(chan struct{})
	go b.write(t.Context(), &job{do: func(*file) error { close(held); <-busy; return nil }, done: make(chan error, 1)})
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() {
		_, err := b.Presence(ctx, nil, nil)
		given <- err
	}()
	for b.queued() == 0 { // its job waits
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-given; err == nil {
		t.Error("Presence didn't give up")
	}
	close(busy)
	var lost []hub.Member
	for deadline := time.Now().Add(limit); len(lost) == 0 && time.Now().Before(deadline); {
		l, err := b.Presence(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		lost = append(lost, l...)
	}
	if len(lost) != 1 || lost[0].Subscriber != "x" {
		t.Errorf("lost: %v", lost)
	}
}

func (b *Bus) queued() int {
	b.writer.mu.Lock()
	defer b.writer.mu.Unlock()
	return len(b.writer.queue)
}
