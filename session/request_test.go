package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/internal/gateway"
	"tandem/session"
	"tandem/session/frame"
)

// onFlush is a response that tells when something was sent.
type onFlush struct {
	*httptest.ResponseRecorder
	flushed func()
}

func (w *onFlush) FlushError() error {
	w.ResponseRecorder.Flush()
	w.flushed()
	return nil
}

// FuzzRequest: whatever a request says, it gets a status that the protocol has, with
// frames or a problem, and the handler goes on. session "S" stands for the one that is
// open, open "K" for the key that opened it.
func FuzzRequest(f *testing.F) {
	binary := func(frames ...frame.Frame) (p []byte) {
		for _, b := range frames {
			p, _ = frame.Binary.Append(p, &b)
		}
		return p
	}
	f.Add("POST", "poll", "S", "2", "0", "", "wait=0", "application/x-ndjson", "", []byte(messageLine(1, "x")+ackLine(0)))
	f.Add("POST", "split", "S", "2", "", "", "", "application/vnd.tandem", "application/x-ndjson", binary(frame.Frame{Type: frame.TypeEnd}, frame.Frame{Type: frame.TypeClose, Code: 1000}))
	f.Add("GET", "poll", "S", "2", "1", "", "wait=1", "", "application/vnd.tandem", []byte(nil))
	f.Add("GET", "split", "S", "2", "0", "", "", "", "*/*", []byte("x"))
	f.Add("POST", "single", "S", "2", "", "", "", "application/x-ndjson", "", []byte(openLine+ackLine(0)+messageLine(1, "x")))
	f.Add("PUT", "poll", "", "2", "", "K", "wait=5", "application/x-ndjson", "", []byte(openLine+messageLine(1, "x")))
	f.Add("POST", "pulse", "", "9", "", "K", "", "application/x-ndjson", "", []byte(holdLine))
	f.Add("POST", "", "", "", "", "", "", "text/plain", "", []byte("line\n\x04\n"))
	f.Add("OPTIONS", "", "", "", "", "", "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, method, transport, id, attempt, after, open, prefer, contentType, accept string, body []byte) {
		h := session.NewHandler(session.Echo, quiet(session.Options{Grace: time.Minute}))
		first := post(h, openLine+messageLine(1, "zero"), "Tandem-Open", openKey)
		if first.Code != http.StatusOK {
			t.Fatal(first.Code, first.Body)
		}
		opened := strings.Split(strings.Split(first.Body.String(), `"session":"`)[1], `"`)[0]
		if id == "S" {
			id = opened
		}
		if open == "K" {
			open = openKey
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)).WithContext(ctx)
		r.Method = method
		for name, value := range map[string]string{"Tandem-Transport": transport, "Tandem-Session": id, "Tandem-Attempt": attempt, "Tandem-After": after,
			"Tandem-Open": open, "Prefer": prefer, "Content-Type": contentType, "Accept": accept} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := &onFlush{httptest.NewRecorder(), cancel}
		h.ServeHTTP(w, r)
		result := w.Result()
		if !slices.Contains([]int{200, 204, 400, 405, 406, 409, 410, 413, 415}, result.StatusCode) {
			t.Errorf("%s: %s", result.Status, w.Body)
		}
		var p struct{ Status int }
		switch media := result.Header.Get("Content-Type"); {
		case result.StatusCode == http.StatusNoContent || method == http.MethodHead:
		case media == "application/problem+json":
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != result.StatusCode {
				t.Errorf("%s with %s", result.Status, w.Body)
			}
		case media == "application/json":
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("the description is %s", w.Body)
			}
		default:
			codec, ok := frame.ByMediaType(media)
			if !ok || media == "" {
				t.Fatalf("%s is of type %q: %s", result.Status, media, w.Body)
			}
			rest := w.Body.Bytes()
			for dec := codec.NewDecoder(); len(rest) > 0 && codec.Framed(); {
				var f frame.Frame
				n, err := dec.Decode(rest, &f)
				if err != nil || n == 0 {
					t.Fatalf("%s has %q: %v", result.Status, rest, err)
				}
				rest = rest[n:]
			}
		}
		stop, cancelStop := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancelStop()
		if err := h.Shutdown(stop); err != nil {
			t.Errorf("%d sessions are left: %v", h.Sessions(), err)
		}
	})
}

// TestNobodyElsesSession: neither the id nor the key opens another user's session.
func TestNobodyElsesSession(t *testing.T) {
	app, started := counted(session.Echo)
	h := session.NewHandler(app, quiet(session.Options{Grace: graceful}))
	as := func(user string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(gateway.NewContext(r.Context(), &gateway.Info{Interface: gateway.FastCGI, Software: "nginx", User: user})))
		})
	}
	id := func(w *httptest.ResponseRecorder) string {
		t.Helper()
		_, rest, ok := strings.Cut(w.Body.String(), `"session":"`)
		if !ok {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return strings.Split(rest, `"`)[0]
	}
	anns := id(post(as("ann"), openLine, "Tandem-Open", openKey))
	for i, user := range []string{"bob", "", "ann "} {
		if other := id(post(as(user), openLine, "Tandem-Open", openKey, "Tandem-Attempt", "5")); other == anns {
			t.Errorf("%q has ann's session", user)
		}
		waitFor(t, "an app for each user", func() bool { return int(started.Load()) == i+2 })
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, transport := range []string{"poll", "split", "single"} {
				if w := ask(as(user), method, strings.NewReader(""), "Tandem-Session", anns, "Tandem-Attempt", "9", "Tandem-Transport", transport); w.Code != http.StatusGone {
					t.Errorf("%q, %s %s: %d", user, method, transport, w.Code)
				}
			}
		}
	}
	if w := ask(as("ann"), http.MethodGet, nil, "Tandem-Session", anns, "Tandem-Attempt", "1", "Prefer", "wait=0"); w.Code != http.StatusOK {
		t.Errorf("ann herself: %d %s", w.Code, w.Body)
	}
	shutdown(t, h, new(session.Limits))
}

// TestOtherOriginReads: a page of a configured origin may send all that the protocol
// has, and read what it tells in header fields.
func TestOtherOriginReads(t *testing.T) {
	const origin = "https://www.example.org"
	h := session.NewHandler(session.Echo, quiet(session.Options{Grace: graceful, Origins: []string{origin}}))
	w := ask(h, http.MethodOptions, nil, "Origin", origin)
	for _, name := range []string{"Content-Type", "Incremental", "Prefer", "Tandem-Session", "Tandem-Transport", "Tandem-Open", "Tandem-Attempt", "Tandem-After"} {
		if !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), name) {
			t.Errorf("%s may not be sent", name)
		}
	}
	w = post(h, openLine, "Origin", origin, "Tandem-Session", "gone")
	if w.Code != http.StatusGone || w.Header().Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("a refusal: %d %v", w.Code, w.Header())
	}
	for _, name := range []string{"Tandem-Transports", "Retry-After"} {
		if !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s may not be read", name)
		}
	}
}
