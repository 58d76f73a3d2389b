package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/hub"
	"tandem/hub/bustest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newHub(t testing.TB, bus hub.Bus, o hub.Options) *hub.Hub {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	h := hub.New(bus, &o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error("Close:", err)
		}
	})
	return h
}

func exact(topics ...string) (list []hub.Matcher) {
	for _, t := range topics {
		list = append(list, matcher(hub.Exact, t))
	}
	return list
}

func matcher(typ, pattern string) hub.Matcher {
	m, err := hub.ParseMatcher(typ, pattern, "")
	if err != nil {
		panic(err)
	}
	return m
}

func publish(t testing.TB, h *hub.Hub, topic, data string) *hub.Event {
	t.Helper()
	e := &hub.Event{Topic: topic, Data: data}
	if err := h.Publish(context.Background(), e); err != nil {
		t.Fatal(err)
	}
	return e
}

// reader is a subscriber that keeps what it got: data, or "GAP".
type reader struct {
	*hub.Subscriber
	mu    sync.Mutex
	got   []string
	ids   []string
	ended error
	more  chan struct{}
	hold  chan struct{} // not nil: Write waits for it
	wrote chan struct{} // gets one for each Write that begins, while hold is set
}

func newReader(h *hub.Hub, o hub.SubscriberOptions) *reader {
	r := &reader{more: make(chan struct{}, 1), wrote: make(chan struct{}, 1000)}
	o.Write = r.write
	o.End = func(err error) {
		r.mu.Lock()
		r.ended = err
		r.mu.Unlock()
		r.signal()
	}
	r.Subscriber = h.NewSubscriber(o)
	return r
}

func (r *reader) write(list []*hub.Update) error {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		r.wrote <- struct{}{}
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range list {
		if u == hub.Gap {
			r.got = append(r.got, "GAP")
			continue
		}
		r.got = append(r.got, u.Data)
		r.ids = append(r.ids, u.ID)
	}
	r.signal()
	return nil
}

func (r *reader) signal() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// block has writes wait until what it returns is called.
func (r *reader) block() (release func()) {
	hold := make(chan struct{})
	r.mu.Lock()
	r.hold = hold
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		r.hold = nil
		r.mu.Unlock()
		close(hold)
	}
}

func (r *reader) wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		ok := cond()
		got := strings.Join(r.got, " ")
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("waited for %s, got %.2000s", what, got)
		}
	}
}

