package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

const openKey = "0123456789abcdef0123456789abcdef"

// post has h answer one poll request without a network.
func post(h http.Handler, body string, header ...string) *httptest.ResponseRecorder {
	return ask(h, http.MethodPost, strings.NewReader(body), header...)
}

func ask(h http.Handler, method string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", body)
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Tandem-Transport", "poll")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// counted counts how often app is started.
func counted(app session.App) (session.App, *atomic.Int32) {
	var n atomic.Int32
	return session.AppFunc(func(ctx context.Context, s *session.Session) error {
		n.Add(1)
		return app.Serve(ctx, s)
	}), &n
}

// others are processes that share the endpoint. The first Claim waits for goOn.
type others struct {
	goOn    chan struct{}
	owner   string // who has each key already
	err     error
	relayed atomic.Int32
	claims  atomic.Int32 // minus releases
}

func (o *others) Forward(owner string) http.Handler {
	if owner != o.owner {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.relayed.Add(1)
		w.WriteHeader(http.StatusTeapot)
	})
}

func (o *others) Claim(key string) (string, func(), error) {
	<-o.goOn
	if o.owner != "" || o.err != nil {
		return o.owner, nil, o.err
	}
	o.claims.Add(1)
	return "", func() { o.claims.Add(-1) }, nil
}

func shutdown(t *testing.T, h *session.Handler, limits *session.Limits) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("%d sessions are left: %v", h.Sessions(), err)
	}
	if n := session.Taken(limits); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}

// TestOpenedTwiceAtOnce: an opening that a later one overtakes does not take the
// session from it.
func TestOpenedTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{goOn: make(chan struct{})}
		app, started := counted(session.Echo)
		limits := new(session.Limits)
		h := session.NewHandler(app, quiet(session.Options{Grace: graceful, Owners: o, Limits: limits}))
		answers := make([]*httptest.ResponseRecorder, 2)
		var both sync.WaitGroup
		for i := range answers {
			both.Go(func() {
				answers[i] = post(h, openLine+messageLine(1, "x"), "Tandem-Open", openKey, "Tandem-Attempt", fmt.Sprint(i))
			})
			synctest.Wait()
		}
		close(o.goOn)
		both.Wait()
		if answers[0].Code != 200 && answers[0].Code != 409 || answers[1].Code != 200 {
			t.Errorf("%d %d, want the later one to be answered", answers[0].Code, answers[1].Code)
		}
		again := post(h, openLine, "Tandem-Open", openKey, "Tandem-Attempt", "2")
		synctest.Wait()
		if text := again.Body.String(); again.Code != 200 || strings.Contains(text, `"close"`) || started.Load() != 1 {
			t.Errorf("%d %q, %d started: the session should be there", again.Code, text, started.Load())
		}
		shutdown(t, h, limits)
	})
}

// TestOpenedElsewhere: openings of a session that another process has go there, those
// too that came while that was being found out; here they leave nothing.
func TestOpenedElsewhere(t *testing.T) {
	for name, want := range map[string]int{"elsewhere": http.StatusTeapot, "gone": http.StatusGone, "unknown": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &others{goOn: make(chan struct{}), owner: "abcdefghij234567"}
				app, started := counted(session.Echo)
				limits := new(session.Limits)
				options := session.Options{Grace: graceful, Owners: o, Limits: limits}
				switch name {
				case "gone":
					options.Owners = struct {
						claimer
						nowhere
					}{claimer: o}
				case "unknown":
					o.owner, o.err = "", errors.New("no state dir")
				}
				h := session.NewHandler(app, quiet(options))
				var all sync.WaitGroup
				for i := range 3 {
					all.Go(func() {
						if w := post(h, openLine, "Tandem-Open", openKey, "Tandem-Attempt", fmt.Sprint(i)); w.Code != want {
							t.Errorf("%d %s, want %d", w.Code, w.Body, want)
						}
					})
					synctest.Wait()
				}
				close(o.goOn)
				all.Wait()
				synctest.Wait()
				if h.Sessions() != 0 || session.Remembered(h) != 0 || started.Load() != 0 {
					t.Errorf("%d sessions, %d openings, %d apps", h.Sessions(), session.Remembered(h), started.Load())
				}
				shutdown(t, h, limits)
			})
		})
	}
}

type claimer interface {
	Claim(string) (string, func(), error)
}

type nowhere struct{}

func (nowhere) Forward(string) http.Handler { return nil }

// TestStopWhileClaiming: a claim that is made while the server stops is released.
func TestStopWhileClaiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{goOn: make(chan struct{})}
		limits := new(session.Limits)
		h := session.NewHandler(session.Echo, quiet(session.Options{Grace: graceful, Owners: o, Limits: limits}))
		done := make(chan struct{})
		go func() { post(h, openLine, "Tandem-Open", openKey); close(done) }()
		synctest.Wait()
		shutdown(t, h, limits)
		close(o.goOn)
		<-done
		time.Sleep(graceful + time.Second)
		if n := o.claims.Load(); n != 0 {
			t.Errorf("%d claims are left", n)
		}
	})
}

