package client

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/internal/servertest"
	"tandem/session"
	"tandem/session/frame"
)

// shorten has short requests begin soon, and be full soon.
func shorten(t *testing.T) {
	length, rate, pieces, rest := shortLength, shortRate, shortPieces, shortRest
	t.Cleanup(func() { shortLength, shortRate, shortPieces, shortRest = length, rate, pieces, rest })
	shortLength, shortRate, shortPieces, shortRest = 2048, 2, 4, 0
}

// asLighttpd has what is behind it look like lighttpd, and counts the short requests
// that were answered in order, but those that have nothing to say.
func asLighttpd(inner http.Handler, shorts *atomic.Int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "lighttpd/1.4")
		inner.ServeHTTP(w, r)
		if r.Header.Get("Tandem-Transport") == Split && r.ContentLength == shortLength {
			shorts.Add(1)
		}
	})
}

// turns has c send messages that an echo answers, one after the other.
func turns(t *testing.T, c *Conn, n int) (slowest time.Duration) {
	t.Helper()
	for i := range n {
		text := fmt.Sprint(i, " ", strings.Repeat("x", []int{0, 30, 300, 5000}[i%67%4]))
		start := time.Now()
		send(t, c, text)
		receive(t, c, text)
		slowest = max(slowest, time.Since(start))
	}
	return slowest
}

// Short requests carry what is said in turns, in both codecs, with what doesn't fit
// between them; not where each request is a process, nor where it is not lighttpd.
func TestAside(t *testing.T) {
	shorten(t)
	for _, test := range []struct {
		name, codec string
		o           session.Options
		other       bool
		wanted      bool
	}{
		{name: "binary", codec: "binary", o: session.Options{Grace: time.Minute}, wanted: true},
		{name: "json", codec: "json", o: session.Options{Grace: time.Minute}, wanted: true},
		{name: "no grace", codec: "binary"},
		{name: "another server", codec: "binary", o: session.Options{Grace: time.Minute}, other: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.Log = discard
			h := session.NewHandler(session.Echo, &test.o)
			var shorts atomic.Int32
			front := asLighttpd(h, &shorts)
			if test.other {
				front = h
			}
			lost := make(chan Event, 10)
			c := dialTest(t, serveHandler(t, h, front), &Options{Transport: Single, Codec: test.codec, Notify: func(e Event) { lost <- e }})
			slowest := turns(t, c, 600)
			if got := shorts.Load(); got > 10 != test.wanted {
				t.Errorf("%d short requests, wanted many: %v", got, test.wanted)
			}
			if err := c.Close(frame.CodeNormal, ""); err != nil {
				t.Error(err)
			}
			if len(lost) > 0 {
				t.Errorf("the session was lost: %v", <-lost)
			}
			t.Logf("%d short requests, slowest round trip %v", shorts.Load(), slowest)
		})
	}
}

// Something on the way waits for the whole of a request of that length: what it was
// given is said once more soon, and the session goes on in its own request.
func TestAsideHeldBack(t *testing.T) {
	shorten(t)
	shortRest = time.Minute
	h := session.NewHandler(session.Echo, &session.Options{Grace: time.Minute, Log: discard})
	var shorts, held atomic.Int32
	front := asLighttpd(h, &shorts)
	c := dialTest(t, serveHandler(t, h, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == shortLength {
			held.Add(1)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		front.ServeHTTP(w, r)
	})), &Options{Transport: Single})
	if slowest := turns(t, c, 200); slowest > 4*shortTick {
		t.Errorf("a message took %v", slowest)
	}
	if n := held.Load(); n != 1 {
		t.Errorf("%d short requests, expected one to be enough", n)
	}
	if err := c.Close(frame.CodeNormal, ""); err != nil {
		t.Error(err)
	}
}

// The last message before a pause gets no answer, and so no ack: the short request ends, and
// what follows passes.
func TestAsidePauses(t *testing.T) {
	shorten(t)
	got := make(chan string)
	h := session.NewHandler(session.AppFunc(func(ctx context.Context, s *session.Session) error {
		for {
			m, err := s.Receive(ctx)
			if err != nil {
				return err
			}
			if strings.HasPrefix(string(m.Data), "quiet") {
				got <- string(m.Data)
			} else if err := s.Send(ctx, m); err != nil {
				return err
			}
		}
	}), &session.Options{Grace: time.Minute, Log: discard})
	var shorts atomic.Int32
	c := dialTest(t, serveHandler(t, h, asLighttpd(h, &shorts)), &Options{Transport: Single})
	turns(t, c, 100)
	before := shorts.Load()
	send(t, c, "quiet")
	if text := <-got; text != "quiet" {
		t.Errorf("the app got %q", text)
	}
	for deadline := time.Now().Add(patience); shorts.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the short request stays open")
		}
	}
	turns(t, c, 100)
}

