package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/session"
	"tandem/session/frame"
)

// hub is as little of one as an audience needs. Its fault may make other data, or none, of what
// is for a subscriber.
type hub struct {
	mu    sync.Mutex
	subs  []chan string
	fault func(subscriber int, data string) []string
}

func (h *hub) subscribe() chan string {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan string, 1000)
	h.subs = append(h.subs, c)
	return c
}

func (h *hub) publish(data string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, c := range h.subs {
		list := []string{data}
		if h.fault != nil {
			list = h.fault(i, data)
		}
		for _, d := range list {
			c <- d
		}
	}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.FormValue("topic") == "t":
		h.publish(r.FormValue("data"))
	case r.Method == http.MethodGet && r.Header.Get("Accept") == "text/event-stream":
		c := h.subscribe()
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			http.NewResponseController(w).Flush()
			select {
			case data, ok := <-c:
				if !ok {
					return
				}
				id, _, _ := strings.Cut(data, " ")
				fmt.Fprintf(w, "id: %s\ndata: %s\n\n", id, data)
			case <-r.Context().Done():
				return
			}
		}
	default:
		http.Error(w, "not here", http.StatusNotFound)
	}
}

// Serve is the app of sessions.
func (h *hub) Serve(ctx context.Context, s *session.Session) error {
	m, err := s.Receive(ctx)
	if err != nil || string(m.Data) != `{"subscribe":{"topics":["t"]}}` {
		return fmt.Errorf("got %q, %v", m.Data, err)
	}
	c := h.subscribe()
	for text := `{"subscribed":{}}`; ; {
		if err := s.Send(ctx, frame.Text(text)); err != nil {
			return err
		}
		select {
		case data := <-c:
			text = fmt.Sprintf(`{"event":{"id":"x","topic":"t","data":%q}}`, data)
		case <-ctx.Done():
			return nil
		}
	}
}

// serveHub runs h until the test ends. tls: with TLS, which the epoll loop is not for.
func serveHub(t *testing.T, h *hub, tls bool) (audience *Streams, publish Publisher) {
	start := httptest.NewServer
	if tls {
		start = httptest.NewTLSServer
	}
	s := start(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	audience = &Streams{URL: u}
	if tls {
		audience.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig
	}
	return audience, Mercure(s.Client(), s.URL, "t", nil)
}

func TestFanOut(t *testing.T) {
	h := &hub{}
	plain, publish := serveHub(t, h, false)
	secure, publishSecure := serveHub(t, h, true)
	sessions := &Sessions{Topic: "t", Options: client.Options{Transport: client.Single}}
	handler := session.NewHandler(h, &session.Options{Log: slog.New(slog.DiscardHandler)})
	s := httptest.NewServer(handler)
	defer s.Close()
	defer handler.Shutdown(context.Background())
	sessions.URL = s.URL
	for _, c := range []struct {
		name     string
		audience Audience
		publish  Publisher
	}{{"streams", plain, publish}, {"streams over TLS", secure, publishSecure}, {"sessions", sessions, publish}} {
		t.Run(c.name, func(t *testing.T) {
			h.mu.Lock()
			h.subs = nil
			h.mu.Unlock()
			f, opened, err := OpenFanOut(t.Context(), c.audience, c.publish, 7, 3, 100, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if n := opened.Times.Count(); n != 7 {
				t.Errorf("%d opened, want 7", n)
			}
			for _, l := range []FanOutLoad{{Rate: 100, Ahead: 10}, {Ahead: 1}, {Ahead: 4}} {
				l.Warm, l.During = 5*time.Millisecond, 50*time.Millisecond
				r, err := f.Measure(t.Context(), l, []int{0})
				if err != nil {
					t.Fatalf("%v: %v", l, err)
				}
				if r.Events == 0 || r.Delivered != 7*r.Events || int(r.Times.Count()) != r.Delivered || r.Lost != 0 || r.Doubled != 0 || r.PerSecond() <= 0 || len(r.CPU) != 1 ||
					l.Rate > 0 && r.Events > 5 || r.Times.Max() > r.Took {
					t.Errorf("%v: %+v", l, r)
				}
			}
		})
	}
}

// TestFanOutFaults: what doesn't come, or comes twice, is told.
func TestFanOutFaults(t *testing.T) {
	number := func(data string) string { n, _, _ := strings.Cut(data, " "); return n }
	for _, c := range []struct {
		name          string
		fault         func(sub int, data string) []string
		lost, doubled int
		err           string
	}{
		{name: "lost", lost: 2, fault: func(sub int, data string) []string {
			if sub == 1 && slices.Contains([]string{"3", "5"}, number(data)) {
				return nil
			}
			return []string{data}
		}},
		{name: "doubled", doubled: 1, fault: func(sub int, data string) []string {
			if sub == 2 && number(data) == "4" {
				return []string{data, data}
			}
			return []string{data}
		}},
		{name: "foreign", err: `subscriber 1: expected data that begins with the number of an event, got "hello"`, fault: func(sub int, data string) []string {
			if sub == 0 && number(data) == "4" {
				return []string{"hello"}
			}
			return []string{data}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			audience, publish := serveHub(t, &hub{fault: c.fault}, false)
			f, _, err := OpenFanOut(t.Context(), audience, publish, 3, 1, 100, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r, err := f.Measure(t.Context(), FanOutLoad{Rate: 200, Ahead: 20, During: 60 * time.Millisecond})
			switch {
			case c.err != "":
				if err == nil || err.Error() != c.err {
					t.Errorf("%v, want %s", err, c.err)
				}
			case err != nil:
				t.Fatal(err)
			case r.Lost != c.lost || r.Doubled != c.doubled || r.Delivered != 3*r.Events-c.lost:
				t.Errorf("%+v, want %d lost, %d doubled", r, c.lost, c.doubled)
			}
		})
	}
}

// TestFanOutEnds: a stream that ends, and a server that refuses, are errors.
func TestFanOutEnds(t *testing.T) {
	for _, tls := range []bool{false, true} {
		h := &hub{}
		audience, publish := serveHub(t, h, tls)
		f, _, err := OpenFanOut(t.Context(), audience, publish, 3, 1, 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h.mu.Lock()
		close(h.subs[1])
		h.subs = slices.Delete(h.subs, 1, 2)
		h.mu.Unlock()
		if _, err := f.Measure(t.Context(), FanOutLoad{Ahead: 1, During: Patience}); err == nil || !strings.Contains(err.Error(), "subscriber 2: the stream ended") {
			t.Errorf("TLS %v: %v", tls, err)
		}
	}
	audience, _ := serveHub(t, &hub{}, false)
	refused := Mercure(http.DefaultClient, audience.URL.String(), "other", nil)
	_, _, err := OpenFanOut(t.Context(), audience, refused, 1, 1, 100, nil)
	if err == nil || !strings.Contains(err.Error(), "publish: expected a status of success, got 404") {
		t.Error(err)
	}
	audience.URL = &url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: "/"}
	if _, _, err = OpenFanOut(t.Context(), audience, refused, 1, 1, 100, nil); err == nil {
		t.Error("nobody listens: no error")
	}
}

func TestEventNumber(t *testing.T) {
	for text, want := range map[string]uint64{"1 xxx": 1, "1234567890 ": 1234567890} {
		if got, ok := eventNumber([]byte(text)); !ok || got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "x", " 1", "12", "0 x", "99999999999999999999 x"} {
		if got, ok := eventNumber([]byte(text)); ok {
			t.Errorf("%q: %d, want none", text, got)
		}
	}
}
