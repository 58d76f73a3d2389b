package session_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tandem/internal/gateway"
	"tandem/session"
	"tandem/session/frame"
)

// splitter is a client of split and poll by hand: every request is written out.
type splitter struct {
	t       *testing.T
	url     string
	id      string
	attempt int
}

// ask sends one request of the session, and returns its answer.
func (c *splitter) ask(method, transport, body string, header ...string) *http.Response {
	c.t.Helper()
	resp, err := c.try(method, transport, body, header...)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

func (c *splitter) try(method, transport, body string, header ...string) (*http.Response, error) {
	var r io.Reader
	if method == http.MethodPost {
		r = strings.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	c.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, c.url, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Tandem-Transport", transport)
	if c.id != "" {
		c.attempt++
		req.Header.Set("Tandem-Session", c.id)
		req.Header.Set("Tandem-Attempt", fmt.Sprint(c.attempt))
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		c.t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

// open opens the session and returns the first receive half.
func (c *splitter) open(transport, body string, header ...string) *stream {
	c.t.Helper()
	resp := c.ask(http.MethodPost, transport, body, header...)
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("opening: %s: %s", resp.Status, read(resp))
	}
	s := c.stream(resp)
	f := s.frame()
	c.id, _ = f["session"].(string)
	if f["type"] != "open" || c.id == "" || f["transport"] != transport {
		c.t.Fatalf("frame %v, want an open", f)
	}
	return s
}

func (c *splitter) stream(resp *http.Response) *stream {
	return &stream{t: c.t, resp: resp, body: bufio.NewReader(resp.Body)}
}

// follow asks for the receive half and reads its open.
func (c *splitter) follow(transport string, after int, header ...string) *stream {
	c.t.Helper()
	resp := c.ask(http.MethodGet, transport, "", append(header, "Tandem-After", fmt.Sprint(after))...)
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("receive half: %s: %s", resp.Status, read(resp))
	}
	s := c.stream(resp)
	if f := s.frame(); f["type"] != "open" || f["session"] != c.id {
		c.t.Fatalf("frame %v, want an open of the session", f)
	}
	return s
}

// post sends a batch, wants its answer to have status, and returns what its ack says
// was received.
func (c *splitter) post(transport, body string, status int, header ...string) int {
	c.t.Helper()
	resp := c.ask(http.MethodPost, transport, body, header...)
	if resp.StatusCode != status {
		c.t.Fatalf("batch: %s, want %d: %s", resp.Status, status, read(resp))
	}
	var ack struct {
		Type     string
		Received int
	}
	if err := json.NewDecoder(resp.Body).Decode(&ack); err != nil || ack.Type != "ack" {
		c.t.Fatalf("the answer is %+v, %v, want an ack", ack, err)
	}
	return ack.Received
}

func read(resp *http.Response) string {
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// ended wants the stream to be over.
func (s *stream) ended() {
	s.t.Helper()
	if rest, err := io.ReadAll(s.body); err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		s.t.Fatalf("the response goes on with %q, %v", rest, err)
	}
}

// message wants the next message to be seq and text.
func (s *stream) message(seq int, text string) {
	s.t.Helper()
	if f := s.frame(); f["type"] != "message" || f["seq"] != float64(seq) || f["data"] != text {
		s.t.Fatalf("frame %v, want message %d %q", f, seq, text)
	}
}

const graceful = time.Minute

// TestSplit: a session whose halves are requests of their own, to its end.
func TestSplit(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{Grace: graceful}, nil)
	c := &splitter{t: t, url: srv.URL}
	down := c.open("split", openLine+messageLine(1, "with the opening"))
	down.message(1, "with the opening")
	for i := 2; i < 50; i++ {
		c.post("split", messageLine(i, fmt.Sprint("batch ", i)), 200)
		down.message(i, fmt.Sprint("batch ", i))
	}
	c.post("split", messageLine(50, "a")+messageLine(51, "b")+`{"type":"ping","nonce":7}`+"\n", 200)
	seen := map[string]bool{}
	for range 3 {
		f := down.frame()
		seen[fmt.Sprintf("%v %v %v", f["type"], f["seq"], f["nonce"])] = true
	}
	if !seen["message 50 <nil>"] || !seen["message 51 <nil>"] || !seen["pong <nil> 7"] {
		t.Errorf("frames %v", seen)
	}
	c.post("split", `{"type":"end","seq":51}`+"\n", 200)
	if f := down.frame(); f["type"] != "close" || f["code"] != 1000.0 {
		t.Errorf("frame %v, want a close", f)
	}
	down.ended()
	c.post("split", `{"type":"close","seq":51,"code":1000}`+"\n", 200)
	waitFor(t, "the session to be forgotten", func() bool { return h.Sessions() == 0 })
	if resp := c.ask(http.MethodPost, "split", ""); resp.StatusCode != http.StatusGone {
		t.Errorf("a batch after the end: %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestSplitCut: the receive half is lost and asked for again.
func TestSplitCut(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{Grace: graceful}, nil)
	c := &splitter{t: t, url: srv.URL}
	down := c.open("split", openLine+messageLine(1, "one")+messageLine(2, "two"))
	down.message(1, "one")
	down.message(2, "two")
	down.resp.Body.Close()
	c.post("split", messageLine(3, "three"), 200)

	down = c.follow("split", 1)
	down.message(2, "two")
	down.message(3, "three")

	next := c.follow("split", 3)
	if f := down.frame(); f["type"] != "detach" || f["code"] != 4004.0 {
		t.Errorf("frame %v, want a detach for the one that was replaced", f)
	}
	down.ended()
	c.post("split", messageLine(4, "four"), 200)
	next.message(4, "four")
	next.resp.Body.Close()

	// What was never sent can't have been received.
	resp := c.ask(http.MethodGet, "split", "", "Tandem-After", "9")
	bad := c.stream(resp)
	bad.frame()
	if f := bad.frame(); f["type"] != "close" || f["code"] != 1002.0 {
		t.Errorf("frame %v, want a close", f)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestPoll: each poll is answered when there is something, and told to ask again.
func TestPoll(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{Grace: graceful, Heartbeat: time.Millisecond}, nil)
	c := &splitter{t: t, url: srv.URL}
	detached := func(s *stream) {
		t.Helper()
		if f := s.frame(); f["type"] != "detach" || f["code"] != 1000.0 {
			t.Fatalf("frame %v, want a detach", f)
		}
		s.ended()
	}
	detached(c.open("poll", openLine))
	c.post("poll", messageLine(1, "one"), 200)
	s := c.follow("poll", 0)
	s.message(1, "one")
	detached(s)
	s = c.follow("poll", 0) // the answer was lost
	s.message(1, "one")
	detached(s)
	detached(c.follow("poll", 1, "Prefer", "wait=0"))

	answer := make(chan *http.Response)
	go func() {
		waiting := splitter{t: t, url: srv.URL, id: c.id, attempt: 1000}
		resp, _ := waiting.try(http.MethodGet, "poll", "", "Tandem-After", "1", "Prefer", "respond-async, wait=50")
		answer <- resp
	}()
	c.post("poll", messageLine(2, "two")+`{"type":"end","seq":2}`+"\n", 200)
	resp := <-answer
	if resp == nil {
		t.Fatal("no answer")
	}
	s = c.stream(resp)
	if f := s.frame(); f["type"] != "open" {
		t.Fatalf("frame %v", f)
	}
	s.message(2, "two")
	c.attempt = 2000
	if f := s.frame(); f["type"] == "detach" {
		s = c.follow("poll", 2)
		if f = s.frame(); f["type"] != "close" || f["code"] != 1000.0 {
			t.Fatalf("frame %v, want a close", f)
		}
	} else if f["type"] != "close" {
		t.Fatalf("frame %v, want a detach or a close", f)
	}
	s.ended()
	c.post("poll", `{"type":"close","seq":2,"code":1000}`+"\n", 200)
	waitFor(t, "the session to be forgotten", func() bool { return h.Sessions() == 0 })
	http.DefaultClient.CloseIdleConnections()
}

// TestBatches: what becomes of batches that are late, lost, too big, or wrong. The
// session goes on after all but the last.
func TestBatches(t *testing.T) {
	goOn := make(chan struct{})
	srv, _ := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		<-goOn
		return session.Echo.Serve(ctx, s)
	}), session.Options{Grace: graceful}, nil)
	c := &splitter{t: t, url: srv.URL}
	down := c.open("split", openLine)

	one := messageLine(1, "one") + messageLine(2, "two")
	c.post("split", one, 200)
	c.post("split", one+messageLine(3, "three"), 200)                   // the answer was lost: the same again, and more
	c.post("split", messageLine(5, "five"), 409)                        // four was overtaken
	c.post("split", messageLine(1, "one"), 409, "Tandem-Attempt", "1")  // a late one
	c.post("split", messageLine(4, "four"), 409, "Tandem-Attempt", "1") // a late one with news
	c.post("split", messageLine(4, "four")+messageLine(6, "six"), 409)  // what came before the gap stays
	big := strings.Repeat("x", 16<<10)                                  // the window is 64 KiB
	full := messageLine(5, big) + messageLine(6, big) + messageLine(7, big)
	c.post("split", full+messageLine(8, big), 413)
	close(goOn)
	for i, text := range []string{"one", "two", "three", "four", big, big, big} {
		down.message(i+1, text)
	}
	if got := c.post("split", messageLine(8, big), 200); got != 7 && got != 8 {
		t.Errorf("received %d", got)
	}
	down.message(8, big)

	for attempt, want := range map[string]int{"": 400, "0": 400, "-1": 400, "many": 400} {
		if resp := c.ask(http.MethodPost, "split", "", "Tandem-Attempt", attempt); resp.StatusCode != want {
			t.Errorf("attempt %q: %s, want %d", attempt, resp.Status, want)
		}
	}
	if resp := c.ask(http.MethodPost, "split", "x", "Content-Type", "text/plain"); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("lines: %s", resp.Status)
	}
	if resp := c.ask(http.MethodPost, "split", "{\"type\":"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a batch that ends in a frame: %s", resp.Status)
	}
	c.post("split", messageLine(9, "still here"), 200)
	down.message(9, "still here")

	resp := c.ask(http.MethodPost, "split", "{\"type\":\n")
	if body := read(resp); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "1002") {
		t.Errorf("a malformed batch: %s %s", resp.Status, body)
	}
	if f := down.frame(); f["type"] != "close" || f["code"] != 1002.0 {
		t.Errorf("frame %v, want a close", f)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestOvertaken: a batch that hangs somewhere does not keep the session from a
// later one, whose messages count.
func TestOvertaken(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{Grace: graceful}, nil)
	c := &splitter{t: t, url: srv.URL}
	down := c.open("split", openLine)
	hanging := make(chan *stream)
	go func() {
		hanging <- openStream(t, srv.URL, resumeHeader(c.id, 1)+"Tandem-Transport: split\r\n", messageLine(1, "one"))
	}()
	down.message(1, "one") // of the hanging one
	c.attempt = 1
	c.post("split", messageLine(1, "one")+messageLine(2, "two"), 200)
	down.message(2, "two")
	s := <-hanging
	if s.resp.StatusCode != http.StatusConflict {
		t.Errorf("the one that was overtaken: %s", s.resp.Status)
	}
	s.conn.Close()
	http.DefaultClient.CloseIdleConnections()
}

