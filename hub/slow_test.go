package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/hub"
	"tandem/hub/bustest"
)

// logged is a log that a test reads.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSlow(t *testing.T) {
	for _, c := range []struct {
		policy hub.Policy
		want   []string // behind "first", which is being written
		ended  bool
	}{
		{hub.Disconnect, nil, true},
		{hub.DropOldest, []string{"GAP", "13", "14", "15", "16", "17", "18", "19", "20"}, false},
		{hub.KeepLatest, []string{"20"}, false},
	} {
		t.Run(c.policy.String(), func(t *testing.T) {
			var log logged
			h := newHub(t, new(bustest.Memory).Bus(), hub.Options{
				QueueEvents: 8, Slow: []hub.Rule{{matcher(hub.Exact, "x"), c.policy}, {matcher(hub.Exact, "*"), hub.DropOldest}},
				Log: slog.New(slog.NewTextHandler(&log, nil)),
			})
			slow, quick := newReader(h, hub.SubscriberOptions{Name: "slowpoke"}), newReader(h, hub.SubscriberOptions{})
			defer slow.Close()
			defer quick.Close()
			release := slow.block()
			for _, r := range []*reader{slow, quick} {
				r.subscribe(t, &hub.Subscription{Matchers: exact("x")})
			}
			first := publish(t, h, "x", "first")
			<-slow.wrote
			want := []string{"first"}
			quick.expect(t, want...)
			for i := 1; i <= 20; i++ {
				publish(t, h, "x", fmt.Sprint(i))
				want = append(want, fmt.Sprint(i))
				quick.expect(t, want...) // nobody waits for the slow one
			}
			release()
			if !c.ended {
				slow.expect(t, append([]string{"first"}, c.want...)...)
			} else {
				slow.wait(t, "its end", func() bool { return slow.ended != nil })
				if slow.ended != hub.ErrTooSlow || slow.Err() != hub.ErrTooSlow || h.Stats().TooSlow != 1 {
					t.Errorf("ended with %v, counted %d", slow.ended, h.Stats().TooSlow)
				}
				again := newReader(h, hub.SubscriberOptions{}) // it resumes
				defer again.Close()
				again.subscribe(t, &hub.Subscription{Matchers: exact("x"), After: first.ID})
				again.expect(t, numbers(1, 20)...)
			}
			if d := h.Stats().Dropped[c.policy]; (d > 0) == c.ended {
				t.Errorf("%d dropped", d)
			}
			lines := strings.Count(log.String(), "\n")
			if want := map[hub.Policy]int{hub.Disconnect: 1, hub.DropOldest: 1}[c.policy]; lines != want || want > 0 && !strings.Contains(log.String(), "session=slowpoke") {
				t.Errorf("the log has %d lines, want %d that name the session: %s", lines, want, log.String())
			}
		})
	}
}

// TestSlowMixed: where there is no room, what may be dropped makes some for what may not.
func TestSlowMixed(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{QueueEvents: 8, Slow: []hub.Rule{{matcher(hub.Exact, "drop"), hub.DropOldest}}})
	r := newReader(h, hub.SubscriberOptions{})
	defer r.Close()
	release := r.block()
	r.subscribe(t, &hub.Subscription{Matchers: exact("drop", "keep")})
	publish(t, h, "keep", "first")
	<-r.wrote
	for i := range 4 {
		publish(t, h, "drop", fmt.Sprintf("d%d", i))
		publish(t, h, "keep", fmt.Sprintf("k%d", i))
	}
	publish(t, h, "keep", "k4")
	release()
	r.expect(t, "first", "GAP", "k0", "GAP", "k1", "GAP", "k2", "d3", "k3", "k4")
}

// TestSlowBytes: the bound in bytes, and that one event may be larger than it.
func TestSlowBytes(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{QueueBytes: 1000, Slow: []hub.Rule{{matcher(hub.Exact, "*"), hub.DropOldest}}})
	r := newReader(h, hub.SubscriberOptions{})
	defer r.Close()
	release := r.block()
	r.subscribe(t, &hub.Subscription{Matchers: exact("x")})
	publish(t, h, "x", "first")
	<-r.wrote
	large := strings.Repeat("x", 2000)
	publish(t, h, "x", large)
	publish(t, h, "x", "last")
	release()
	r.expect(t, "first", "GAP", "last")
	release = r.block()
	publish(t, h, "x", large)
	<-r.wrote
	release()
	r.expect(t, "first", "GAP", "last", large)
}

