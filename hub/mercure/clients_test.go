package mercure

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"tandem/hub"
	"tandem/internal/browsertest"
)

// These tests run clients as they are published: browsers' own EventSource, the npm package eventsource, and
// Symfony's Mercure component. scripts/setup says which packages have them.

type message struct{ Type, ID, Data string }

// node subscribes with the package eventsource.
func node(t *testing.T, url, cookie string) <-chan message {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", "testdata/eventsource.cjs", url, cookie)
	cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	messages, read := make(chan message, 100), make(chan struct{})
	go func() {
		defer close(read)
		defer close(messages)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var m message
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Errorf("node says %q: %v", lines.Text(), err)
			}
			messages <- m
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
		cmd.Wait() // killed
	})
	return messages
}

func want(t *testing.T, got <-chan message, all ...message) {
	t.Helper()
	for _, want := range all {
		select {
		case m := <-got:
			if m != want {
				t.Errorf("got %+v, want %+v", m, want)
			}
		case <-time.After(patience):
			t.Fatalf("nothing came, want %+v", want)
		}
	}
}

// TestEventSource: the npm package connects, gets events, and when the connection is cut resumes after the
// last one.
func TestEventSource(t *testing.T) {
	r := withKeys(t, "net/http")
	front := httptest.NewServer(r.h)
	defer front.Close()                     // waits for open requests
	defer r.hub.Close(context.Background()) // which ends them
	query := url.Values{"match": {"https://example.com/foo", "bar"}, "matchURLPattern": {"https://example.com/bar/:id"}}
	cookie := DefaultCookie + "=" + access(t, grant("subscribe", exact("bar")))
	got := node(t, front.URL+hub.Reserved+"?"+query.Encode(), cookie)
	want(t, got, message{Type: "open"})
	r.update(hub.Event{ID: "1", Topic: "https://example.com/foo", Data: "a\n\nb", Retry: 50})
	r.update(hub.Event{ID: "2", Topic: "https://example.com/bar/7", Type: "price", Data: "7"})
	want(t, got, message{"message", "1", "a\n\nb"}, message{"price", "2", "7"})
	front.CloseClientConnections()
	r.update(hub.Event{ID: "3", Topic: "https://example.com/secret", Data: "c", Private: true})
	r.update(hub.Event{ID: "4", Topic: "bar", Data: "d", Private: true})
	r.update(hub.Event{ID: "5", Topic: "https://example.com/foo", Data: "e", Private: true})
	r.update(hub.Event{ID: "6", Topic: "https://example.com/foo", Data: "f"})
	want(t, got, message{Type: "open"}, message{"message", "4", "d"}, message{"message", "6", "f"})
	r.update(hub.Event{ID: "7", Topic: "bar", Data: "g"})
	want(t, got, message{"message", "7", "g"})
}

// TestSymfony: a Symfony site publishes, and its page subscribes by the URL and with the cookie that the
// component makes.
func TestSymfony(t *testing.T) {
	r := withKeys(t, "net/http")
	missed := r.update(hub.Event{ID: "missed", Topic: "a topic & more", Data: "x"})
	r.update(hub.Event{ID: "since", Topic: "a topic & more", Data: "y"})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "php", "testdata/symfony.php")
	cmd.Env = append(os.Environ(), "HUB="+r.url, "SECRET="+testSecret, "LAST="+missed)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var site struct {
		URL     string
		Cookies []string
		IDs     []string
		Two     int
	}
	if err := json.Unmarshal(out, &site); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if site.Two != http.StatusBadRequest {
		t.Errorf("an update of two topics: %d", site.Two)
	}
	if len(site.IDs) != 3 || len(site.Cookies) != 1 || site.IDs[1] != "urn:uuid:2" {
		t.Fatalf("the site says %+v", site)
	}
	events := []message{{"message", "since", "y"}, {"message", site.IDs[0], `{"status":"out of stock"}`}, {"price", "urn:uuid:2", "private\nlines"}, {"message", site.IDs[2], "ä"}}
	got := node(t, site.URL, site.Cookies[0])
	want(t, got, append([]message{{Type: "open"}}, events...)...)
	anybody := node(t, site.URL, "")
	want(t, anybody, message{Type: "open"}, events[0], events[1], events[3])
}

// TestBrowsers: their EventSource, with a cookie that scripts can't read.
func TestBrowsers(t *testing.T) {
	for _, kind := range browsertest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := withKeys(t, "net/http")
			token := access(t, grant("subscribe", exact("*")), grant("publish", exact("*")))
			mux := http.NewServeMux()
			mux.Handle(hub.Reserved, r.h)
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: DefaultCookie, Value: token, Path: hub.Reserved, HttpOnly: true, SameSite: http.SameSiteStrictMode})
				w.Header().Set("Content-Type", "text/html")
			})
			front := httptest.NewServer(mux)
			defer front.Close()
			defer r.hub.Close(context.Background())
			r.h.origin = front.URL // which is not known before; pages of it may publish
			page := browsertest.Start(t, kind).Open(t, front.URL)
			var opened bool
			page.Eval(t, `new Promise((resolve) => {
				window.got = [];
				window.source = new EventSource("/.well-known/mercure?match=t");
				source.onmessage = (e) => got.push(e.lastEventId + " " + e.data);
				source.onopen = () => resolve(true);
			})`, &opened)
			var status int
			page.Eval(t, `fetch("/.well-known/mercure", { method: "POST", body: new URLSearchParams({ topic: "t", data: "1", id: "a", private: "on", retry: "50" }) }).then((r) => r.status)`, &status)
			if !opened || status != http.StatusOK {
				t.Errorf("opened %v, published: %d", opened, status)
			}
			has := func(n int) string {
				var got string
				page.Eval(t, `new Promise((resolve) => { const look = () => got.length >= `+string(rune('0'+n))+` ? resolve(got.join()) : setTimeout(look, 10); look(); })`, &got)
				return got
			}
			if got := has(1); got != "a 1" {
				t.Errorf("got %q", got)
			}
			front.CloseClientConnections()
			r.update(hub.Event{ID: "b", Topic: "t", Data: "2"})
			if got := has(2); got != "a 1,b 2" {
				t.Errorf("resumed: got %q", got)
			}
			page.Eval(t, `source.close()`, nil)
		})
	}
}