// TestMoves: a session goes from one transport to another, and back.
func TestMoves(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{Grace: graceful}, nil)
	single := openStream(t, srv.URL, jsonHeader, openLine+messageLine(1, "one"))
	c := &splitter{t: t, url: srv.URL, id: single.opened()}
	single.message(1, "one")

	down := c.follow("split", 1)
	if f := single.frame(); f["type"] != "detach" || f["code"] != 4004.0 {
		t.Errorf("frame %v, want a detach", f)
	}
	single.write(messageLine(2, "not from there"))
	c.post("split", messageLine(2, "two"), 200)
	down.message(2, "two")

	s := c.follow("poll", 2, "Prefer", "wait=0")
	if f := down.frame(); f["type"] != "detach" || f["code"] != 4004.0 {
		t.Errorf("frame %v, want a detach", f)
	}
	if f := s.frame(); f["type"] != "detach" || f["code"] != 1000.0 {
		t.Errorf("frame %v, want a detach", f)
	}
	c.post("poll", messageLine(3, "three"), 200)

	c.attempt++
	single = openStream(t, srv.URL, resumeHeader(c.id, c.attempt), openLine+ackLine(2)+messageLine(4, "four"))
	single.opened()
	single.message(3, "three")
	single.message(4, "four")
	c.post("split", messageLine(5, "beside it"), 200)
	single.message(5, "beside it")
	single.write(messageLine(6, "six"))
	single.message(6, "six")
	http.DefaultClient.CloseIdleConnections()
}

