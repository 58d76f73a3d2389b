package fcgi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/internal/gateway"
)

var self = uint32(os.Geteuid())

func quiet(h http.Handler) *Server { return &Server{Handler: h, Relays: []uint32{self}} }

// front is an HTTP server whose requests go to back.
func front(t *testing.T, back *running) (*httptest.Server, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	srv := httptest.NewServer(&Relay{Socket: back.addr, Log: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(srv.Close)
	return srv, log
}

// talk posts a body that stays open. What is read is what the server sends next.
func talk(t *testing.T, url string) (*io.PipeWriter, func(want string), *http.Response) {
	t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, r)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); resp.Body.Close() })
	return w, func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; expected %q", got, err, want)
		}
	}, resp
}

func TestRelayStreams(t *testing.T) {
	back := serve(t, quiet(http.HandlerFunc(echoLines)))
	t.Run("http", func(t *testing.T) {
		srv, _ := front(t, back)
		w, read, resp := talk(t, srv.URL) // the header comes before any byte of the body was sent
		for _, s := range []string{"one", "two"} {
			io.WriteString(w, s)
			read("echo:" + s)
		}
		w.Close()
		read("end:EOF")
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("then %q, %v", rest, err)
		}
	})
	t.Run("http2", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(&Relay{Socket: back.addr})
		srv.EnableHTTP2 = true
		srv.StartTLS()
		t.Cleanup(srv.Close)
		r, w := io.Pipe()
		defer w.Close()
		resp, err := srv.Client().Post(srv.URL, "", r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got := make([]byte, len("echo:one"))
		for _, s := range []string{"one", "two"} {
			io.WriteString(w, s)
			if _, err := io.ReadFull(resp.Body, got); string(got) != "echo:"+s || resp.ProtoMajor != 2 {
				t.Fatalf("%s: got %q, %v", resp.Proto, got, err)
			}
		}
	})
	t.Run("fastcgi", func(t *testing.T) {
		s := serve(t, &Server{Handler: &Relay{Socket: back.addr}}).dial(t)
		s.open(1, 0, post...)
		s.stdout(1, "\r\n\r\n")
		for _, line := range []string{"one", "two"} {
			s.stdin(1, line)
			s.stdout(1, "echo:"+line)
		}
		s.stdin(1, "")
		if out, end := s.response(1); out != "end:EOF" || end != complete {
			t.Errorf("got %q, %q", out, end)
		}
	})
}

// Apache's mod_proxy_fcgi hands on one record for each chunk that it gets: a record
// must stay one.
func TestRelayKeepsRecords(t *testing.T) {
	sizes := []int{100, 16 << 10, 1, 5000}
	next := make(chan struct{})
	back := serve(t, quiet(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, n := range sizes {
			w.Write(bytes.Repeat([]byte("x"), n))
			w.(http.Flusher).Flush()
			<-next
		}
	})))
	s := serve(t, &Server{Handler: &Relay{Socket: back.addr}}).dial(t)
	s.open(1, 0, post...)
	for i, n := range sizes {
		r, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			_, body, _ := strings.Cut(r.content, "\r\n\r\n")
			r.content = body
		}
		if len(r.content) != n {
			t.Errorf("record %d has %d bytes, expected %d", i, len(r.content), n)
		}
		next <- struct{}{}
	}
	s.stdin(1, "")
	s.response(1)
}

type seen struct {
	r    *http.Request
	info *gateway.Info
}

func witness() (http.Handler, <-chan seen) {
	c := make(chan seen, 10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c <- seen{r, gateway.Of(r)} }), c
}