// expect waits for exactly want, in order.
func (r *reader) expect(t testing.TB, want ...string) {
	t.Helper()
	r.wait(t, strings.Join(want, " "), func() bool { return len(r.got) >= len(want) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.got, want) {
		t.Fatalf("got %q, want %q", r.got, want)
	}
}

func (r *reader) subscribe(t testing.TB, sub *hub.Subscription) *hub.Subscription {
	t.Helper()
	if err := r.Subscribe(context.Background(), sub); err != nil {
		t.Fatal(err)
	}
	return sub
}

func numbers(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func TestLive(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	for name, list := range map[string][]hub.Matcher{
		"exact":    exact("a", "b", "a"),
		"pattern":  {matcher(hub.URLPattern, "/live/:x"), matcher(hub.Exact, "a"), matcher(hub.Exact, "b")},
		"template": {matcher(hub.URITemplate, "{x}")},
		"all":      exact("*"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader(h, hub.SubscriberOptions{})
			defer r.Close()
			publish(t, h, "a", "before")
			r.subscribe(t, &hub.Subscription{Matchers: list})
			publish(t, h, "a", "1")
			publish(t, h, "b", "2")
			if name == "exact" {
				publish(t, h, "c/d", "not")
			}
			publish(t, h, "a", "3")
			r.expect(t, "1", "2", "3")
		})
	}
}

// TestFollowedOnce: what the bus is asked to follow doesn't depend on the number of subscribers, and
// ends with the last of them.
func TestFollowedOnce(t *testing.T) {
	m := new(bustest.Memory)
	h := newHub(t, m.Bus(), hub.Options{})
	var all []*reader
	for range 10 {
		for _, list := range [][]hub.Matcher{exact("a"), exact("*"), {matcher(hub.URLPattern, "/x/*")}} {
			r := newReader(h, hub.SubscriberOptions{})
			r.subscribe(t, &hub.Subscription{Matchers: list})
			all = append(all, r)
		}
	}
	if a, every := m.Followed("a"), m.Followed(hub.Everything); a != 1 || every != 1 {
		t.Errorf("a is followed %d times, everything %d times; want once each", a, every)
	}
	for _, r := range all {
		r.Close()
	}
	if a, every := m.Followed("a"), m.Followed(hub.Everything); a+every != 0 {
		t.Errorf("nobody subscribes, but a is followed %d times, everything %d times", a, every)
	}
}

func TestUnsubscribe(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	r := newReader(h, hub.SubscriberOptions{})
	defer r.Close()
	a := r.subscribe(t, &hub.Subscription{Matchers: exact("a", "c")})
	r.subscribe(t, &hub.Subscription{Matchers: exact("b", "c")})
	r.subscribe(t, &hub.Subscription{Matchers: []hub.Matcher{matcher(hub.URLPattern, "c")}})
	publish(t, h, "a", "1")
	publish(t, h, "c", "2") // three subscriptions have it, the subscriber gets it once
	r.expect(t, "1", "2")
	r.Unsubscribe(a)
	publish(t, h, "a", "not")
	publish(t, h, "b", "3")
	publish(t, h, "c", "4")
	r.expect(t, "1", "2", "3", "4")
}

func TestHistory(t *testing.T) {
	m := &bustest.Memory{Keep: 1000}
	h := newHub(t, m.Bus(), hub.Options{})
	var ids []string
	for i := 1; i <= 900; i++ {
		ids = append(ids, publish(t, h, []string{"a", "b", "c"}[i%3], fmt.Sprint(i)).ID)
	}
	of := func(from int, rest ...int) (list []string) {
		for i := from; i <= 900; i++ {
			if slices.Contains(rest, i%3) {
				list = append(list, fmt.Sprint(i))
			}
		}
		return list
	}
	all := exact("*")
	for _, c := range []struct {
		name      string
		sub       hub.Subscription
		want      []string
		recovered bool
	}{
		{"none", hub.Subscription{Matchers: all}, nil, true},
		{"earliest of all", hub.Subscription{Matchers: all, Earliest: true}, numbers(1, 900), true},
		{"after the first", hub.Subscription{Matchers: all, After: ids[0]}, numbers(2, 900), true},
		{"after the last", hub.Subscription{Matchers: all, After: ids[899]}, nil, true},
		{"topics, short", hub.Subscription{Matchers: exact("a", "b"), After: ids[799]}, of(801, 0, 1), true},
		{"topics, long", hub.Subscription{Matchers: exact("b", "c"), Earliest: true}, of(1, 1, 2), true},
		{"pattern", hub.Subscription{Matchers: []hub.Matcher{matcher(hub.URITemplate, "{x}"), matcher(hub.Exact, "q")}, After: ids[9]}, numbers(11, 900), true},
		{"unknown", hub.Subscription{Matchers: all, After: "nobody's"}, numbers(1, 900), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReader(h, hub.SubscriberOptions{})
			defer r.Close()
			told := 0
			c.sub.Start = func(recovered bool) error {
				if told++; recovered != c.recovered || len(r.got) > 0 {
					t.Errorf("Start(%v) after %d events, want Start(%v) first", recovered, len(r.got), c.recovered)
				}
				return nil
			}
			r.subscribe(t, &c.sub)
			if told != 1 {
				t.Errorf("Start was called %d times", told)
			}
			if !slices.Equal(r.got, c.want) {
				t.Errorf("got %v, want %v", r.got, c.want)
			}
		})
	}
	m.Keep = 100
	publish(t, h, "a", "901")
	for _, after := range []string{"", ids[500]} {
		r := newReader(h, hub.SubscriberOptions{})
		var told []bool
		r.subscribe(t, &hub.Subscription{Matchers: all, After: after, Earliest: true, Start: func(recovered bool) error { told = append(told, recovered); return nil }})
		if !slices.Equal(told, []bool{false}) || !slices.Equal(r.got, numbers(802, 901)) {
			t.Errorf("after %q: Start %v and %d events, want Start [false] and the 100 that are left", after, told, len(r.got))
		}
		r.Close()
	}
}

// TestHistoryToLive: what is published while a history is being written, more than is held too, comes behind it.
func TestHistoryToLive(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{QueueEvents: 50})
	n := 600
	for i := 1; i <= n; i++ {
		publish(t, h, "a", fmt.Sprint(i))
	}
	r := newReader(h, hub.SubscriberOptions{})
	defer r.Close()
	release := r.block()
	done := make(chan error, 1)
	go func() {
		done <- r.Subscribe(context.Background(), &hub.Subscription{Matchers: exact("a"), Earliest: true})
	}()
	<-r.wrote
	for range 200 {
		n++
		publish(t, h, "a", fmt.Sprint(n))
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	publish(t, h, "a", fmt.Sprint(n+1))
	r.expect(t, numbers(1, n+1)...)
}