// TestOpenTwice: an opening whose answer was lost is sent again; the program is not
// started twice, whichever transport carries it.
func TestOpenTwice(t *testing.T) {
	var started atomic.Int32
	srv, h := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		started.Add(1)
		return session.Echo.Serve(ctx, s)
	}), session.Options{Grace: graceful}, nil)
	key := "0123456789abcdef0123456789abcdef"
	c := &splitter{t: t, url: srv.URL}
	first := c.open("split", openLine+messageLine(1, "one"), "Tandem-Open", key)
	first.message(1, "one")
	id := c.id

	c.id = ""
	if resp := c.ask(http.MethodPost, "split", openLine, "Tandem-Open", key); resp.StatusCode != http.StatusConflict {
		t.Errorf("the same request once more: %s", resp.Status)
	}
	again := c.open("split", openLine+messageLine(1, "one")+messageLine(2, "two"), "Tandem-Open", key, "Tandem-Attempt", "1")
	f := first.frame()
	if f["type"] == "message" { // the app was quicker
		f = first.frame()
	}
	if f["type"] != "detach" {
		t.Errorf("frame %v, want a detach", f)
	}
	again.message(1, "one")
	again.message(2, "two")
	if c.id != id {
		t.Error("another session was opened")
	}

	single := openStream(t, srv.URL, jsonHeader+"Tandem-Open: "+key+"\r\nTandem-Attempt: 2\r\n", openLine+messageLine(1, "one")+messageLine(2, "two")+messageLine(3, "three"))
	if got := single.opened(); got != id {
		t.Error("another session was opened")
	}
	for i, text := range []string{"one", "two", "three"} {
		single.message(i+1, text)
	}
	if n := started.Load(); n != 1 || h.Sessions() != 1 {
		t.Errorf("%d programs were started, there are %d sessions", n, h.Sessions())
	}
	c.id = ""
	for _, bad := range []string{"short", key + key + key, "0123456789abcdef0123456789abcd e"} {
		if resp := c.ask(http.MethodPost, "split", openLine, "Tandem-Open", bad); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("Tandem-Open %q: %s", bad, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestApartRefused: what can't be opened apart says why, and leaves no session.
func TestApartRefused(t *testing.T) {
	cgi := &gateway.Info{Interface: gateway.CGI, Software: "Apache/2.4.71"}
	for _, tt := range []struct {
		name, transport, body string
		info                  *gateway.Info
		grace                 time.Duration
		status                int
		header                []string
	}{
		{"lines", "split", "hello\n", nil, graceful, 415, []string{"Content-Type", "text/plain"}},
		{"no way between processes", "split", openLine, cgi, 0, 501, nil},
		{"poll without grace", "poll", openLine, nil, 0, 501, nil},
		{"malformed", "split", openLine + "{]\n", nil, graceful, 400, nil},
		{"cut", "split", openLine + `{"type":"mess`, nil, graceful, 400, nil},
		{"a gap", "split", openLine + messageLine(2, "x"), nil, graceful, 400, nil},
		{"no open", "split", messageLine(1, "x"), nil, graceful, 400, nil},
		{"nothing", "poll", "", nil, graceful, 400, nil},
		{"too big", "split", openLine + strings.Repeat("\n", 1<<20), nil, graceful, 413, nil},
		{"beyond the window", "split", openLine + messages(65), nil, graceful, 413, nil},
		{"an attempt that is none", "split", openLine, nil, graceful, 400, []string{"Tandem-Attempt", "x"}},
		{"another version", "split", `{"type":"open","version":2,"window":65536,"messages":64}` + "\n", nil, graceful, 400, nil},
	} {
		// The app takes nothing, so that the window fills.
		srv, h := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
			<-ctx.Done()
			return nil
		}), session.Options{Grace: tt.grace}, tt.info)
		c := &splitter{t: t, url: srv.URL}
		resp := c.ask(http.MethodPost, tt.transport, tt.body, tt.header...)
		var problem struct{ Detail string }
		if err := json.NewDecoder(resp.Body).Decode(&problem); resp.StatusCode != tt.status || err != nil || problem.Detail == "" {
			t.Errorf("%s: %s %v %+v, want %d", tt.name, resp.Status, err, problem, tt.status)
		}
		waitFor(t, "no session", func() bool { return h.Sessions() == 0 })
	}
	http.DefaultClient.CloseIdleConnections()
}

