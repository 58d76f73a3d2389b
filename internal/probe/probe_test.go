package probe_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tandem/internal/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "abcdefghijklmnopqrstuvwxyz"

// server answers with a probe; what is not for it gets "the app".
func server(t *testing.T, on bool) (*httptest.Server, *probe.Handler) {
	t.Helper()
	h := probe.New()
	app := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the app") })
	s := httptest.NewServer(h.Around(app, on))
	t.Cleanup(func() {
		h.Close()
		s.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s, h
}

// ask sends a request; body nil is a GET.
func ask(t *testing.T, url, test string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if test != "" {
		r.Header.Set(probe.Header, test)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func all(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// lines reads the answer to its end.
func lines(t *testing.T, resp *http.Response) (l []probe.Line) {
	t.Helper()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, all(t, resp))
	}
	for text := range strings.Lines(all(t, resp)) {
		var one probe.Line
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		l = append(l, one)
	}
	return l
}

func TestRefusals(t *testing.T) {
	on, _ := server(t, true)
	off, _ := server(t, false)
	for _, c := range []struct {
		name, url, test string
		body            io.Reader
		header          []string
		status          int
	}{
		{"a page of another site", on.URL, "echo", nil, []string{"Origin", "https://evil.example"}, 403},
		{"a page of its own", on.URL, "echo", nil, []string{"Origin", on.URL}, 403},
		{"a page without Origin", on.URL, "echo", nil, []string{"Sec-Fetch-Site", "same-origin"}, 403},
		{"switched off", off.URL, "echo", nil, nil, 403},
		{"switched off, with a body", off.URL, "body", strings.NewReader("x"), nil, 403},
		{"no such test", on.URL, "zzz", nil, nil, 400},
		{"not a parameter", on.URL, "echo; =", nil, nil, 400},
		{"a parameter too many", on.URL, "echo; step=1", nil, nil, 400},
		{"no number", on.URL, "stream; step=x", nil, nil, 400},
		{"a negative number", on.URL, "stream; step=-1", nil, nil, 400},
		{"too large a number", on.URL, "stream; writes=15", nil, nil, 400},
		{"too long a time", on.URL, "body; hold=300001", strings.NewReader("x"), nil, 400},
		{"no id", on.URL, "gone", nil, nil, 400},
		{"a bad id", on.URL, "seen; id=../../etc", nil, nil, 400},
		{"a long id", on.URL, "seen; id=" + strings.Repeat("a", 65), nil, nil, 400},
		{"GET for POST", on.URL, "body", nil, nil, 405},
		{"POST for GET", on.URL, "echo", strings.NewReader("x"), nil, 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			if resp := ask(t, c.url, c.test, c.body, c.header...); resp.StatusCode != c.status || !strings.Contains(resp.Header.Get("Content-Type"), "problem+json") {
				t.Errorf("%s, expected %d: %s", resp.Status, c.status, all(t, resp))
			}
		})
	}
}

// What is not the probe's goes on, and only that.
func TestAround(t *testing.T) {
	s, _ := server(t, true)
	for _, header := range [][]string{nil, {"Tandem-Session", "x", probe.Header, "echo"}} {
		if got := all(t, ask(t, s.URL, "", nil, header...)); got != "the app" {
			t.Errorf("%v: got %q", header, got)
		}
	}
	if got := all(t, ask(t, s.URL, "echo", nil)); got == "the app" {
		t.Error("the app got a probe")
	}
}

// What hops may add for themselves is not shown to the client.
func TestEchoKeepsSecrets(t *testing.T) {
	s, _ := server(t, true)
	resp := ask(t, s.URL, "echo", nil, "X-Internal-Token", "secret", "Cookie", "secret", "Authorization", "secret", "Via", "1.1 squid")
	text := all(t, resp)
	var e probe.Echo
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "secret") {
		t.Errorf("got %s", text)
	}
	_, token := e.Header["X-Internal-Token"]
	if _, ok := e.Header["Authorization"]; !ok || !token || len(e.Header["Via"]) != 1 || e.Interface != "http" || e.Process == "" {
		t.Errorf("got %+v", e)
	}
	for name, value := range e.Sent {
		if got := resp.Header.Get(name); got != value {
			t.Errorf("sent %s: %s, got %q", name, value, got)
		}
	}
}

// A stream's amounts double, and no answer is longer than the limit.
func TestStream(t *testing.T) {
	s, _ := server(t, true)
	resp := ask(t, s.URL, "stream; step=10; quiet=0; plain=1", nil)
	if resp.Header.Get("X-Accel-Buffering") != "" {
		t.Error("plain has X-Accel-Buffering")
	}
	text := all(t, resp)
	sum, written := 0, strings.SplitAfter(text, "\n")
	for i, l := range written[:14] {
		sum += len(l)
		if want := 32 << i; sum < want || sum > want+64*(i+1) {
			t.Errorf("%d bytes after write %d, expected %d", sum, i+1, want)
		}
	}
	if len(text) > probe.MaxResponse || !strings.Contains(text, `"event":"end"`) {
		t.Errorf("%d bytes, the last are %q", len(text), text[len(text)-50:])
	}
}

// A body is reported while it is open.
func TestBody(t *testing.T) {
	s, _ := server(t, true)
	in, out := io.Pipe()
	answers := bufio.NewReader(ask(t, s.URL, "body", in).Body)
	next := func() (l probe.Line) {
		t.Helper()
		text, err := answers.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := next(); l.Event != probe.Start {
		t.Fatalf("got %+v", l)
	}
	for n := int64(3); n <= 9; n += 3 {
		io.WriteString(out, "abc")
		if l := next(); l.Event != probe.Read || l.Received != n {
			t.Fatalf("got %+v, expected %d bytes", l, n)
		}
	}
	out.Close()
	if l := next(); l.Event != probe.End || l.Received != 9 {
		t.Fatalf("got %+v", l)
	}
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

// dots is a body of single bytes, each read by itself: the worst that reports can be
// made to cost.
type dots struct{ n int }

func (d *dots) Read(p []byte) (int, error) {
	if d.n == 0 {
		return 0, io.EOF
	}
	d.n--
	p[0] = '.'
	return 1, nil
}

func TestBounds(t *testing.T) {
	s, _ := server(t, true)
	t.Run("bytes read", func(t *testing.T) {
		resp := ask(t, s.URL, "body", io.LimitReader(zeroes{}, 4*probe.MaxBody))
		var last probe.Line
		for answers := bufio.NewScanner(resp.Body); answers.Scan(); { // the connection may break: who sends too much is cut off
			line := answers.Bytes()
			if err := json.Unmarshal(line, &last); err != nil {
				if answers.Scan() {
					t.Errorf("%q: %v", line, err)
				}
				break // it broke within a line
			}
		}
		if last.Event != probe.Enough && last.Event != probe.Read || last.Received < probe.MaxBody/2 || last.Received > probe.MaxBody+64<<10 {
			t.Errorf("ended with %+v", last)
		}
	})
	t.Run("bytes written", func(t *testing.T) {
		resp := ask(t, s.URL, "body", &dots{probe.MaxResponse})
		if n, _ := io.Copy(io.Discard, resp.Body); n > probe.MaxResponse {
			t.Errorf("%d bytes came", n)
		}
	})
	t.Run("time", func(t *testing.T) {
		in, out := io.Pipe()
		defer out.Close()
		l := lines(t, ask(t, s.URL, "body; hold=20; every=10", in))
		if last := l[len(l)-1]; last.Event != probe.Over {
			t.Errorf("ended with %+v", last)
		}
	})
	t.Run("nothing is read", func(t *testing.T) {
		in, out := io.Pipe()
		defer out.Close()
		if l := lines(t, ask(t, s.URL, "body; hold=0", in)); len(l) != 1 || l[0].Event != probe.Start {
			t.Errorf("got %+v", l)
		}
	})
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// So many and no more run at a time; Close ends them.
func TestAtOnce(t *testing.T) {
	s, h := server(t, true)
	var open []*http.Response
	for range probe.MaxAtOnce {
		resp := ask(t, s.URL, "stream; writes=1; quiet=300000", nil)
		if _, err := bufio.NewReader(resp.Body).ReadByte(); err != nil {
			t.Fatal(err)
		}
		open = append(open, resp)
	}
	if resp := ask(t, s.URL, "echo", nil); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %s", resp.Status)
	}
	h.Close()
	for _, resp := range open {
		io.Copy(io.Discard, resp.Body) // ends, or the test's time is over
	}
}

// The second request learns what became of the first one's client.
func TestGone(t *testing.T) {
	s, _ := server(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(probe.Header, "gone; quiet=5000; id="+id)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadByte(); err != nil {
		t.Fatal(err)
	}
	seen := func(id string, wait time.Duration) (got probe.Seen) {
		t.Helper()
		a := ask(t, s.URL, fmt.Sprintf("seen; wait=%d; id=%s", wait.Milliseconds(), id), nil)
		if err := json.Unmarshal([]byte(all(t, a)), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := seen(id, 0); got.How != probe.Waiting {
		t.Errorf("before: %+v", got)
	}
	cancel()
	if got := seen(id, 5*time.Second); got.How != probe.Closed {
		t.Errorf("after: %+v", got)
	}
	if got := seen(id+"x", 5*time.Second); got.How != probe.Unknown {
		t.Errorf("another: %+v", got)
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"echo", "stream; step=10; writes=1; quiet=0", "body; hold=0", "gone; id=" + id, "seen; id=" + id, "stream; writes=99999999999999999999", ";;", "echo; a*0=b"} {
		f.Add(s)
	}
	h := probe.New()
	h.Close() // nothing waits
	app := h.Around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), true)
	f.Fuzz(func(t *testing.T, s string) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequest(method, "/", strings.NewReader("x"))
			r.Header.Set(probe.Header, s)
			w := httptest.NewRecorder()
			app.ServeHTTP(w, r)
			if w.Code != 200 && w.Code != 400 && w.Code != 405 {
				t.Errorf("%q: %d", s, w.Code)
			}
		}
	})
}