// TestHistoryLost: the history loses, while it is read slowly, what was not held.
func TestHistoryLost(t *testing.T) {
	m := &bustest.Memory{Keep: 300}
	h := newHub(t, m.Bus(), hub.Options{QueueEvents: 50})
	for i := 1; i <= 300; i++ {
		publish(t, h, "a", fmt.Sprint(i))
	}
	r := newReader(h, hub.SubscriberOptions{})
	defer r.Close()
	release := r.block()
	done := make(chan error, 1)
	go func() {
		done <- r.Subscribe(context.Background(), &hub.Subscription{Matchers: exact("a"), Earliest: true,
			Start: func(recovered bool) error {
				if !recovered {
					return errors.New("all was there")
				}
				return nil
			}})
	}()
	<-r.wrote
	for i := 301; i <= 1000; i++ {
		publish(t, h, "a", fmt.Sprint(i))
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.expect(t, slices.Concat(numbers(1, 300), []string{"GAP"}, numbers(701, 1000))...)
}

func TestSubscribeErrors(t *testing.T) {
	m := new(bustest.Memory)
	h := newHub(t, m.Bus(), hub.Options{MaxMatchers: 3})
	publish(t, h, "a", "1")
	r := newReader(h, hub.SubscriberOptions{})
	var refused *hub.Refused
	for _, list := range [][]hub.Matcher{nil, exact("a", "b", "c", "d")} {
		if err := r.Subscribe(context.Background(), &hub.Subscription{Matchers: list}); !errors.As(err, &refused) || refused.Status != 400 {
			t.Errorf("%d matchers: %v, want a refusal with 400", len(list), err)
		}
	}
	m.Fail(hub.ErrUnavailable)
	if err := r.Subscribe(context.Background(), &hub.Subscription{Matchers: exact("a")}); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("bus gone: %v, want ErrUnavailable", err)
	}
	m.Fail(nil)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Subscribe(gone, &hub.Subscription{Matchers: exact("a"), Earliest: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("ctx done: %v, want context.Canceled", err)
	}
	mine := errors.New("mine")
	if err := r.Subscribe(context.Background(), &hub.Subscription{Matchers: exact("a"), Start: func(bool) error { return mine }}); err != mine {
		t.Errorf("Start's error: got %v", err)
	}
	r.Close()
	if err := r.Subscribe(context.Background(), &hub.Subscription{Matchers: exact("a")}); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("closed: %v, want ErrClosed", err)
	}
	if m.Followed("a") != 0 || h.Stats().Subscribers != 0 {
		t.Error("something was left behind")
	}
}

func TestPrivate(t *testing.T) {
	h := newHub(t, new(bustest.Memory).Bus(), hub.Options{})
	nobody := newReader(h, hub.SubscriberOptions{})
	other := newReader(h, hub.SubscriberOptions{Readable: exact("b")})
	may := newReader(h, hub.SubscriberOptions{Readable: []hub.Matcher{matcher(hub.Exact, "b"), matcher(hub.URLPattern, "/books/:id")}})
	late := newReader(h, hub.SubscriberOptions{Readable: exact("/books/1")})
	for _, r := range []*reader{nobody, other, may, late} {
		defer r.Close()
	}
	nobody.subscribe(t, &hub.Subscription{Matchers: exact("/books/1")})
	other.subscribe(t, &hub.Subscription{Matchers: exact("*")})
	may.subscribe(t, &hub.Subscription{Matchers: exact("/books/1")})
	if err := h.Publish(context.Background(), &hub.Event{Topic: "/books/1", Data: "secret", Private: true}); err != nil {
		t.Fatal(err)
	}
	publish(t, h, "/books/1", "open")
	nobody.expect(t, "open")
	other.expect(t, "open")
	may.expect(t, "secret", "open")
	late.subscribe(t, &hub.Subscription{Matchers: exact("/books/1"), Earliest: true})
	late.expect(t, "secret", "open")
	nobody.subscribe(t, &hub.Subscription{Matchers: exact("*"), Earliest: true})
	nobody.expect(t, "open", "open") // its history is asked for once more
}

