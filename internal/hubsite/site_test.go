package hubsite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tandem/client"
	"tandem/internal/config"
	"tandem/session"
	"tandem/session/frame"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func parse(t *testing.T, text string) *config.Endpoint {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "tandem.toml"), "app = 'hub'\ndatabase = 'hub.db'\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	return c.Endpoints[0]
}

func serve(t *testing.T, e *config.Endpoint) string {
	t.Helper()
	site, app, err := New(e, quiet)
	if err != nil {
		t.Fatal(err)
	}
	sessions := session.NewHandler(app, &session.Options{Log: quiet})
	srv := httptest.NewServer(site.Handler(sessions))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(site.End(ctx), sessions.Shutdown(ctx), site.Close()); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return srv.URL + "/hub"
}

// TestOneURL: who subscribes with a session and who does by Server-Sent Events get what either way publishes.
func TestOneURL(t *testing.T) {
	at := serve(t, parse(t, "publish = 'anyone'\n"))
	c, err := client.Dial(t.Context(), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ask := func(text string) {
		t.Helper()
		if err := c.Send(ctx, frame.Message{Data: []byte(text), Text: true}); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() string {
		t.Helper()
		m, err := c.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(m.Data)
	}
	ask(`{"subscribe":{"topics":["a"]}}`)
	if got := receive(); !strings.Contains(got, `"subscribed"`) {
		t.Fatal(got)
	}
	req, _ := http.NewRequestWithContext(ctx, "GET", at+"?match=a", nil)
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if ct := stream.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("got %s %s", stream.Status, ct)
	}
	answer, err := http.PostForm(at, url.Values{"topic": {"a"}, "data": {"posted"}, "id": {"urn:1"}})
	if err != nil || answer.StatusCode != 200 {
		t.Fatal(answer, err)
	}
	answer.Body.Close()
	if got := receive(); got != `{"event":{"id":"urn:1","topic":"a","data":"posted"}}` {
		t.Error(got)
	}
	ask(`{"publish":{"topic":"a","data":"sent","id":"urn:2"}}`)
	lines := bufio.NewScanner(stream.Body)
	for want := []string{"id: urn:1", "data: posted", "id: urn:2", "data: sent"}; len(want) > 0; {
		if !lines.Scan() {
			t.Fatalf("the stream ended before %q: %v", want[0], lines.Err())
		}
		if lines.Text() == want[0] {
			want = want[1:]
		}
	}
}

func TestWhose(t *testing.T) {
	for _, c := range []struct {
		method, path, header string
		mercure              bool
	}{
		{"GET", "/hub", "", false},
		{"GET", "/hub", "Accept: application/json", false},
		{"GET", "/hub", "Accept: text/event-stream", true},
		{"GET", "/hub?match=a", "", true},
		{"GET", "/hub?matchURLPattern=a", "", true},
		{"GET", "/hub?topic=a", "Accept: */*", true},
		{"GET", "/hub?topic=a", "Tandem-Session: x", false},
		{"GET", "/hub/subscriptions/Exact/a", "", true},
		{"GET", "/.well-known/oauth-protected-resource/.well-known/mercure", "", true},
		{"POST", "/hub", "", false},
		{"POST", "/hub", "Content-Type: text/plain", false},
		{"POST", "/hub", "Content-Type: application/json", false},
		{"POST", "/hub", "Content-Type: application/x-www-form-urlencoded;charset=utf-8", true},
		{"OPTIONS", "/hub", "", false},
		{"OPTIONS", "/hub", "Access-Control-Request-Method: POST", true},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			r.Header.Set(name, value)
		}
		if got := isMercure(r); got != c.mercure {
			t.Errorf("%s %s %s: Mercure's: %v", c.method, c.path, c.header, got)
		}
	}
	r := httptest.NewRequest("OPTIONS", "/hub", nil)
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "content-type, tandem-open")
	if isMercure(r) {
		t.Error("a session's preflight is taken for Mercure's")
	}
}