// The server sees what the web server in front said, and how.
func TestRelayedRequest(t *testing.T) {
	h, got := witness()
	back := serve(t, quiet(h))
	t.Run("http", func(t *testing.T) {
		srv, _ := front(t, back)
		req, _ := http.NewRequest("POST", srv.URL+"/a%20b?q=1", strings.NewReader("body"))
		req.Header = http.Header{"X-A": {"1", "2"}, "Cookie": {"a=b", "c=d"}, "X_a": {"posing"}, "Content-Type": {"text/plain"}}
		req.Host = "example.org:81"
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		g := wait(t, "request", got)
		for name, v := range map[string][2]string{
			"interface": {g.info.Interface, "http"}, "software": {g.info.Software, ""},
			"method": {g.r.Method, "POST"}, "path": {g.r.URL.Path, "/a b"}, "query": {g.r.URL.RawQuery, "q=1"}, "host": {g.r.Host, "example.org:81"},
			"X-A": {g.r.Header.Get("X-A"), "1, 2"}, "Cookie": {g.r.Header.Get("Cookie"), "a=b; c=d"}, "type": {g.r.Header.Get("Content-Type"), "text/plain"},
			"length": {fmt.Sprint(g.r.ContentLength), "4"}, "param": {g.info.Vars[interfaceParam], ""}, "port": {g.info.Vars["SERVER_PORT"], "81"},
		} {
			if v[0] != v[1] {
				t.Errorf("%s: got %q, expected %q", name, v[0], v[1])
			}
		}
		if host, _, err := net.SplitHostPort(g.r.RemoteAddr); err != nil || host != "127.0.0.1" {
			t.Errorf("RemoteAddr %q", g.r.RemoteAddr)
		}
	})
	t.Run("fastcgi", func(t *testing.T) {
		s := serve(t, &Server{Handler: &Relay{Socket: back.addr}}).dial(t)
		// A web server that says that it is a relay is not believed, here.
		s.open(1, 0, append(post, "AUTH_TYPE", "Basic", "HTTP_X_A", "b", "TANDEM_ENDPOINT", "chat", interfaceParam, "http")...)
		s.stdin(1, "")
		s.response(1)
		g := wait(t, "request", got)
		for name, v := range map[string][2]string{
			"interface": {g.info.Interface, "fastcgi"}, "software": {g.info.Software, "speaker/1"}, "user": {g.info.User, "ada"},
			"AUTH_TYPE": {g.info.Vars["AUTH_TYPE"], "Basic"}, "endpoint": {g.info.Vars["TANDEM_ENDPOINT"], "chat"},
			"SCRIPT_NAME": {g.info.Vars["SCRIPT_NAME"], "/app"}, "URI": {g.r.URL.RequestURI(), "http://example.org/app/x?q=1"},
			"X-A": {g.r.Header.Get("X-A"), "b"}, "address": {g.r.RemoteAddr, "192.0.2.1:0"},
		} {
			if name == "URI" {
				v[0] = g.r.URL.String()
			}
			if v[0] != v[1] {
				t.Errorf("%s: got %q, expected %q", name, v[0], v[1])
			}
		}
	})
	t.Run("cgi", func(t *testing.T) {
		r := httptest.NewRequest("GET", "/x", nil)
		info := gateway.FromVars(gateway.CGI, map[string]string{"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_URI": "/x"})
		(&Relay{Socket: back.addr}).ServeHTTP(httptest.NewRecorder(), r.WithContext(gateway.NewContext(r.Context(), info)))
		if g := wait(t, "request", got); g.info.Interface != gateway.CGI || g.r.ContentLength != 0 {
			t.Errorf("got %q, length %d", g.info.Interface, g.r.ContentLength)
		}
	})
}

// The word about the interface counts from listed users on unix sockets alone.
func TestInterfaceOfStrangers(t *testing.T) {
	h, got := witness()
	ask := func(t *testing.T, s *running) {
		t.Helper()
		network := "unix"
		if !strings.HasPrefix(s.addr, "/") {
			network = "tcp"
		}
		nc, err := net.Dial(network, s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := speak(t, nc)
		c.open(1, 0, append(post, interfaceParam, "http")...)
		c.stdin(1, "")
		c.response(1)
		if g := wait(t, "request", got); g.info.Interface != gateway.FastCGI || g.info.Vars[interfaceParam] != "" {
			t.Errorf("interface %q, param %q", g.info.Interface, g.info.Vars[interfaceParam])
		}
		s.log.waitFor(t, "relay_users")
	}
	t.Run("not listed", func(t *testing.T) { ask(t, serve(t, &Server{Handler: h, Relays: []uint32{self + 1}})) })
	t.Run("nobody listed", func(t *testing.T) { ask(t, serve(t, &Server{Handler: h})) })
	t.Run("tcp", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ask(t, serveOn(t, quiet(h), l))
	})
	t.Run("nonsense", func(t *testing.T) {
		c := serve(t, quiet(h)).dial(t)
		c.open(1, 0, append(post, interfaceParam, "telepathy")...)
		c.stdin(1, "")
		c.response(1)
		if g := wait(t, "request", got); g.info.Interface != gateway.FastCGI {
			t.Errorf("interface %q", g.info.Interface)
		}
	})
}