// TestFailedOpening: one that fails starts no program, leaves no session, and its key
// can be used once more.
func TestFailedOpening(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		status int
	}{
		"malformed":         {openLine + messageLine(1, "x") + "{]\n", 400},
		"in a frame":        {openLine + messageLine(1, "x") + `{"type":`, 400},
		"a gap":             {openLine + messageLine(1, "x") + messageLine(3, "x"), 400},
		"beyond the window": {openLine + messages(65), 413},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app, started := counted(session.Echo)
				limits := new(session.Limits)
				h := session.NewHandler(app, quiet(session.Options{Grace: graceful, Limits: limits}))
				if w := post(h, tt.body, "Tandem-Open", openKey); w.Code != tt.status {
					t.Errorf("%d, want %d: %s", w.Code, tt.status, w.Body)
				}
				synctest.Wait()
				if h.Sessions() != 0 || session.Remembered(h) != 0 || started.Load() != 0 || session.Taken(limits) != 0 {
					t.Errorf("%d sessions, %d openings, %d apps, %d places", h.Sessions(), session.Remembered(h), started.Load(), session.Taken(limits))
				}
				if w := post(h, openLine, "Tandem-Open", openKey, "Tandem-Attempt", "1"); w.Code != 200 || strings.Contains(w.Body.String(), `"close"`) {
					t.Errorf("the next one: %d %s", w.Code, w.Body)
				}
				shutdown(t, h, limits)
			})
		})
	}
}

// TestLateOpening: a request that opened a session, and comes once more when that is
// over, does not start the app again. After the grace time nobody knows it any more.
func TestLateOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, started := counted(session.Echo)
		o := &others{goOn: make(chan struct{})}
		close(o.goOn)
		limits := new(session.Limits)
		h := session.NewHandler(app, quiet(session.Options{Grace: graceful, Limits: limits, Owners: o}))
		whole := openLine + messageLine(1, "x") + `{"type":"close","seq":1,"code":1000}` + "\n"
		if w := post(h, whole, "Tandem-Open", openKey); w.Code != 200 || !strings.Contains(w.Body.String(), `"close"`) {
			t.Errorf("%d %q, want the end", w.Code, w.Body)
		}
		synctest.Wait()
		if h.Sessions() != 0 || started.Load() != 1 {
			t.Errorf("%d sessions, %d apps, want one that is over", h.Sessions(), started.Load())
		}
		for _, attempt := range []string{"0", "1"} {
			if w := post(h, whole, "Tandem-Open", openKey, "Tandem-Attempt", attempt); w.Code != http.StatusGone {
				t.Errorf("attempt %s: %d, want 410", attempt, w.Code)
			}
		}
		if started.Load() != 1 || o.claims.Load() != 1 {
			t.Errorf("%d apps, %d claims, want 1 and 1", started.Load(), o.claims.Load())
		}
		time.Sleep(graceful + time.Second)
		if session.Remembered(h) != 0 || o.claims.Load() != 0 {
			t.Errorf("%d openings and %d claims are left", session.Remembered(h), o.claims.Load())
		}
		shutdown(t, h, limits)
	})
}

// TestKeptEndsCount: ends that are kept for who may come back are within the limits,
// and the oldest gives way to a new session; one that lives does not.
func TestKeptEndsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := &session.Limits{Sessions: 3, PerAddr: 2}
		live := make(chan struct{})
		h := session.NewHandler(session.AppFunc(func(ctx context.Context, s *session.Session) error {
			if m, err := s.Receive(ctx); err != nil || string(m.Data) == "live" {
				<-live
				return err
			}
			return s.Send(ctx, frame.Message{Data: make([]byte, 1000)})
		}), quiet(session.Options{Grace: graceful, Limits: limits}))
		for i := range 10 {
			if w := post(h, openLine+messageLine(1, "x")); w.Code != 200 {
				t.Fatalf("session %d: %d %s", i, w.Code, w.Body)
			}
			synctest.Wait()
		}
		if n := h.Sessions(); n != 2 {
			t.Errorf("%d sessions are kept, want the limit, 2", n)
		}
		for i, want := range []int{200, 200, 429} {
			if w := post(h, openLine+messageLine(1, "live")); w.Code != want {
				t.Errorf("living session %d: %d, want %d", i, w.Code, want)
			}
			synctest.Wait()
		}
		close(live)
		shutdown(t, h, limits)
	})
}

// TestOpenKeysAreNotLogged, nor whole session ids, whatever is wrong with a request.
func TestOpenKeysAreNotLogged(t *testing.T) {
	var log logged
	h := session.NewHandler(session.Echo, &session.Options{Grace: graceful, Log: slog.New(slog.NewTextHandler(&log, nil))})
	key := "secret-" + openKey
	w := post(h, openLine, "Tandem-Open", key)
	id := strings.Split(strings.Split(w.Body.String(), `"session":"`)[1], `"`)[0]
	post(h, openLine, "Tandem-Open", key)
	post(h, openLine, "Tandem-Open", key+"=")
	post(h, openLine, "Tandem-Open", key, "Tandem-Attempt", "x")
	post(h, "x", "Tandem-Session", id)
	post(h, "x\n", "Tandem-Session", id, "Tandem-Attempt", "1")
	post(h, "x", "Tandem-Session", id+"x", "Tandem-Attempt", "1")
	h.Shutdown(t.Context())
	if text := log.String(); strings.Contains(text, key) || strings.Contains(text, id) || !strings.Contains(text, "Tandem-Open of") {
		t.Errorf("the log has secrets, or not the refusal:\n%s", text)
	}
}
