package natsbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/hub"
)

// heard is what a follower was told of.
type heard struct {
	mu     sync.Mutex
	events []*hub.Event
	gaps   int
}

func (h *heard) tell(e *hub.Event, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lost {
		h.gaps++
	}
	if e != nil {
		h.events = append(h.events, e)
	}
}

func (h *heard) ids() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return idsOf(h.events)
}

func (h *heard) count() (events, gaps int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.events), h.gaps
}

func idsOf(events []*hub.Event) string {
	var l []string
	for _, e := range events {
		l = append(l, e.ID)
	}
	return strings.Join(l, " ")
}

func follow(t testing.TB, b *Bus, topic string) *heard {
	t.Helper()
	h := new(heard)
	stop, err := b.Follow(topic, h.tell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return h
}

func publish(t testing.TB, b *Bus, topic string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := b.Publish(t.Context(), &hub.Event{ID: id, Topic: topic, Data: "data of " + id}); err != nil {
			t.Fatal(err)
		}
	}
}

func history(t testing.TB, b *Bus, q hub.Query) ([]*hub.Event, hub.Span) {
	t.Helper()
	var all []*hub.Event
	span, err := b.History(t.Context(), q, func(e *hub.Event) bool { all = append(all, e); return true })
	if err != nil {
		t.Fatal(err)
	}
	return all, span
}

// wants waits until h was told of these, in this order, with so many gaps.
func (h *heard) wants(t testing.TB, gaps int, ids ...string) {
	t.Helper()
	want := strings.Join(ids, " ")
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got := h.ids()
		_, g := h.count()
		if got == want && g == gaps {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("told of %q and %d gaps, expected %q and %d", got, g, want, gaps)
		}
	}
}

func numbers(from, to int) []string {
	var l []string
	for i := from; i <= to; i++ {
		l = append(l, fmt.Sprint(i))
	}
	return l
}

// wire is a TCP relay that can be cut.
type wire struct {
	l      net.Listener
	to     string
	mu     sync.Mutex
	isCut  bool
	conns  []net.Conn
	copies sync.WaitGroup
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{l: l, to: to}
	w.copies.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", w.to)
			if err != nil {
				a.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, a, b)
			if w.isCut {
				a.Close()
				b.Close()
			}
			w.mu.Unlock()
			w.copies.Go(func() { io.Copy(a, b); a.Close() })
			w.copies.Go(func() { io.Copy(b, a); b.Close() })
		}
	})
	t.Cleanup(func() { w.l.Close(); w.cut(true); w.copies.Wait() })
	return w
}

// cut ends all connections, and, until it is called with false, new ones.
func (w *wire) cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = cut
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) url() string { return "nats://" + w.l.Addr().String() }

// What was published while a connection was lost comes after it, in order; what the history has lost by then is a gap.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	w := newWire(t, strings.TrimPrefix(n.url(), "nats://"))
	o := Options{Servers: []string{n.url()}, Name: newName(), MaxEvents: 20}
	there := open(t, o, time.Hour, time.Hour)
	o.Servers = []string{w.url()}
	here := open(t, o, time.Hour, time.Hour)
	one, all, quiet := follow(t, here, "a"), follow(t, here, hub.Everything), follow(t, here, "quiet")
	publish(t, there, "a", numbers(1, 3)...)
	one.wants(t, 0, numbers(1, 3)...)

	w.cut(true)
	publish(t, there, "a", numbers(4, 10)...)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := here.Publish(ctx, &hub.Event{ID: "x", Topic: "a"})
	if !errors.Is(err, hub.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), w.url()) {
		t.Errorf("a publish without connection: %v", err)
	}
	w.cut(false)
	one.wants(t, 0, numbers(1, 10)...)
	all.wants(t, 0, numbers(1, 10)...)
	publish(t, here, "a", "11")
	one.wants(t, 0, numbers(1, 11)...)

	w.cut(true)
	publish(t, there, "a", numbers(12, 50)...) // 31 to 50 are kept
	w.cut(false)
	want := append(numbers(1, 11), numbers(31, 50)...)
	one.wants(t, 1, want...)
	all.wants(t, 1, want...)
	quiet.wants(t, 1)
}

