package natse2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// reader subscribes to topics at one host after the other, each time behind the last event that it had.
type reader struct {
	hosts  []*host
	topics []string
	began  chan struct{} // closed once it is subscribed for the first time

	mu       sync.Mutex
	ids      []string
	gaps     int
	comments int
	times    int // that it subscribed
	missing  int // of these, that the hub told that events behind the last one are lost
}

// newReader begins at the host that is first. read is readStream or readSession.
func newReader(t testing.TB, hosts []*host, first int, topics []string, read func(context.Context, *reader, *host, string)) *reader {
	t.Helper()
	return (&reader{hosts: hosts, topics: topics, began: make(chan struct{})}).start(t, first, read)
}

func (r *reader) start(t testing.TB, first int, read func(context.Context, *reader, *host, string)) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		for i := first; ctx.Err() == nil; i++ {
			read(ctx, r, r.hosts[i%len(r.hosts)], r.last())
			select {
			case <-time.After(10 * time.Millisecond): // a host that isn't there says so at once
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { cancel(); run.Wait() })
	select {
	case <-r.began:
	case <-time.After(patience):
		t.Fatal("nobody lets one subscribe")
	}
	return r
}

func (r *reader) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) == 0 {
		return ""
	}
	return r.ids[len(r.ids)-1]
}

func (r *reader) subscribed(recovered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.times++; r.times == 1 {
		close(r.began)
	} else if !recovered {
		r.missing++
	}
}

func (r *reader) add(to *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to++
}

func (r *reader) event(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, id)
}

// state is a copy.
func (r *reader) state() reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	return reader{ids: append([]string(nil), r.ids...), gaps: r.gaps, comments: r.comments, times: r.times, missing: r.missing}
}

func (r *reader) has(id string) bool {
	for _, got := range r.state().ids {
		if got == id {
			return true
		}
	}
	return false
}

// readStream is Server-Sent Events.
func readStream(ctx context.Context, r *reader, h *host, after string) {
	req, err := http.NewRequestWithContext(ctx, "GET", h.url()+"?"+url.Values{"match": r.topics}.Encode(), nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return
	}
	r.subscribed(resp.Header.Get("Last-Event-ID") == after)
	lines := bufio.NewScanner(resp.Body)
	id := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch {
		case name == "id":
			id = strings.TrimPrefix(value, " ")
		case name == "" && strings.Contains(value, "lost"):
			r.add(&r.gaps)
		case name == "" && value != "" || lines.Text() == ":":
			r.add(&r.comments)
		case lines.Text() == "" && id != "":
			r.event(id)
			id = ""
		}
	}
}

// readSession is the hub's own app.
func readSession(ctx context.Context, r *reader, h *host, after string) {
	c, err := client.Dial(ctx, h.url(), &client.Options{Transport: client.Single, NoResume: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	type subscribe struct {
		Topics []string `json:"topics"`
		After  string   `json:"after,omitempty"`
	}
	ask, err := json.Marshal(map[string]subscribe{"subscribe": {r.topics, after}})
	if err != nil {
		panic(err)
	}
	if c.Send(ctx, frame.Message{Data: ask, Text: true}) != nil {
		return
	}
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return
		}
		var got struct {
			Subscribed *struct{ Recovered bool }
			Event      *struct{ ID string }
			Gap        bool
		}
		if err := json.Unmarshal(m.Data, &got); err != nil {
			panic(err)
		}
		switch {
		case got.Subscribed != nil:
			r.subscribed(got.Subscribed.Recovered)
		case got.Event != nil:
			r.event(got.Event.ID)
		case got.Gap:
			r.add(&r.gaps)
		default:
			return // refused: another host may do it
		}
	}
}
