package mercure

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tandem/hub"
)

// eventually waits for what no event tells of.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// TestFirstBytes: header and first bytes are there before any event is.
func TestFirstBytes(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{}, hub.Options{})
		resp := r.do("GET", "?match=t", "")
		b := make([]byte, len(comment))
		if _, err := resp.Body.Read(b); err != nil || string(b) != string(comment) {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestHeartbeat: a connection without events is not silent, and one with events has no more than these.
func TestHeartbeat(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{Heartbeat: 20 * time.Millisecond}, hub.Options{})
		resp := r.do("GET", "?match=t", "")
		in := bufio.NewReader(resp.Body)
		for i := range 5 {
			for range 2 {
				if line, err := in.ReadString('\n'); err != nil || strings.Trim(line, ":\n") != "" {
					t.Fatalf("%d: %q, %v", i, line, err)
				}
			}
		}
		id := r.update(hub.Event{Topic: "t"})
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "id: "+id+"\n" {
				break
			}
		}
	})
}

// TestLifetime: a connection ends after a while, so that who has it is authorized anew.
func TestLifetime(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{MaxLifetime: 50 * time.Millisecond}, hub.Options{})
		s := r.subscribe("match=t")
		s.ended()
		eventually(t, "the subscriber is gone", func() bool { return r.hub.Stats().Subscribers == 0 })
	})
}

// TestGone: a subscriber that hangs up is forgotten, with its subscriptions.
func TestGone(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{}, hub.Options{})
		s := r.subscribe("match=t")
		eventually(t, "it is there", func() bool { return r.hub.Stats().Subscribers == 1 && r.memory.Followed("t") == 1 })
		s.resp.Body.Close()
		eventually(t, "it is gone", func() bool { return r.hub.Stats().Subscribers == 0 && r.memory.Followed("t") == 0 })
	})
}

// TestSlow: one that reads nothing is disconnected when its queue is full, and delays nobody.
func TestSlow(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{}, hub.Options{QueueEvents: 16})
		slow := r.do("GET", "?match=t", "") // and is not read
		fast := r.subscribe("match=t")
		eventually(t, "both are there", func() bool { return r.hub.Stats().Subscribers == 2 })
		data := strings.Repeat("x", 64<<10)
		n := 0
		for ; r.hub.Stats().TooSlow == 0; n++ {
			if n > 10000 {
				t.Fatal("it is not disconnected")
			}
			r.update(hub.Event{ID: fmt.Sprint(n), Topic: "t", Data: data})
			fast.want(fmt.Sprintf("id: %d\ndata: %s\n", n, data))
		}
		eventually(t, "the slow one is gone", func() bool { return r.hub.Stats().Subscribers == 1 })
		slow.Body.Close()
		r.update(hub.Event{ID: "last", Topic: "t"})
		fast.want("id: last\ndata: \n")
	})
}

// TestGap: events that can't be had any more are told of.
func TestGap(t *testing.T) {
	r := newRig(t, "net/http", Options{}, hub.Options{})
	s := r.subscribe("match=t")
	r.update(hub.Event{ID: "1", Topic: "t"})
	r.memory.Lose("t")
	r.update(hub.Event{ID: "2", Topic: "t"})
	s.want("id: 1\ndata: \n", ": events were lost\n", "id: 2\ndata: \n")
}

// TestUnavailable: what the storage can't do is 503, and no lie.
func TestUnavailable(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		token := access(t, grant("publish", exact("*")), grant("subscribe", exact("*")))
		s := r.subscribe("match=t")
		r.update(hub.Event{ID: "1", Topic: "t"})
		s.want("id: 1\ndata: \n")
		for name, tt := range map[string]struct {
			err    error
			status int
		}{
			"full":      {fmt.Errorf("disk full: %w", hub.ErrUnavailable), 503},
			"unknown":   {errors.New("something else"), 503},
			"too large": {fmt.Errorf("65 MB: %w", hub.ErrTooLarge), 413},
		} {
			r.memory.Fail(tt.err)
			resp := r.post(token, "topic", "t", "id", name)
			if resp.StatusCode != tt.status || (resp.Header.Get("Retry-After") != "") != (tt.status == 503) {
				t.Errorf("%s: %s, %v", name, resp.Status, resp.Header)
			}
			checkProblem(t, resp, "")
			for _, path := range []string{"?match=u&lastEventID=1", "/subscriptions"} {
				if tt.status == 413 {
					continue
				}
				if resp := r.do("GET", path, "", "Authorization", "Bearer "+token); resp.StatusCode != 503 {
					t.Errorf("%s: %s: %s", name, path, resp.Status)
				}
			}
		}
		r.memory.Fail(nil)
		r.update(hub.Event{ID: "2", Topic: "t"})
		s.want("id: 2\ndata: \n")
	})
}

// TestHubCloses: then so do the streams, and nobody gets in.
func TestHubCloses(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{}, hub.Options{})
		s := r.subscribe("match=t")
		if err := r.hub.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.ended()
		if resp := r.do("GET", "?match=t", ""); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("afterwards: %s", resp.Status)
		}
	})
}

// TestLongHistory: one that doesn't fit any queue comes whole, and what is published meanwhile behind it.
func TestLongHistory(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := newRig(t, engine, Options{}, hub.Options{})
		const n = 3000
		for i := range n {
			r.update(hub.Event{ID: fmt.Sprint(i), Topic: "t"})
		}
		s := r.subscribe("match=t&lastEventID=earliest")
		go func() {
			for i := range 100 {
				r.update(hub.Event{ID: fmt.Sprint(n + i), Topic: "t"})
			}
		}()
		for i := range n + 100 {
			s.want(fmt.Sprintf("id: %d\ndata: \n", i))
		}
	})
}