func messages(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(messageLine(i+1, "x"))
	}
	return b.String()
}

// TestHeldApart: a client that tries a path out has the app wait for start.
func TestHeldApart(t *testing.T) {
	var started atomic.Int32
	srv, _ := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		started.Add(1)
		return s.Send(ctx, frame.Text("started"))
	}), session.Options{Grace: graceful}, nil)
	c := &splitter{t: t, url: srv.URL}
	down := c.open("split", holdLine)
	c.post("split", `{"type":"ping","nonce":3}`+"\n", 200)
	if f := down.frame(); f["type"] != "pong" || started.Load() != 0 {
		t.Errorf("frame %v, %d started", f, started.Load())
	}
	c.post("split", `{"type":"start"}`+"\n", 200)
	down.message(1, "started")
	http.DefaultClient.CloseIdleConnections()
}

// TestViolationBetweenPolls: a session that ended while nobody listened tells who
// comes back why.
func TestViolationBetweenPolls(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{Grace: graceful, MaxMessage: 10}, nil)
	c := &splitter{t: t, url: srv.URL}
	c.open("poll", openLine)
	if resp := c.ask(http.MethodPost, "poll", messageLine(1, "more than ten bytes")); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("too big a message: %s", resp.Status)
	}
	if f := c.follow("poll", 0).frame(); f["type"] != "close" || f["code"] != 1009.0 {
		t.Errorf("frame %v, want a close", f)
	}
	http.DefaultClient.CloseIdleConnections()
}