// A response that ends before the body does is complete, and nothing waits for the body.
func TestRelayEarlyResponse(t *testing.T) {
	back := serve(t, quiet(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusConflict)
		io.WriteString(w, "no")
	})))
	srv, log := front(t, back)
	_, read, resp := talk(t, srv.URL)
	if resp.StatusCode != http.StatusConflict {
		t.Errorf("status %d", resp.StatusCode)
	}
	read("no")
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// Who goes away at the front cancels the request at the back.
func TestRelayClientGone(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			h, started, cause := causes()
			srv, log := front(t, serve(t, quiet(h)))
			ctx, cancel := context.WithCancel(t.Context())
			var body io.Reader
			if method == "POST" {
				r, w := io.Pipe()
				defer w.Close()
				body = r
			}
			req, _ := http.NewRequestWithContext(ctx, method, srv.URL, body)
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			wait(t, "start", started)
			cancel()
			if err := wait(t, "cause", cause); !errors.Is(err, ErrConnClosed) {
				t.Errorf("cause %v", err)
			}
			srv.Close()
			if log.String() != "" {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// A body that is cut is not one that has ended.
func TestRelayBodyCut(t *testing.T) {
	got := make(chan error, 1)
	back := serve(t, quiet(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
	})))
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("abc"), errReader{io.ErrUnexpectedEOF}))
	w := httptest.NewRecorder()
	(&Relay{Socket: back.addr, Log: slog.New(slog.DiscardHandler)}).ServeHTTP(w, r)
	if err := wait(t, "body", got); !errors.Is(err, ErrConnClosed) {
		t.Errorf("the body ended with %v", err)
	}
	if w.Code != http.StatusBadGateway {
		t.Errorf("status %d", w.Code)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// responder answers one connection with bytes as they are, and closes it.
func responder(t *testing.T, answer ...[]byte) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "fcgi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		br := bufio.NewReader(nc)
		for { // up to the end of the params
			b := make([]byte, headerLen)
			if _, err := io.ReadFull(br, b); err != nil {
				return
			}
			h := parseHeader(b)
			br.Discard(h.length + h.padding)
			if h.typ == typeParams && h.length == 0 {
				break
			}
		}
		for _, a := range answer {
			nc.Write(a)
		}
	}()
	return &running{addr: l.Addr().String()}
}

func stdoutRecord(s string) []byte { return appendRecord(nil, typeStdout, requestID, []byte(s)) }

func endRecord(status byte) []byte { return appendEndRequest(nil, requestID, 0, status) }

// What a server may do wrong: 502 while there is no header, then a cut response.
func TestRelayBadServer(t *testing.T) {
	const head = "Status: 203 Fine\r\nX-B: c\r\n\r\n"
	cut := -1
	for name, tt := range map[string]struct {
		answer []byte
		status int // cut: as 203, then an error
	}{
		"complete":            {bytes.Join([][]byte{stdoutRecord(head[:20]), stdoutRecord(head[20:] + "bo"), stdoutRecord("dy"), stdoutRecord(""), endRecord(0)}, nil), 203},
		"no status":           {bytes.Join([][]byte{stdoutRecord("X-B: c\r\n\r\nbody"), endRecord(0)}, nil), 200},
		"bare line feeds":     {bytes.Join([][]byte{stdoutRecord("X-B: c\n\r\nbody"), endRecord(0)}, nil), 200},
		"stderr":              {bytes.Join([][]byte{appendRecord(nil, typeStderr, 1, []byte("oh")), stdoutRecord(head + "body"), endRecord(0)}, nil), 203},
		"nothing":             {nil, 502},
		"half a record":       {stdoutRecord(head)[:12], 502},
		"half a header":       {stdoutRecord(head[:20]), 502},
		"only an end":         {endRecord(0), 502},
		"overloaded":          {endRecord(statusOverloaded), 503},
		"unknown role":        {endRecord(statusUnknownRole), 502},
		"not FastCGI":         {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 502},
		"another id":          {appendRecord(nil, typeStdout, 7, []byte(head)), 502},
		"a malformed header":  {stdoutRecord("Status: x\r\n\r\n"), 502},
		"an informational":    {stdoutRecord("Status: 100 Continue\r\n\r\n"), 502},
		"an endless header":   {bytes.Repeat(stdoutRecord("A: "+strings.Repeat("b", 8000)+"\r\n"), 10), 502},
		"no end":              {stdoutRecord(head + "bo"), cut},
		"no end, a half":      {append(stdoutRecord(head+"bo"), stdoutRecord("dy")[:9]...), cut},
		"malformed later":     {append(stdoutRecord(head+"bo"), "garbage, garbage"...), cut},
		"end of a wrong size": {appendRecord(nil, typeEndRequest, 1, []byte("1234567890")), 502},
	} {
		t.Run(name, func(t *testing.T) {
			srv, _ := front(t, responder(t, tt.answer))
			resp, err := srv.Client().Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			switch {
			case tt.status == cut:
				if resp.StatusCode != 203 || string(body) != "bo" || err == nil {
					t.Errorf("status %d, body %q, %v; expected a cut", resp.StatusCode, body, err)
				}
				return
			case resp.StatusCode != tt.status || err != nil:
				t.Errorf("status %d, %v; expected %d", resp.StatusCode, err, tt.status)
			case tt.status < 300 && (string(body) != "body" || resp.Header.Get("X-B") != "c"):
				t.Errorf("body %q, header %v", body, resp.Header)
			case tt.status >= 500 && resp.Header.Get("Content-Type") != "application/problem+json":
				t.Errorf("expected a problem, got %q", body)
			}
		})
	}
}