// TestManyStuck: a thousand subscribers stop reading at once, the others get theirs all the same, and soon.
func TestManyStuck(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	var stuck []*reader
	for range 1000 {
		r := newReader(h, hub.SubscriberOptions{})
		stuck = append(stuck, r)
		r.subscribe(t, &hub.Subscription{Matchers: exact("x")})
	}
	quick := newReader(h, hub.SubscriberOptions{})
	defer quick.Close()
	quick.subscribe(t, &hub.Subscription{Matchers: exact("x")}) // the last in each line
	var releases []func()
	for _, r := range stuck {
		releases = append(releases, r.block())
	}
	start := time.Now()
	publish(t, h, "x", "1")
	quick.expect(t, "1")
	t.Logf("behind 1,000 that got stuck: %v", time.Since(start))
	start = time.Now()
	publish(t, h, "x", "2")
	quick.expect(t, "1", "2")
	t.Logf("behind 1,000 that are stuck: %v", time.Since(start))
	for i, r := range stuck {
		releases[i]()
		r.expect(t, "1", "2")
		r.Close()
	}
}

// TestCloseWaits: no Write runs when Close has returned.
func TestCloseWaits(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	r := newReader(h, hub.SubscriberOptions{})
	release := r.block()
	r.subscribe(t, &hub.Subscription{Matchers: exact("x")})
	publish(t, h, "x", "1")
	<-r.wrote
	publish(t, h, "x", "not")
	closed := make(chan struct{})
	go func() {
		r.Close()
		close(closed)
	}()
	for r.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-closed:
		t.Error("Close returned within a Write")
	default:
	}
	release()
	<-closed
	r.expect(t, "1")
}

func TestWriteFails(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	ended := make(chan error, 1)
	gone := fmt.Errorf("gone")
	s := h.NewSubscriber(hub.SubscriberOptions{Write: func([]*hub.Update) error { return gone }, End: func(err error) { ended <- err }})
	defer s.Close()
	if err := s.Subscribe(context.Background(), &hub.Subscription{Matchers: exact("x")}); err != nil {
		t.Fatal(err)
	}
	publish(t, h, "x", "1")
	if err := <-ended; err != gone {
		t.Errorf("ended with %v", err)
	}
	publish(t, h, "x", "2")
}

func TestGapOfBus(t *testing.T) {
	m := new(bustest.Memory)
	h := newHub(t, m.Bus(), hub.Options{})
	a, all := newReader(h, hub.SubscriberOptions{}), newReader(h, hub.SubscriberOptions{})
	defer a.Close()
	defer all.Close()
	a.subscribe(t, &hub.Subscription{Matchers: exact("a")})
	all.subscribe(t, &hub.Subscription{Matchers: exact("*")})
	publish(t, h, "a", "1")
	m.Lose("a")
	publish(t, h, "a", "2")
	m.Lose("other")
	publish(t, h, "a", "3")
	a.expect(t, "1", "GAP", "2", "3")
	all.expect(t, "1", "GAP", "2", "GAP", "3")
}

func TestHubClose(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	r := newReader(h, hub.SubscriberOptions{})
	r.subscribe(t, &hub.Subscription{Matchers: exact("x")})
	h.Close(context.Background())
	r.wait(t, "its end", func() bool { return r.ended == hub.ErrClosed })
	r.Close()
	late := newReader(h, hub.SubscriberOptions{})
	late.wait(t, "its end", func() bool { return late.ended == hub.ErrClosed })
	late.Close()
}

