package hube2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// TestRoutes goes with all that a hub offers through each web server. That an event isn't held back shows in that it
// comes while nothing is sent behind it.
func TestRoutes(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			topic := "https://hub.example/books/" + r.name // goes through paths only when it is encoded
			id := func(name string) string { return r.name + "-" + name }
			reader, writer := token(t, "subscribe"), token(t, "publish")

			// Without a token.
			form := url.Values{"topic": {topic}, "data": {"x"}}
			resp, body := r.ask(t, "POST", r.hub, form, nil)
			if resp.StatusCode != http.StatusUnauthorized || !isProblem(resp, body) || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("publishing without a token: %s %v: %s", resp.Status, resp.Header, body)
			}
			anybody := r.start(t, nil, topic)
			if link := anybody.wait().Get("Link"); !strings.Contains(link, "<"+hubURL+`>; rel="mercure"`) {
				t.Errorf("Link: %s", link)
			}

			// With one: in the header, and in the cookie.
			byHeader := r.listen(t, bearer(reader), topic)
			byCookie := r.listen(t, cookie(reader), topic)
			began := time.Now()
			r.publish(t, id("private"), topic, "secret\nlines", true)
			for _, s := range []*source{byHeader, byCookie} {
				if e := s.next(); e.ID != id("private") || e.Data != "secret\nlines" {
					t.Errorf("got %+v", e)
				} else {
					t.Logf("an event came %v after it was posted", e.At.Sub(began).Round(100*time.Microsecond))
				}
			}
			form.Set("id", id("public"))
			page := cookie(writer)
			page.Set("Origin", "https://elsewhere.example")
			if resp, body := r.ask(t, "POST", r.hub, form, page); resp.StatusCode != http.StatusForbidden || !isProblem(resp, body) {
				t.Errorf("a page of another origin published: %s: %s", resp.Status, body)
			}
			page.Set("Origin", "https://hub.example")
			if resp, body := r.ask(t, "POST", r.hub, form, page); resp.StatusCode != http.StatusOK || body != id("public") {
				t.Errorf("a page of the hub's origin: %s: %s", resp.Status, body)
			}
			for _, s := range []*source{anybody, byHeader, byCookie} { // anybody: nothing before
				s.expect(id("public"))
			}

			// Over a session, at both URLs.
			for i, at := range []string{r.session, r.hub} {
				c := r.open(t, at, token(t, "subscribe", "publish"))
				say(t, c, `{"subscribe":{"topics":["%s"]}}`, topic)
				hear(t, c, `{"subscribed":{"subscription":1,"recovered":true}}`)
				posted := id(fmt.Sprint("posted", i))
				r.publish(t, posted, topic, "p", true)
				hear(t, c, fmt.Sprintf(`{"event":{"id":"%s","topic":"%s","data":"p","private":true}}`, posted, topic))
				sent := id(fmt.Sprint("sent", i))
				say(t, c, `{"publish":{"topic":"%s","data":"s","id":"%s"},"ref":2}`, topic, sent)
				got := []string{receive(t, c), receive(t, c)}
				event := fmt.Sprintf(`{"event":{"id":"%s","topic":"%s","data":"s"}}`, sent, topic)
				answer := fmt.Sprintf(`{"ref":2,"published":{"id":"%s"}}`, sent)
				if got[0] != event && got[1] != event || got[0] != answer && got[1] != answer {
					t.Errorf("got %s, expected %s and %s", got, event, answer)
				}
				byHeader.expect(posted, sent)
				c.Close(frame.CodeNormal, "")
			}

			// Who is there: paths with %2F.
			at := r.hub + "/subscriptions/Exact/" + url.QueryEscape(topic)
			resp, body = r.ask(t, "GET", at, nil, bearer(reader))
			var list struct {
				Subscriptions []struct{ Match, Subscriber string }
			}
			if err := json.Unmarshal([]byte(body), &list); err != nil || resp.StatusCode != http.StatusOK || len(list.Subscriptions) < 3 || list.Subscriptions[0].Match != topic {
				t.Errorf("GET %s: %s: %s", at, resp.Status, body)
			} else {
				at += "/" + url.QueryEscape(list.Subscriptions[0].Subscriber)
				if resp, body = r.ask(t, "GET", at, nil, bearer(reader)); resp.StatusCode != http.StatusOK || !strings.Contains(body, list.Subscriptions[0].Subscriber) {
					t.Errorf("GET %s: %s: %s", at, resp.Status, body)
				}
			}
			if resp, body = r.ask(t, "GET", r.root+"/.well-known/oauth-protected-resource/.well-known/mercure", nil, nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"`+hubURL+`"`) {
				t.Errorf("the hub's metadata: %s: %s", resp.Status, body)
			}

			// What somebody has missed who was away.
			header := bearer(reader)
			header.Set("Last-Event-ID", id("public"))
			back := r.start(t, header, topic)
			if got := back.wait().Get("Last-Event-ID"); got != id("public") {
				t.Errorf("resumed behind %q", got)
			}
			back.expect(id("posted0"), id("sent0"), id("posted1"), id("sent1"))
		})
	}
}

// isProblem tells whether an answer says what is wrong as RFC 9457 has it.
func isProblem(resp *http.Response, body string) bool {
	var p struct {
		Status        int
		Title, Detail string
	}
	err := json.Unmarshal([]byte(body), &p)
	return err == nil && p.Status == resp.StatusCode && p.Detail != "" && resp.Header.Get("Content-Type") == "application/problem+json"
}

func say(t *testing.T, c *client.Conn, format string, args ...any) {
	t.Helper()
	if err := c.Send(within(t, patience), frame.Message{Data: fmt.Appendf(nil, format, args...), Text: true}); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *client.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Data)
}

func hear(t *testing.T, c *client.Conn, want string) {
	t.Helper()
	if got := receive(t, c); got != want {
		t.Fatalf("got %s, expected %s", got, want)
	}
}
