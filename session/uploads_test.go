package session

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// polled makes a handler with one session of Echo that was opened by a poll.
func polled(t *testing.T, app App, grace time.Duration) (*Handler, *Session) {
	t.Helper()
	h := NewHandler(app, &Options{Grace: grace, Log: slog.New(slog.DiscardHandler)})
	h.ServeHTTP(httptest.NewRecorder(), part(http.MethodPost, "poll", nil, 0, strings.NewReader(`{"type":"open","version":1,"window":262144,"messages":1024}`+"\n")))
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		return h, s
	}
	t.Fatal("no session was opened")
	return nil, nil
}

// part is a request of s, nil: one that opens it.
func part(method, transport string, s *Session, attempt int, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, "/", body)
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Tandem-Transport", transport)
	if s != nil {
		r.Header.Set("Tandem-Session", s.id)
		r.Header.Set("Tandem-Attempt", fmt.Sprint(attempt))
	}
	return r
}

func stop(t *testing.T, h *Handler) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// atEnd is a body that calls do before its end is told.
type atEnd struct {
	io.Reader
	do func()
}

func (b *atEnd) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if n == 0 && err == io.EOF {
		b.do()
	}
	return n, err
}

// TestOvertakenAtItsEnd: a batch that is overtaken when it has just come to its end
// meets a deadline, which net/http takes for a broken connection: that is not used again.
func TestOvertakenAtItsEnd(t *testing.T) {
	h, s := polled(t, Echo, time.Minute)
	r := part(http.MethodPost, "poll", s, 1, &atEnd{strings.NewReader("\n"), func() {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, part(http.MethodPost, "poll", s, 2, strings.NewReader("\n"))); w.Code != http.StatusOK {
			t.Errorf("the later one: %d %s", w.Code, w.Body)
		}
	}})
	r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, &http.Server{}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Header().Get("Connection") != "close" {
		t.Errorf("%d %v, want the connection closed", w.Code, w.Header())
	}
	stop(t, h)
}

// TestUploadForForgottenSession: a send half that found its session just before that
// was forgotten doesn't read for ever.
func TestUploadForForgottenSession(t *testing.T) {
	h, s := polled(t, Echo, time.Minute)
	stop(t, h)
	body, end := io.Pipe()
	defer end.Close()
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := part(http.MethodPost, "split", s, 1, body)
		in, out, _ := codecs(r)
		s.sendHalf(w, r, named{in: in, out: out, transport: "split", attempt: 1})
	}()
	select {
	case <-done:
		if w.Code != http.StatusGone {
			t.Errorf("%d %s, want 410", w.Code, w.Body)
		}
	case <-time.After(10 * time.Second):
		t.Error("the handler still reads")
		end.Close()
		<-done
	}
}

// stuck is a response whose 100 can't be written, as on an HTTP/2 connection that
// the client doesn't read.
type stuck struct {
	*httptest.ResponseRecorder
	begun, goOn chan struct{}
}

func (w *stuck) WriteHeader(status int) {
	if status == http.StatusContinue {
		close(w.begun)
		<-w.goOn
		return
	}
	w.ResponseRecorder.WriteHeader(status)
}

// TestStuckClientHarmsNobody: the end of a session does not wait, and have others
// wait, for a client that takes nothing.
func TestStuckClientHarmsNobody(t *testing.T) {
	leave := make(chan struct{})
	h, s := polled(t, AppFunc(func(context.Context, *Session) error { <-leave; return nil }), time.Millisecond)
	w := &stuck{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	r := part(http.MethodPost, "single", s, 1, strings.NewReader(""))
	r.Header.Set("Expect", "100-continue")
	resumed := make(chan struct{})
	go func() { h.ServeHTTP(w, r); close(resumed) }()
	<-w.begun
	close(leave)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for h.Sessions() > 0 {
			time.Sleep(time.Millisecond)
		}
	}()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the handler waits for the client")
	}
	close(w.goOn)
	<-resumed
	<-gone
	stop(t, h)
}

// TestReceiveHalfWithBody: a GET whose body doesn't come is answered, and what comes
// instead of it is no request.
func TestReceiveHalfWithBody(t *testing.T) {
	h, s := polled(t, Echo, time.Minute)
	srv := httptest.NewServer(h)
	defer srv.Close()
	for i, length := range []string{"Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nTandem-Session: %s\r\nTandem-Attempt: %d\r\nTandem-Transport: poll\r\nPrefer: wait=0\r\n%s\r\n", s.id, i+1, length)
		answer := make([]byte, 64<<10)
		n, err := c.Read(answer)
		if err != nil {
			t.Fatalf("%q: no answer: %v", length, err)
		}
		io.WriteString(c, "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n")
		rest, _ := io.ReadAll(c)
		if got := string(answer[:n]) + string(rest); strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, `"detach"`) {
			t.Errorf("%q: expected one answer, got %q", length, got)
		}
	}
	stop(t, h)
}
