package mercure

import (
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tandem/hub"
	"tandem/hub/bustest"
)

// FuzzPublish: a form is refused, or is an event whose encoding is one event of the same fields.
func FuzzPublish(f *testing.F) {
	for _, s := range []string{"topic=t", "topic=t&data=a%0Ab&id=1&type=x&retry=10&private", "topic=t&id=%00", "topic=%ff", "topic=t;data", "topic=t&data=%0D%0A%0D&type=%0Adata%3Ax", "topic=/.well-known/../.well-known%2fmercure/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		h, err := New(Options{Hub: hub.New(new(bustest.Memory).Bus(), nil), PublishAnyone: true, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		e, refused := parseUpdate(body)
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", hub.Reserved, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		h.ServeHTTP(w, r)
		switch {
		case w.Code != 200 && (w.Code < 400 || w.Code >= 500):
			t.Fatalf("%d: %s", w.Code, w.Body)
		case refused != nil && w.Code == 200:
			t.Fatalf("accepted, though %s", refused.detail)
		case w.Code != 200:
			return
		}
		e.ID = w.Body.String()
		id, typ, data, events := parseSSE(string(hub.AppendSSE(nil, e)))
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(e.Data)
		if id != e.ID || typ != e.Type || data != want || events != 1 {
			t.Errorf("%+v is read as %d events, id %q, type %q, data %q", e, events, id, typ, data)
		}
	})
}

// parseSSE reads an event stream as section 9.2.6 of the HTML standard says.
func parseSSE(s string) (id, typ, data string, events int) {
	var lines []string
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
	for line := range strings.SplitSeq(s, "\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && lines != nil:
			data = strings.Join(lines, "\n")
			lines = nil
			events++
		case name == "data":
			lines = append(lines, value)
		case name == "event":
			typ = value
		case name == "id" && !strings.Contains(value, "\x00"):
			id = value
		}
	}
	return
}

// FuzzSubscribe: a query is refused, or asks for something that can be matched.
func FuzzSubscribe(f *testing.F) {
	for _, s := range []string{"match=a", "matchURLPattern=%2F%3Aa", "topic=%7Ba%7D&lastEventID=x", "Match=x", "matchExact=*&access_token=x"} {
		f.Add(s)
	}
	h := verifier(f, Options{SubscriberKeys: secretKeys(f)})
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", hub.Reserved, nil)
		r.URL.RawQuery = query
		s, refused := h.subscription(r)
		if refused != nil {
			if refused.status != 400 && refused.status != 401 {
				t.Errorf("%+v", refused)
			}
			return
		}
		if len(s.matchers) == 0 || len(s.grants.subscribe) > 0 || strings.ContainsAny(s.after, "\r\n\x00") {
			t.Errorf("%+v", s)
		}
		for _, m := range s.matchers {
			m.Match("https://example.com/x")
		}
	})
}

// FuzzToken: only what was signed grants something, and grants no more than it says.
func FuzzToken(f *testing.F) {
	secret := []byte(testSecret)
	f.Add(`{"alg":"HS256","typ":"at+jwt"}`, `{"aud":"`+testURL+`","exp":4000000000,"authorization_details":[{"type":"mercure","actions":["publish"],"topics":[{"match":"t"}]}]}`, true)
	f.Add(`{"alg":"none"}`, `{"mercure":{"publish":["*"]}}`, false)
	f.Add(`{"alg":"HS256","kid":1}`, `{"mercure":{"publish":[{"match":"*","matchType":"URITemplate","payload":{}}],"subscribe":null}}`, true)
	h := verifier(f, Options{})
	keys := secretKeys(f)
	f.Fuzz(func(t *testing.T, header, claims string, signed bool) {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		key := secret
		if !signed {
			key = []byte("another one")
		}
		sig, err := jwt.SigningMethodHS256.Sign(text, key)
		if err != nil {
			t.Fatal(err)
		}
		g, err := h.verify(text+"."+base64.RawURLEncoding.EncodeToString(sig), keys)
		if err != nil {
			return
		}
		if !signed {
			t.Fatalf("%s %s passes unsigned", header, claims)
		}
		if len(g.publish)+len(g.subscribe) > 2*maxGrants || !g.expires.IsZero() && g.expires.Before(time.Now().Add(-time.Second)) {
			t.Errorf("%+v", g)
		}
		for _, p := range g.payloads {
			if p.json != "" && !json.Valid([]byte(p.json)) {
				t.Errorf("payload %q", p.json)
			}
		}
		g.mayPublish("t")
	})
}

// FuzzPath: paths of the API are read and written the same.
func FuzzPath(f *testing.F) {
	f.Add("Exact", "https://example.com/ä b", "urn:uuid:1")
	f.Add("URLPattern", "/%2F/../:x", "a/b#c")
	f.Fuzz(func(t *testing.T, typ, match, subscriber string) {
		m := hub.Member{MatchType: typ, Match: match, Subscriber: subscriber}
		if url.PathEscape(typ) != typ || typ == "" || match == "" || subscriber == "" {
			return
		}
		of, refused := parseSubscriptions(strings.TrimPrefix(hub.SubscriptionTopic(m), hub.Reserved))
		if refused != nil || !of.includes(m) || of.path() != hub.SubscriptionTopic(m) {
			t.Errorf("%+v: %+v, %v", m, of, refused)
		}
	})
}