func TestRelayUnreachable(t *testing.T) {
	var got error
	none := filepath.Join(t.TempDir(), "s")
	for name, x := range map[string]*Relay{
		"none":       {Socket: none},
		"wrong user": {Socket: serve(t, quiet(nil)).addr, Allowed: func(uid uint32) bool { return uid != self }},
	} {
		x.Log = slog.New(slog.DiscardHandler)
		w := httptest.NewRecorder()
		x.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != http.StatusBadGateway {
			t.Errorf("%s: status %d", name, w.Code)
		}
		x.Unreachable = func(w http.ResponseWriter, r *http.Request, err error) { got = err; w.WriteHeader(410) }
		w = httptest.NewRecorder()
		x.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 410 || got == nil {
			t.Errorf("%s: status %d, %v", name, w.Code, got)
		}
	}
	// A body that stays open doesn't hold the answer back.
	srv, _ := front(t, &running{addr: none})
	_, _, resp := talk(t, srv.URL)
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// Bytes are what they were, in any sizes, both ways at once.
func TestRelayBytes(t *testing.T) {
	back := serve(t, quiet(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })))
	srv, _ := front(t, back)
	const size = 8 << 20
	src := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
	sum := sha256.New()
	io.Copy(sum, src())
	resp, err := srv.Client().Post(srv.URL, "", io.MultiReader(src())) // chunked
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := sha256.New()
	if n, err := io.Copy(got, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Error("the bytes differ")
	}
}

// A thousand relays at a time.
func TestRelayMany(t *testing.T) {
	const n = 1000
	var here sync.WaitGroup
	here.Add(n)
	back := serve(t, quiet(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		here.Done()
		here.Wait() // all are open
		io.Copy(w, r.Body)
	})))
	x := &Relay{Socket: back.addr}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			w := httptest.NewRecorder()
			want := fmt.Sprint("number ", i)
			x.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(want)))
			if w.Body.String() != want {
				t.Errorf("got %q, expected %q", w.Body, want)
			}
		})
	}
	all.Wait()
}

// stuck is a client that takes nothing: Write blocks until its deadline is set.
type stuck struct {
	header   http.Header
	deadline chan time.Time
}

func (s *stuck) Header() http.Header             { return s.header }
func (s *stuck) WriteHeader(int)                 {}
func (s *stuck) Write(p []byte) (int, error)     { return 0, s.wait() }
func (s *stuck) FlushError() error               { return nil }
func (s *stuck) SetReadDeadline(time.Time) error { return nil }
func (s *stuck) SetWriteDeadline(d time.Time) error {
	if !d.IsZero() {
		s.deadline <- d
	}
	return nil
}

func (s *stuck) wait() error {
	d := <-s.deadline
	if left := time.Until(d); left > finishTimeout || left < finishTimeout/2 {
		return fmt.Errorf("a deadline in %v", left)
	}
	return os.ErrDeadlineExceeded
}

// A client that takes nothing holds its request no longer than its server does, and
// finishTimeout.
func TestRelaySlowClient(t *testing.T) {
	returned := make(chan struct{})
	back := serve(t, quiet(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})))
	log := &logBuffer{}
	w := &stuck{header: http.Header{}, deadline: make(chan time.Time, 1)}
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		(&Relay{Socket: back.addr, Log: slog.New(slog.NewTextHandler(log, nil))}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	}()
	wait(t, "the server's handler", returned)
	if v := wait(t, "the relay", done); v != http.ErrAbortHandler {
		t.Errorf("recovered %v", v)
	}
	if len(log.lines("i/o timeout")) != 1 {
		t.Errorf("log: %s", log)
	}
}