// What a subscription never brought, and nobody told of, is found: by the next event, whatever its topic, which comes behind it, or
// else by a look.
func TestSilentLoss(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	o := Options{Servers: []string{n.url()}, Name: newName()}
	for _, lookEach := range []time.Duration{time.Hour, 20 * time.Millisecond} {
		b := open(t, o, lookEach, time.Hour)
		one, all := follow(t, b, "a"), follow(t, b, hub.Everything)
		first := fmt.Sprint("first", lookEach)
		publish(t, b, "a", first)
		one.wants(t, 0, first)
		all.wants(t, 0, first)
		if err := b.feed.sub.Load().Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		second, third := fmt.Sprint("second", lookEach), fmt.Sprint("third", lookEach)
		publish(t, b, "a", second, third)
		if lookEach == time.Hour {
			sub, err := b.nc.Subscribe(b.allLive(), b.feed.message)
			if err != nil {
				t.Fatal(err)
			}
			b.feed.sub.Store(sub)
			fourth := fmt.Sprint("fourth", lookEach)
			stop, err := b.Follow("b", one.tell)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			publish(t, b, "b", fourth)
			one.wants(t, 0, first, second, third, fourth)
			all.wants(t, 0, first, second, third, fourth)
			continue
		}
		one.wants(t, 0, first, second, third)
		all.wants(t, 0, first, second, third)
	}
}

