package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tandem/client"
	"tandem/hub"
	"tandem/hub/app"
	"tandem/hub/bustest"
	"tandem/session"
	"tandem/session/frame"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// serve serves the app of a hub, and returns both.
func serve(t *testing.T, m *bustest.Memory, ho hub.Options, o app.Options) (*hub.Hub, string) {
	t.Helper()
	ho.Log = quiet
	h := hub.New(m.Bus(), &ho)
	sh := session.NewHandler(app.New(h, o), &session.Options{Log: quiet, Grace: 10 * time.Second})
	srv := httptest.NewServer(sh)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(h.Close(ctx), sh.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return h, srv.URL
}

type conn struct {
	*client.Conn
	t *testing.T
}

func dial(t *testing.T, url string) *conn {
	t.Helper()
	c, err := client.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return &conn{c, t}
}

func (c *conn) send(text string) {
	c.t.Helper()
	if err := c.Send(c.t.Context(), frame.Message{Data: []byte(text), Text: true}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conn) receive() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(m.Data)
}

func (c *conn) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.receive(); got != w {
			c.t.Fatalf("got %s, want %s", got, w)
		}
	}
}

// anyone may all.
func anyone(*session.Peer) (*hub.Rights, error) {
	return &hub.Rights{ID: "urn:me", Publish: []hub.Matcher{hub.All}, Readable: []hub.Matcher{hub.All}, Present: true}, nil
}