func TestPublishChecks(t *testing.T) {
	m := new(bustest.Memory)
	h := newHub(t, m.Bus(), hub.Options{MaxData: 10, Base: "https://hub.example/.well-known/mercure"})
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		e      hub.Event
		status int
	}{
		{hub.Event{Topic: "a", Data: "0123456789", ID: "urn:x", Type: "t", Retry: 3}, 0},
		{hub.Event{Topic: "https://example.org/bücher?x=1#y"}, 0},
		{hub.Event{Topic: "urn:uuid:1"}, 0},
		{hub.Event{Topic: "%zz mercure"}, 0},
		{hub.Event{Topic: "/.well-known/mercurial"}, 0},
		{hub.Event{}, 400},
		{hub.Event{Topic: "*"}, 400},
		{hub.Event{Topic: "a\nb"}, 400},
		{hub.Event{Topic: "a\x00"}, 400},
		{hub.Event{Topic: "a\x7f"}, 400},
		{hub.Event{Topic: "a\u0085b"}, 400},
		{hub.Event{Topic: "a\xff"}, 400},
		{hub.Event{Topic: long}, 413},
		{hub.Event{Topic: "a", Data: "01234567890"}, 413},
		{hub.Event{Topic: "a", Data: "\xc3"}, 400},
		{hub.Event{Topic: "a", ID: "#1"}, 400},
		{hub.Event{Topic: "a", ID: "a\nb"}, 400},
		{hub.Event{Topic: "a", ID: "earliest"}, 400},
		{hub.Event{Topic: "a", ID: long}, 413},
		{hub.Event{Topic: "a", Type: "a\rb"}, 400},
		{hub.Event{Topic: "a", Type: long}, 413},
		{hub.Event{Topic: "/.well-known/mercure"}, 403},
		{hub.Event{Topic: "/.well-known/mercure/subscriptions/x"}, 403},
		{hub.Event{Topic: "https://elsewhere.example/.well-known/mercure/x"}, 403},
		{hub.Event{Topic: "/a/../.well-known/./mercure/x"}, 403},
		{hub.Event{Topic: "/.well-known%2fmercure"}, 403},
		{hub.Event{Topic: `\.well-known\mercure`}, 403},
		{hub.Event{Topic: "//x/.well-known/mercure?y"}, 403},
		{hub.Event{Topic: "mercure/subscriptions"}, 403},
		{hub.Event{Topic: " /.well-known/mercure "}, 403},
		{hub.Event{Topic: "?x"}, 403},
		{hub.Event{Topic: "#x"}, 403},
		{hub.Event{Topic: "."}, 0},
	} {
		stored := m.Stored()
		err := h.Publish(context.Background(), &c.e)
		var refused *hub.Refused
		switch {
		case c.status == 0 && err != nil:
			t.Errorf("%q: %v", c.e.Topic, err)
		case c.status == 0 && (m.Stored() != stored+1 || c.e.ID == "" || c.e.Seq == 0):
			t.Errorf("%q: not stored, or without its ID and Seq", c.e.Topic)
		case c.status != 0 && (!errors.As(err, &refused) || refused.Status != c.status):
			t.Errorf("topic %.50q, id %.20q: got %v, want a refusal with %d", c.e.Topic, c.e.ID, err, c.status)
		case c.status != 0 && m.Stored() != stored:
			t.Errorf("%.50q: refused and stored", c.e.Topic)
		}
	}
	m.Fail(fmt.Errorf("the disk is full: %w", hub.ErrUnavailable))
	if err := h.Publish(context.Background(), &hub.Event{Topic: "a"}); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestSSE(t *testing.T) {
	for _, c := range []struct {
		e    hub.Event
		want string
	}{
		{hub.Event{ID: "1", Data: "x"}, "id: 1\ndata: x\n\n"},
		{hub.Event{ID: "1", Type: "t", Retry: 5}, "id: 1\nevent: t\nretry: 5\ndata: \n\n"},
		{hub.Event{ID: "1", Data: "a\nb\r\nc\rd\n"}, "id: 1\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
	} {
		if got := string((&hub.Update{Event: &c.e}).SSE()); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := string((&hub.Update{Event: &hub.Event{ID: "1", Topic: "<a>", Data: "\"x\"\n"}}).JSON()); got != `{"event":{"id":"1","topic":"<a>","data":"\"x\"\n"}}` {
		t.Errorf("JSON: %s", got)
	}
}