// A follower that holds its feed up makes NATS drop messages; they come later.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	b := open(t, Options{Servers: []string{n.url()}, Name: newName()}, time.Hour, time.Hour)
	hold, held := make(chan struct{}), make(chan struct{})
	h := new(heard)
	var once sync.Once
	stop, err := b.Follow("a", func(e *hub.Event, lost bool) {
		once.Do(func() { close(held) })
		<-hold
		h.tell(e, lost)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := b.feed.sub.Load().SetPendingLimits(10, 1<<20); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a", "1")
	<-held
	publish(t, b, "a", numbers(2, 600)...)
	close(hold)
	h.wants(t, 0, numbers(1, 600)...)
}

// All servers go and come back: publishing fails with a clear error, and goes on; followers miss nothing.
func TestServersGone(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	o := Options{Servers: []string{n.url()}, Name: newName(), Timeout: 200 * time.Millisecond}
	b := open(t, o, time.Hour, time.Hour)
	h := follow(t, b, "a")
	publish(t, b, "a", "1")
	n.stop()
	for what, err := range map[string]error{
		"Publish": b.Publish(context.Background(), &hub.Event{ID: "2", Topic: "a"}),
		"Follow": func() error {
			other := open(t, o, time.Hour, time.Hour)
			_, err := other.Follow("b", func(*hub.Event, bool) {})
			return err
		}(),
		"History": func() error {
			_, err := b.History(context.Background(), hub.Query{Earliest: true}, func(*hub.Event) bool { return true })
			return err
		}(),
		"Presence": func() error {
			_, err := b.Presence(context.Background(), []hub.Change{{Member: hub.Member{Subscriber: "s"}}}, nil)
			return err
		}(),
		"Check": b.Check(context.Background()),
	} {
		if !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(err.Error(), n.url()) || !strings.Contains(err.Error(), "see that one runs") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Who has the process's feed can be joined meanwhile.
	late := follow(t, b, "b")
	n.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	until(t, "it works again", func() bool { return b.Publish(ctx, &hub.Event{ID: "3", Topic: "a"}) == nil })
	h.wants(t, 0, "1", "3")
	publish(t, b, "b", "4")
	late.wants(t, 0, "4")
	var present []string
	if _, err := b.Presence(ctx, nil, func(m hub.Member) bool { present = append(present, m.Subscriber); return true }); err != nil || fmt.Sprint(present) != "[s]" {
		t.Errorf("present: %v, %v", present, err)
	}
}

// A stream that is removed is made again, and its followers are told of the gap.
func TestStreamRemoved(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	b := open(t, Options{Servers: []string{n.url()}, Name: newName()}, 20*time.Millisecond, time.Hour)
	h := follow(t, b, "a")
	publish(t, b, "a", "1", "2")
	h.wants(t, 0, "1", "2")
	if err := b.js.DeleteStream(t.Context(), b.o.Name); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a", "3")
	h.wants(t, 1, "1", "2", "3")
	if got, span := history(t, b, hub.Query{After: "1", Earliest: true}); idsOf(got) != "3" || span.Complete {
		t.Errorf("history: %s, %+v", idsOf(got), span)
	}
}

// A server, the stream's leader, is killed during publishes, 10,000 of them with TANDEM_SLOW=1: nothing acknowledged is lost, nothing is stored
// twice, and all see one order.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	total := 2000
	if os.Getenv("TANDEM_SLOW") != "" {
		total = 10000
	}
	var nodes []*child
	var servers []string
	for _, o := range threeNodes(t) {
		c := &child{opts: o}
		c.start(t)
		nodes, servers = append(nodes, c), append(servers, c.url())
	}
	o := Options{Servers: servers, Name: newName(), Replicas: 3, Timeout: patience}
	var buses []*Bus
	for range 3 {
		buses = append(buses, open(t, o, time.Second, time.Hour))
	}
	topics := []string{"a", "b", "c", "d"}
	all := map[*Bus]*heard{}
	one := map[*Bus][]*heard{}
	for _, b := range buses {
		all[b] = follow(t, b, hub.Everything)
		for _, topic := range topics {
			one[b] = append(one[b], follow(t, b, topic))
		}
	}
	leader := func() *child {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := buses[0].js.Stream(ctx, o.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.opts.Name == s.CachedInfo().Cluster.Leader {
				return n
			}
		}
		t.Fatal("no leader")
		return nil
	}

	const publishers = 16
	var mu sync.Mutex
	acknowledged := map[string]uint64{}
	count, repeated := 0, 0
	killed := make(chan *child, 1)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			b := buses[p%3]
			for i := 0; i < total/publishers; i++ {
				e := &hub.Event{ID: fmt.Sprintf("%d-%d", p, i), Topic: topics[(p+i)%4], Data: strings.Repeat("x", 100)}
				for {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					err := b.Publish(ctx, e)
					cancel()
					if err == nil {
						break
					}
					t.Logf("%s: %v", e.ID, err)
					repeated++
				}
				mu.Lock()
				acknowledged[e.ID] = e.Seq
				count++
				n := count
				mu.Unlock()
				switch n {
				case total / 5:
					c := leader()
					c.kill()
					t.Logf("%s killed at %d", c.opts.Name, n)
					killed <- c
				case total * 3 / 5:
					(<-killed).start(t)
					t.Logf("started again at %d", n)
				}
			}
		})
	}
	begin := time.Now()
	wg.Wait()
	t.Logf("%d publishes in %v, %d failed and were made again", total, time.Since(begin), repeated)
	stored, span := history(t, buses[1], hub.Query{Earliest: true})
	if !span.Complete {
		t.Errorf("%+v", span)
	}
	seen := map[string]bool{}
	for _, e := range stored {
		if seen[e.ID] {
			t.Errorf("%s is stored twice", e.ID)
		}
		seen[e.ID] = true
		if seq, ok := acknowledged[e.ID]; !ok || seq != e.Seq {
			t.Errorf("%s has Seq %d, acknowledged was %d", e.ID, e.Seq, seq)
		}
	}
	if len(stored) != len(acknowledged) {
		t.Errorf("%d are stored, %d acknowledged", len(stored), len(acknowledged))
	}
	for i, b := range buses {
		until(t, "all are told of", func() bool { n, _ := all[b].count(); return n >= len(stored) })
		if all[b].ids() != idsOf(stored) {
			t.Errorf("instance %d was told of another order", i)
		}
		for j, topic := range topics {
			var want []*hub.Event
			for _, e := range stored {
				if e.Topic == topic {
					want = append(want, e)
				}
			}
			one[b][j].wants(t, 0, strings.Fields(idsOf(want))...)
		}
		if _, gaps := all[b].count(); gaps > 0 {
			t.Errorf("instance %d was told of %d gaps", i, gaps)
		}
	}
}

// However many follow, and whatever, the process has one subscription.
func TestOneSubscription(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	b := open(t, Options{Servers: []string{n.url()}, Name: newName()}, time.Hour, time.Hour)
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := b.nc.NumSubscriptions()
	var stops []func()
	for range 50 {
		for _, topic := range []string{"a", "b", hub.Everything} {
			stop, err := b.Follow(topic, func(*hub.Event, bool) {})
			if err != nil {
				t.Fatal(err)
			}
			stops = append(stops, stop)
		}
	}
	if got := b.nc.NumSubscriptions() - before; got != 1 {
		t.Errorf("%d subscriptions, expected 1", got)
	}
	for _, stop := range stops {
		stop()
	}
	if got := b.nc.NumSubscriptions() - before; got != 0 || b.feed != nil {
		t.Errorf("%d subscriptions are left, and the feed: %v", got, b.feed != nil)
	}
}