// TestToken: what a token grants holds for its session, and an invalid one opens none.
func TestToken(t *testing.T) {
	secret := strings.Repeat("s", 32)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	const hubURL = "https://x.example/hub"
	at := serve(t, parse(t, fmt.Sprintf("url = %q\npublisher_keys = %q\nsubscriber_keys = %q\n", hubURL, file, file)))
	token := func(key string) string {
		j := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": hubURL, "exp": time.Now().Add(time.Hour).Unix(), "sub": "ann",
			"authorization_details": []any{map[string]any{"type": "mercure", "actions": []string{"publish", "subscribe"}, "topics": []any{map[string]any{"match": "a"}}}}})
		j.Header["typ"] = "at+jwt"
		s, err := j.SignedString([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	talk := func(token string, requests ...string) (answers []string, err error) {
		o := &client.Options{Header: http.Header{}}
		if token != "" {
			o.Header.Set("Authorization", "Bearer "+token)
		}
		c, err := client.Dial(ctx, at, o)
		if err != nil {
			return nil, err
		}
		defer c.CloseNow()
		for _, r := range requests {
			if err := c.Send(ctx, frame.Message{Data: []byte(r), Text: true}); err != nil {
				return answers, err
			}
			m, err := c.Receive(ctx)
			if err != nil {
				return answers, err
			}
			answers = append(answers, string(m.Data))
		}
		return answers, nil
	}
	good := token(secret)
	publish := `{"publish":{"topic":"a","data":"secret","id":"urn:1","private":true}}`
	got, err := talk(good, publish, `{"publish":{"topic":"b"}}`, `{"presence":{}}`)
	if err != nil || got[0] != `{"published":{"id":"urn:1"}}` || !strings.Contains(got[1], "forbidden") || !strings.Contains(got[2], "forbidden") {
		t.Errorf("publishing with a token: %q %v", got, err)
	}
	history := `{"subscribe":{"topics":["a"],"earliest":true}}`
	if got, err := talk(good, history, `{"unsubscribe":1}`); err != nil || got[1] != `{"event":{"id":"urn:1","topic":"a","data":"secret","private":true}}` {
		t.Errorf("reading with a token: %q %v", got, err)
	}
	if got, err := talk("", history, publish); err != nil || !strings.Contains(got[1], "forbidden") {
		t.Errorf("without a token: %q %v", got, err)
	}
	var over *frame.CloseError
	if got, err := talk(token(strings.Repeat("x", 32)), history); !errors.As(err, &over) || over.Code != frame.CodePolicy {
		t.Errorf("with a token of somebody else: %q %v", got, err)
	}
}

func TestKeyErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(bad, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, text := range map[string]string{
		"slow":            "slow = 'keep-latest (('\n",
		"publisher_keys":  "url = 'https://x.example/hub'\npublisher_keys = 'missing'\n",
		"subscriber_keys": fmt.Sprintf("url = 'https://x.example/hub'\nsubscriber_keys = %q\n", bad),
	} {
		_, _, err := New(parse(t, text), quiet)
		var ke *KeyError
		if !errors.As(err, &ke) || ke.Key != key {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// TestNATSKeyErrors: what natsbus says of its options names the key.
func TestNATSKeyErrors(t *testing.T) {
	for key, text := range map[string]string{
		"nats_name":        "nats_name = 'a.b'\n",
		"nats_credentials": "nats_credentials = 'missing'\n",
		"nats_ca":          "nats_ca = 'missing'\n",
		"history_age":      "history_age = '1ms'\n",
	} {
		c, err := config.Parse(filepath.Join(t.TempDir(), "tandem.toml"), "app = 'hub'\nnats = 'nats://127.0.0.1:1'\n"+text)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = New(c.Endpoints[0], quiet)
		var ke *KeyError
		if !errors.As(err, &ke) || ke.Key != key {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// TestNothingOpened: what isn't used isn't opened.
func TestNothingOpened(t *testing.T) {
	e := parse(t, "")
	site, _, err := New(e, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(filepath.Dir(e.Hub.Database)); err != nil || len(list) > 0 {
		t.Errorf("%v %v", list, err)
	}
	if err := site.Close(); err != nil {
		t.Error(err)
	}
}