// Short requests are delayed, doubled, lost or cut at random, and so is the session's
// own: each message arrives once and in order both ways, and the end as well.
func TestAsideChaos(t *testing.T) {
	shorten(t)
	total := make(map[string]int)
	var shorts atomic.Int32
	var mu sync.Mutex
	var wg sync.WaitGroup
	for seed := range uint64(16) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 3))
			var started atomic.Int32
			h := session.NewHandler(session.AppFunc(func(ctx context.Context, s *session.Session) error {
				started.Add(1)
				return session.Echo.Serve(ctx, s)
			}), &session.Options{Grace: 30 * time.Second, Log: slog.New(slog.DiscardHandler)})
			behind, stop := context.WithCancel(t.Context())
			ch := &chaos{inner: asLighttpd(h, &shorts), ctx: behind, rng: rng, counts: make(map[string]int)}
			srv := httptest.NewUnstartedServer(ch)
			srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			srv.Start()
			defer func() {
				stop()
				ch.wg.Wait()
				if err := h.Shutdown(context.Background()); err != nil {
					t.Errorf("seed %d: sessions stay: %v", seed, err)
				}
				srv.Close()
				mu.Lock()
				defer mu.Unlock()
				for kind, n := range ch.counts {
					total[kind] += n
				}
			}()
			if err := asideCase(t.Context(), srv.URL, []string{"binary", "json"}[seed%2], int(seed), func() {
				ch.mu.Lock()
				defer ch.mu.Unlock()
				ch.faults = 8
			}); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if n := started.Load(); n != 1 {
				t.Errorf("seed %d: the app was started %d times", seed, n)
			}
		})
	}
	wg.Wait()
	if shorts.Load() == 0 {
		t.Error("no short request was made")
	}
	t.Logf("%d short requests, faults %v", shorts.Load(), total)
}

// asideCase sends messages in turns, of which every tenth is followed by some more at
// once, and wants each back.
func asideCase(ctx context.Context, url, codec string, seed int, begin func()) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	c, err := Dial(ctx, url, &Options{Proxy: noProxy, Codec: codec, Transport: Single})
	if err != nil {
		return err
	}
	defer c.CloseNow()
	begin()
	text := func(i int) string {
		return fmt.Sprint(i, " ", strings.Repeat("x", []int{0, 30, 300, 20_000}[(i+seed)%71%4]))
	}
	for i := 0; i < 400; {
		n := 1
		if i%10 == 0 {
			n = 5
		}
		for j := range n {
			if err := c.Send(ctx, frame.Text(text(i+j))); err != nil {
				return fmt.Errorf("send %d: %w", i+j, err)
			}
		}
		for ; n > 0; n-- {
			m, err := c.Receive(ctx)
			if err != nil || string(m.Data) != text(i) {
				return fmt.Errorf("expected %.20q, got %.20q, %w", text(i), m.Data, err)
			}
			i++
		}
	}
	if err := c.CloseSend(); err != nil {
		return err
	}
	if _, err := c.Receive(ctx); c.Err() == nil || c.Err().(*frame.CloseError).Code != frame.CodeNormal {
		return fmt.Errorf("expected the normal end, got %w", err)
	}
	return nil
}

// Through lighttpd as shipped 10,000 messages go each way, in turns and in order, over
// many short requests; to the session's own one nothing happens.
func TestAsideLighttpd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a web server")
	}
	shorten(t)
	shortLength = 8 << 10
	var shorts atomic.Int32
	lost := make(chan Event, 10)
	path := fcgiSocket(t, session.Echo, func(h http.Handler) http.Handler { return asLighttpd(h, &shorts) })
	s := servertest.Start(t, servertest.Lighttpd, servertest.Config{Socket: path})
	c := dialTest(t, s.FastCGI(), &Options{Memory: &processMemory{}, Notify: func(e Event) { lost <- e }})
	n := 10_000
	if raceEnabled {
		n = 2000
	}
	took := make([]time.Duration, n)
	first := make([]time.Duration, 0, n) // of round trips in which a short request was answered
	before := shorts.Load()
	for i := range n {
		start := time.Now()
		send(t, c, fmt.Sprint(i))
		receive(t, c, fmt.Sprint(i))
		took[i] = time.Since(start)
		if now := shorts.Load(); now > before {
			before = now
			first = append(first, took[i])
		}
	}
	if err := c.Close(frame.CodeNormal, ""); err != nil {
		t.Error(err)
	}
	if shorts.Load() < int32(n/1000) {
		t.Errorf("%d short requests, expected many", shorts.Load())
	}
	if len(lost) > 0 {
		t.Errorf("the session was lost: %v", <-lost)
	}
	slices.Sort(took)
	slices.Sort(first)
	t.Logf("%d short requests; median %v, p99 %v, slowest %v; with a change of request median %v", shorts.Load(), took[n/2], took[n*99/100], took[n-1], first[len(first)/2])
}