func TestRequests(t *testing.T) {
	_, url := serve(t, new(bustest.Memory), hub.Options{Presence: true}, app.Options{Authorize: anyone})
	c := dial(t, url)
	c.send(`{"publish":{"topic":"a","data":"0","id":"urn:0"},"ref":0}`)
	c.send(`{"subscribe":{"topics":["a"],"patterns":["/b/:x"]},"ref":"s"}`)
	c.send(`{"publish":{"topic":"a","data":"1","id":"urn:1","type":"t","private":true},"ref":[1,"x"]}`)
	c.expect(`{"ref":0,"published":{"id":"urn:0"}}`, `{"ref":"s","subscribed":{"subscription":1,"recovered":true}}`)
	// The event and the answer to who has published it come in either order.
	got := map[string]bool{c.receive(): true, c.receive(): true}
	for _, want := range []string{`{"ref":[1,"x"],"published":{"id":"urn:1"}}`, `{"event":{"id":"urn:1","topic":"a","type":"t","data":"1","private":true}}`} {
		if !got[want] {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	c.send(`{"presence":{"match":"a"},"ref":2}`)
	c.expect(`{"ref":2,"present":[{"subscriber":"urn:me","matchType":"Exact","match":"a"}]}`)
	c.send(`{"unsubscribe":1}`)
	c.expect(`{"unsubscribed":1}`)
	c.send(`{"subscribe":{"topics":["a"],"after":"urn:0"}}`)
	c.expect(`{"subscribed":{"subscription":2,"recovered":true}}`, `{"event":{"id":"urn:1","topic":"a","type":"t","data":"1","private":true}}`)
	c.send(`{"subscribe":{"topics":["/b/1"],"after":"urn:unknown"},"ref":3}`)
	c.expect(`{"ref":3,"subscribed":{"subscription":3,"recovered":false}}`)
	c.send(`{"subscribe":{"patterns":["*"],"earliest":true},"ref":4}`)
	c.expect(`{"ref":4,"subscribed":{"subscription":4,"recovered":true}}`, `{"event":{"id":"urn:0","topic":"a","data":"0"}}`)
}

// TestBadRequests: each is answered, says what to do, and costs nothing else.
func TestBadRequests(t *testing.T) {
	m := new(bustest.Memory)
	_, url := serve(t, m, hub.Options{MaxMatchers: 2, MaxData: 10}, app.Options{Authorize: func(*session.Peer) (*hub.Rights, error) {
		return &hub.Rights{Publish: []hub.Matcher{hub.All}}, nil
	}})
	c := dial(t, url)
	c.send(`{"subscribe":{"topics":["a"]}}`)
	c.expect(`{"subscribed":{"subscription":1,"recovered":true}}`)
	for _, r := range []struct{ send, code string }{
		{``, "bad-request"},
		{`x`, "bad-request"},
		{`null`, "bad-request"},
		{`[]`, "bad-request"},
		{`{}`, "bad-request"},
		{`{"ref":1}`, "bad-request"},
		{`{"ref":1,"subscribe":{"topics":["b"]},"unsubscribe":1}`, "bad-request"},
		{`{"subscribe":{"topics":["b"]}} {}`, "bad-request"},
		{`{"ref":1,"subscribe":{"topics":[]}}`, "bad-request"},
		{`{"ref":1,"subscribe":{"topics":"b"}}`, "bad-request"},
		{`{"ref":1,"subscribe":{"topics":["b","c"]}}`, "bad-request"},
		{`{"ref":1,"subscribe":{"topics":["b\u0007"]}}`, "bad-request"},
		{`{"ref":1,"subscribe":{"patterns":["(("]}}`, "bad-request"},
		{`{"ref":1,"subscribe":{"topics":["b"],"since":"x"}}`, "bad-request"},
		{`{"ref":1,"unsubscribe":7}`, "bad-request"},
		{`{"ref":1,"publish":{"topic":"*"}}`, "bad-request"},
		{`{"ref":1,"publish":{"topic":"a","data":{"x":1}}}`, "bad-request"},
		{`{"ref":1,"publish":{"topic":"a","data":"01234567890"}}`, "too-large"},
		{`{"ref":1,"publish":{"topic":"/.well-known/mercure/x"}}`, "forbidden"},
		{`{"ref":1,"presence":{}}`, "forbidden"},
		{`{"ref":"` + strings.Repeat("x", 300) + `","presence":{}}`, "bad-request"},
	} {
		c.send(r.send)
		answer := c.receive()
		var a struct {
			Ref   json.RawMessage
			Error struct{ Code, Text, Do string }
		}
		if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Error.Code != r.code || a.Error.Text == "" || a.Error.Do == "" {
			t.Errorf("%s: got %s, want an error with %s, a text and what to do", r.send, answer, r.code)
		}
		if strings.HasPrefix(r.send, `{"ref":1`) && string(a.Ref) != "1" {
			t.Errorf("%s: the answer has no ref: %s", r.send, answer)
		}
	}
	if err := c.Send(t.Context(), frame.Message{Data: []byte(`{"unsubscribe":1}`)}); err != nil {
		t.Fatal(err)
	}
	if a := c.receive(); !strings.Contains(a, "binary") {
		t.Errorf("binary: %s", a)
	}
	if n := m.Stored(); n != 0 {
		t.Errorf("%d events were stored", n)
	}
	m.Fail(fmt.Errorf("disk full: %w", hub.ErrUnavailable))
	c.send(`{"ref":1,"publish":{"topic":"a"}}`)
	if a := c.receive(); !strings.Contains(a, `"code":"unavailable"`) {
		t.Errorf("disk full: %s", a)
	}
	m.Fail(nil)
	c.send(`{"ref":1,"publish":{"topic":"a","data":"last","id":"urn:x"}}`)
	c.receive()
	if a := c.receive(); !strings.Contains(a, "last") && !strings.Contains(a, "published") {
		t.Errorf("the session is no more what it was: %s", a)
	}
}

func TestRights(t *testing.T) {
	h, url := serve(t, new(bustest.Memory), hub.Options{}, app.Options{})
	c := dial(t, url)
	c.send(`{"publish":{"topic":"a"}}`)
	if a := c.receive(); !strings.Contains(a, `"code":"forbidden"`) {
		t.Errorf("publishing is open: %s", a)
	}
	c.send(`{"subscribe":{"topics":["a"]}}`)
	c.receive()
	for _, private := range []bool{true, false} {
		if err := h.Publish(t.Context(), &hub.Event{ID: "urn:1", Topic: "a", Private: private}); err != nil {
			t.Fatal(err)
		}
		if err := h.Publish(t.Context(), &hub.Event{ID: "urn:2", Topic: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	c.expect(`{"event":{"id":"urn:2","topic":"a","data":""}}`)
}

func TestRefusedAndExpired(t *testing.T) {
	for _, test := range []struct {
		name      string
		authorize func(*session.Peer) (*hub.Rights, error)
		code      frame.Code
	}{
		{"refused", func(*session.Peer) (*hub.Rights, error) { return nil, errors.New("the access token is not valid here") }, frame.CodePolicy},
		{"expires", func(*session.Peer) (*hub.Rights, error) {
			return &hub.Rights{Expires: time.Now().Add(10 * time.Millisecond)}, nil
		}, frame.CodeExpired},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, url := serve(t, new(bustest.Memory), hub.Options{}, app.Options{Authorize: test.authorize})
			c, err := client.Dial(t.Context(), url, nil)
			if err == nil {
				defer c.CloseNow()
				_, err = c.Receive(t.Context())
			}
			var e *frame.CloseError
			if !errors.As(err, &e) || e.Code != test.code {
				t.Errorf("got %v, want close %d", err, test.code)
			}
		})
	}
}

// TestTooSlow: a client that reads nothing is disconnected with 4002, and another one, that reads, gets all.
func TestTooSlow(t *testing.T) {
	h, url := serve(t, new(bustest.Memory), hub.Options{QueueEvents: 10}, app.Options{})
	slow, quick := dial(t, url), dial(t, url)
	for _, c := range []*conn{slow, quick} {
		c.send(`{"subscribe":{"topics":["a"]}}`)
		c.receive()
	}
	data := strings.Repeat("x", 10_000)
	n := 0
	for ; h.Stats().TooSlow == 0; n++ {
		if n == 10_000 {
			t.Fatal("nobody was too slow")
		}
		if err := h.Publish(t.Context(), &hub.Event{ID: fmt.Sprint("urn:", n), Topic: "a", Data: data}); err != nil {
			t.Fatal(err)
		}
		quick.expect(fmt.Sprintf(`{"event":{"id":"urn:%d","topic":"a","data":"%s"}}`, n, data))
	}
	got := 0
	for ; ; got++ {
		m, err := slow.Receive(t.Context())
		if err == nil {
			if want := fmt.Sprintf(`"urn:%d"`, got); !strings.Contains(string(m.Data[:100]), want) {
				t.Fatalf("got %.100s, want %s", m.Data, want)
			}
			continue
		}
		var e *frame.CloseError
		if !errors.As(err, &e) || e.Code != frame.CodeTooSlow {
			t.Fatalf("got %v, want close 4002", err)
		}
		break
	}
	again := dial(t, url)
	again.send(fmt.Sprintf(`{"subscribe":{"topics":["a"],"after":"urn:%d"}}`, got-1))
	again.expect(`{"subscribed":{"subscription":1,"recovered":true}}`)
	for ; got < n; got++ {
		again.expect(fmt.Sprintf(`{"event":{"id":"urn:%d","topic":"a","data":"%s"}}`, got, data))
	}
}

// TestFull: a session beyond the hub's bound is closed with 1013: its client may come back.
func TestFull(t *testing.T) {
	h, url := serve(t, new(bustest.Memory), hub.Options{MaxSubscribers: 1}, app.Options{})
	c := dial(t, url)
	c.send(`{"subscribe":{"topics":["a"]}}`)
	c.receive()
	second, err := client.Dial(t.Context(), url, nil)
	if err == nil {
		defer second.CloseNow()
		_, err = second.Receive(t.Context())
	}
	var e *frame.CloseError
	if !errors.As(err, &e) || e.Code != frame.CodeOverloaded {
		t.Errorf("got %v, want close 1013", err)
	}
	if n := h.Stats().Full; n == 0 {
		t.Error("it isn't counted")
	}
}