func TestPresence(t *testing.T) {
	m := new(bustest.Memory)
	one, two := newHub(t, m.Bus(), hub.Options{Presence: true}), m.Bus()
	other := hub.New(two, &hub.Options{Presence: true, Log: quiet}) // it will be killed
	watch := newReader(newHub(t, m.Bus(), hub.Options{}), hub.SubscriberOptions{Readable: exact("*")})
	defer watch.Close()
	watch.subscribe(t, &hub.Subscription{Matchers: []hub.Matcher{matcher(hub.URLPattern, hub.Reserved+"/subscriptions/*")}})
	doc := func(match, who string, active bool, payload string) string {
		return fmt.Sprintf(`{"@context":"https://mercure.rocks/","id":"/.well-known/mercure/subscriptions/Exact/%s/%s","type":"Subscription","matchType":"Exact","match":"%s","subscriber":"%s","active":%v%s}`,
			match, who, match, who, active, payload)
	}
	present := func(h *hub.Hub) (list []string) {
		t.Helper()
		err := h.Present(context.Background(), func(m hub.Member) bool {
			list = append(list, m.Subscriber+" "+m.Match)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return list
	}
	ann := newReader(one, hub.SubscriberOptions{ID: "ann", Payload: func(m hub.Matcher) string { return `{"of":"` + m.Pattern() + `"}` }})
	sub := ann.subscribe(t, &hub.Subscription{Matchers: exact("a")})
	tab := newReader(one, hub.SubscriberOptions{ID: "ann"}) // a second tab of hers is the same member
	tab.subscribe(t, &hub.Subscription{Matchers: exact("a")})
	bob := newReader(other, hub.SubscriberOptions{ID: "bob"})
	bob.subscribe(t, &hub.Subscription{Matchers: exact("b")})
	if got := present(other); !slices.Contains(got, "bob b") {
		t.Errorf("present: %q", got)
	}
	if got := present(one); !slices.Equal(got, []string{"ann a", "bob b"}) {
		t.Errorf("present: %q", got)
	}
	watch.wait(t, "two events", func() bool { return len(watch.got) == 2 })
	slices.Sort(watch.got) // two processes
	watch.expect(t, doc("a", "ann", true, `,"payload":{"of":"a"}`), doc("b", "bob", true, ""))
	watch.got = nil
	ann.Unsubscribe(sub)
	tab.Close()
	watch.expect(t, doc("a", "ann", false, ""))
	ann.Close()
	m.Kill(two)
	if got := present(one); len(got) != 0 { // and learns who is lost
		t.Errorf("present: %q", got)
	}
	watch.expect(t, doc("a", "ann", false, ""), doc("b", "bob", false, ""))
}

func TestSubscriptionTopic(t *testing.T) {
	got := hub.SubscriptionTopic(hub.Member{MatchType: "URLPattern", Match: "https://example.com/:selector", Subscriber: "urn:uuid:a b+c%2F~é"})
	want := "/.well-known/mercure/subscriptions/URLPattern/https%3A%2F%2Fexample.com%2F%3Aselector/urn%3Auuid%3Aa%20b%2Bc%252F~%C3%A9"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestFull: a subscriber beyond the bound is over at once, whichever way it looks; there is room again when another one leaves.
func TestFull(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{MaxSubscribers: 1})
	first := newReader(h, hub.SubscriberOptions{})
	ended := make(chan error, 1)
	second := h.NewSubscriber(hub.SubscriberOptions{Write: func([]*hub.Update) error { return nil }, End: func(err error) { ended <- err }})
	defer second.Close()
	if err := <-ended; err != hub.ErrFull {
		t.Errorf("ended with %v", err)
	}
	if err := second.Subscribe(t.Context(), &hub.Subscription{Matchers: exact("x")}); err != hub.ErrFull {
		t.Errorf("subscribing: %v", err)
	}
	if s := h.Stats(); s.Subscribers != 1 || s.Full != 1 {
		t.Errorf("counted %+v", s)
	}
	first.Close()
	third := newReader(h, hub.SubscriberOptions{})
	defer third.Close()
	third.subscribe(t, &hub.Subscription{Matchers: exact("x")})
	publish(t, h, "x", "1")
	third.expect(t, "1")
}

// TestStats: what was published, delivered and told as a gap.
func TestStats(t *testing.T) {
	m := new(bustest.Memory)
	h := newHub(t, m.Bus(), hub.Options{})
	r := newReader(h, hub.SubscriberOptions{})
	defer r.Close()
	r.subscribe(t, &hub.Subscription{Matchers: exact("x"), After: "unknown"}) // a gap
	publish(t, h, "x", "1")
	r.expect(t, "1")
	m.Lose("x")
	publish(t, h, "x", "2")
	r.expect(t, "1", "GAP", "2")
	m.Fail(hub.ErrUnavailable)
	if err := h.Publish(t.Context(), &hub.Event{Topic: "x"}); err == nil {
		t.Error("published")
	}
	m.Fail(nil)
	want := hub.Stats{Subscribers: 1, Published: 2, Unpublished: 1, Delivered: 2, Gaps: 2}
	for deadline := time.Now().Add(10 * time.Second); h.Stats() != want; time.Sleep(time.Millisecond) { // written comes before counted
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, want %+v", h.Stats(), want)
		}
	}
}
