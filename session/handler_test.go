package session_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"tandem/internal/gateway"
	"tandem/session"
	"tandem/session/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logged collects log lines.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func quiet(o session.Options) *session.Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &o
}

// serve starts a server for app whose every request has info, if not nil.
func serve(t *testing.T, app session.App, o session.Options, info *gateway.Info) (*httptest.Server, *session.Handler) {
	t.Helper()
	h := session.NewHandler(app, quiet(o))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if info != nil {
			r = r.WithContext(gateway.NewContext(r.Context(), info))
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("%d sessions did not end: %v", h.Sessions(), err)
		}
		srv.Close()
	})
	return srv, h
}

// stream is a raw HTTP/1.1 request whose body stays open.
type stream struct {
	t    *testing.T
	conn net.Conn
	resp *http.Response
	body *bufio.Reader
}

// openStream sends a request header and first, and returns when the response's
// header came.
func openStream(t *testing.T, url, header, first string) *stream {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: tandem.test\r\n%sTransfer-Encoding: chunked\r\n\r\n", header)
	s := &stream{t: t, conn: conn}
	if first != "" {
		s.write(first)
	}
	s.resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.body = bufio.NewReader(s.resp.Body)
	return s
}

func (s *stream) write(p string) { fmt.Fprintf(s.conn, "%x\r\n%s\r\n", len(p), p) }
func (s *stream) end()           { io.WriteString(s.conn, "0\r\n\r\n") }

func (s *stream) line() string {
	s.t.Helper()
	l, err := s.body.ReadString('\n')
	if err != nil {
		s.t.Fatalf("reading a line of the response: %v (got %q)", err, l)
	}
	return strings.TrimSuffix(l, "\n")
}

// frame returns the next frame that is neither empty nor an ack.
func (s *stream) frame() map[string]any {
	s.t.Helper()
	for {
		l := s.line()
		var f map[string]any
		if l == "" {
			continue
		}
		if err := json.Unmarshal([]byte(l), &f); err != nil {
			s.t.Fatalf("%v in %q", err, l)
		}
		if f["type"] != "ack" {
			return f
		}
	}
}

const (
	jsonHeader = "Content-Type: application/x-ndjson\r\n"
	openLine   = `{"type":"open","version":1,"window":262144,"messages":1024,"heartbeat":15000}` + "\n"
	holdLine   = `{"type":"open","version":1,"window":262144,"messages":1024,"start":false}` + "\n"
)

func TestJSONSession(t *testing.T) {
	var log logged
	srv, _ := serve(t, session.Echo, session.Options{Owner: "abcdefghij234567", Log: slog.New(slog.NewTextHandler(&log, nil))}, nil)
	s := openStream(t, srv.URL, jsonHeader, openLine)
	if got := s.resp.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type %q", got)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Incremental": "?1", "Tandem-Transports": "single, split"} {
		if got := s.resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	o := s.frame()
	id, _ := o["session"].(string)
	if o["type"] != "open" || o["transport"] != "single" || o["heartbeat"] != 15000.0 || !strings.HasPrefix(id, "abcdefghij234567.") || len(id) != 17+26 {
		t.Errorf("open frame %v", o)
	}
	for i := 1; i <= 3; i++ {
		s.write(fmt.Sprintf(`{"type":"message","seq":%d,"data":"n%d"}`+"\n", i, i))
		if f := s.frame(); f["data"] != fmt.Sprint("n", i) || f["seq"] != float64(i) {
			t.Fatalf("frame %v", f)
		}
	}
	s.write(`{"type":"end","seq":3}` + "\n")
	s.end()
	if f := s.frame(); f["type"] != "close" || f["code"] != 1000.0 || f["seq"] != 3.0 {
		t.Errorf("close frame %v", f)
	}
	if _, err := s.body.ReadByte(); err != io.EOF {
		t.Errorf("after close: %v, want EOF", err)
	}
	waitFor(t, "the end's log line", func() bool { return strings.Contains(log.String(), "code=1000") })
	if strings.Contains(log.String(), id) {
		t.Errorf("the log names the whole session id: %s", log.String())
	}
}

// waitFor polls until cond holds, where no event tells.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

// TestHold: a probing client's app is not started before the start frame.
func TestHold(t *testing.T) {
	started := make(chan struct{}, 1)
	srv, h := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		started <- struct{}{}
		return session.Echo.Serve(ctx, s)
	}), session.Options{}, nil)

	s := openStream(t, srv.URL, jsonHeader, holdLine+`{"type":"ping","nonce":7}`+"\n")
	s.frame()
	if f := s.frame(); f["type"] != "pong" || f["nonce"] != 7.0 {
		t.Fatalf("frame %v, want the pong", f)
	}
	select {
	case <-started:
		t.Fatal("the app ran before start")
	default:
	}
	s.write(`{"type":"start"}` + "\n")
	<-started

	// A probe that is dropped leaves nothing, and starts nothing.
	probe := openStream(t, srv.URL, jsonHeader, holdLine)
	probe.frame()
	if n := h.Sessions(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	probe.conn.Close()
	waitFor(t, "the dropped probe's end", func() bool { return h.Sessions() == 1 })
	if len(started) != 0 {
		t.Error("the dropped probe's app ran")
	}
}

// TestServerSpeaksFirst: the app's words come while the client has only opened.
func TestServerSpeaksFirst(t *testing.T) {
	srv, _ := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		s.Send(ctx, frame.Text("hello"))
		_, err := s.Receive(ctx)
		return err
	}), session.Options{}, nil)
	s := openStream(t, srv.URL, "", "") // lines: not even a byte of the body
	if l := s.line(); l != "hello" {
		t.Errorf("got %q", l)
	}
	s.end()
	if _, err := s.body.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v, want EOF", err)
	}
}

func TestCurl(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{}, nil)
	cmd := exec.Command("curl", "-sSN", "-T-", srv.URL)
	cmd.Stdin = strings.NewReader("a\n\nb\n\r\nlast")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "a\n\nb\n\r\nlast\n" {
		t.Errorf("curl gave %q, %v", out, err)
	}
}

// TestEnds: how a session ends, seen by the client and by the app.
func TestEnds(t *testing.T) {
	type end struct {
		err   error // of the app's Receive
		cause error // of its context
	}
	tests := []struct {
		name   string
		header string
		first  string
		act    func(s *stream)
		app    session.AppFunc // nil: receives until an error
		reply  string          // what the response's last line must contain
		code   session.Code    // of the app's error; 0: io.EOF
	}{
		{"client's close", jsonHeader, openLine, func(s *stream) {
			s.write(`{"type":"close","seq":0,"code":1001,"reason":"bye"}` + "\n")
		}, nil, `"code":1001,"reason":"bye"`, frame.CodeGoingAway},
		{"line of 0x04", "", "hi\n", func(s *stream) { s.write("\x04\n") }, nil, "", frame.CodeNormal},
		{"closed socket", jsonHeader, openLine, func(s *stream) { s.conn.Close() }, nil, "", frame.CodeHeartbeat},
		{"closed socket, lines", "", "hi\n", func(s *stream) { s.conn.Close() }, nil, "", frame.CodeHeartbeat},
		{"body without end", jsonHeader, openLine, func(s *stream) { s.end() }, nil, `"code":4001`, frame.CodeHeartbeat},
		{"end", jsonHeader, openLine, func(s *stream) { s.write(`{"type":"end","seq":0}` + "\n") }, nil, `"code":1000`, 0},
		{"body's end, lines", "", "hi\n", func(s *stream) { s.end() }, nil, "", 0},
		{"malformed", jsonHeader, openLine, func(s *stream) { s.write("{}\n") }, nil, `"code":1002`, frame.CodeProtocol},
		{"too big, lines", "", strings.Repeat("x", 2000) + "\n", func(s *stream) {}, nil, "", frame.CodeTooBig},
		{"app's code", jsonHeader, openLine, func(s *stream) {}, func(ctx context.Context, s *session.Session) error {
			return frame.Errorf(frame.CodeProgramExited, "exit status 3")
		}, `"code":4000,"reason":"exit status 3"`, 0},
		{"app's error", jsonHeader, openLine, func(s *stream) {}, func(ctx context.Context, s *session.Session) error {
			return errors.New("secret")
		}, `"code":1011,"reason":"the app failed"`, 0},
		{"app's panic", jsonHeader, openLine, func(s *stream) {}, func(ctx context.Context, s *session.Session) error {
			panic("secret")
		}, `"code":1011,"reason":"the app failed"`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ended := make(chan end, 1)
			srv, h := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
				if tt.app != nil {
					return tt.app(ctx, s)
				}
				for {
					if _, err := s.Receive(context.Background()); err != nil {
						if err != io.EOF {
							<-ctx.Done()
						}
						ended <- end{err, context.Cause(ctx)}
						return err
					}
				}
			}), session.Options{MaxMessage: 1000}, nil)
			s := openStream(t, srv.URL, tt.header, tt.first)
			tt.act(s)
			if tt.app == nil {
				e := <-ended
				var ce *session.CloseError
				switch {
				case tt.code == 0 && e.err != io.EOF:
					t.Errorf("the app got %v, want EOF", e.err)
				case tt.code != 0 && (!errors.As(e.err, &ce) || ce.Code != tt.code):
					t.Errorf("the app got %v, want code %d", e.err, tt.code)
				case tt.code != 0 && e.cause != e.err:
					t.Errorf("the app's context was cancelled by %v, want %v", e.cause, e.err)
				}
			}
			if tt.reply != "" {
				rest, _ := io.ReadAll(s.body)
				if !strings.Contains(string(rest), tt.reply) || strings.Contains(string(rest), "secret") {
					t.Errorf("the client was told %q, want %s", rest, tt.reply)
				}
			}
			waitFor(t, "the session's end", func() bool { return h.Sessions() == 0 })
		})
	}
}

// TestShutdown: the server stops; clients are told, apps end, no new session.
func TestShutdown(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{}, nil)
	s := openStream(t, srv.URL, jsonHeader, openLine)
	s.frame()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := s.frame(); f["type"] != "close" || f["code"] != 1012.0 || f["retry_ms"] == nil {
		t.Errorf("frame %v, want close 1012 with retry_ms", f)
	}
	refused := openStream(t, srv.URL, jsonHeader, openLine)
	if refused.resp.StatusCode != 503 || refused.resp.Header.Get("Retry-After") == "" {
		t.Errorf("a new session got %s", refused.resp.Status)
	}
}

func TestLimits(t *testing.T) {
	apache := &gateway.Info{Interface: gateway.FastCGI, Software: "Apache/2.4.71 (Debian)", Vars: map[string]string{"SCRIPT_FILENAME": "proxy:fcgi://x"}}
	user := &gateway.Info{Interface: gateway.FastCGI, Software: "nginx", User: "ann"}
	for _, tt := range []struct {
		name   string
		limits *session.Limits
		info   *gateway.Info
		status int
		says   []string
	}{
		{"all", &session.Limits{Sessions: 2}, nil, 503, []string{"limits.sessions"}},
		{"all, Apache", &session.Limits{Sessions: 2}, apache, 503, []string{"limits.sessions", "MaxRequestWorkers"}},
		{"address", &session.Limits{PerAddr: 2}, nil, 429, []string{"limits.sessions_per_address", "127.0.0.1"}},
		{"user", &session.Limits{PerUser: 2, PerAddr: 1}, user, 429, []string{"limits.sessions_per_user", "ann"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, h := serve(t, session.Echo, session.Options{Limits: tt.limits}, tt.info)
			one := openStream(t, srv.URL, "", "x\n")
			openStream(t, srv.URL, "", "x\n")
			third := openStream(t, srv.URL, "", "x\n")
			var p struct {
				Status int
				Detail string
			}
			if err := json.NewDecoder(third.body).Decode(&p); err != nil || third.resp.StatusCode != tt.status || p.Status != tt.status || third.resp.Header.Get("Retry-After") == "" {
				t.Fatalf("the third session got %s: %+v, %v", third.resp.Status, p, err)
			}
			for _, s := range tt.says {
				if !strings.Contains(p.Detail, s) {
					t.Errorf("the answer %q does not say %s", p.Detail, s)
				}
			}
			one.conn.Close()
			waitFor(t, "the place of the closed session", func() bool { return h.Sessions() == 1 })
			if s := openStream(t, srv.URL, "", "x\n"); s.resp.StatusCode != 200 {
				t.Errorf("after a session ended a new one got %s", s.resp.Status)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{Origins: []string{"https://friend.example"}}, nil)
	host := strings.TrimPrefix(srv.URL, "http://")
	for _, tt := range []struct {
		method string
		header map[string]string
		status int
		says   string
	}{
		{"POST", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, "text/plain"},
		{"POST", map[string]string{"Content-Type": "text/plain; charset=latin1"}, 415, "latin1"},
		{"POST", map[string]string{"Content-Type": "application/x-ndjson", "Accept": "text/html"}, 406, "text/html"},
		{"POST", map[string]string{"Content-Type": "application/x-ndjson", "Accept": "text/plain"}, 406, "text/plain"},
		{"POST", map[string]string{"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson;q=0, application/vnd.tandem;q=0.0"}, 406, "q=0"},
		{"DELETE", nil, 405, "DELETE"},
		{"POST", map[string]string{"Tandem-Session": "abc"}, 410, "not here"},
		{"GET", map[string]string{"Tandem-Session": "abc"}, 410, "not here"},
		{"POST", map[string]string{"Origin": "https://evil.example"}, 403, "evil.example"},
		{"POST", map[string]string{"Origin": "null"}, 403, "null"},
		{"POST", map[string]string{"Origin": "http://rebound.example", "Host": "rebound.example"}, 403, "rebound.example"},
		{"POST", map[string]string{"Origin": "http://localhost:81", "Host": "localhost:81"}, 200, ""},
		{"POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "cross-site"},
		{"POST", map[string]string{"Sec-Fetch-Site": "same-site"}, 403, "same-site"},
		{"GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "cross-site"},
		{"POST", map[string]string{"Origin": "https://friend.example.evil.example"}, 403, "evil"},
		{"GET", map[string]string{"Sec-Fetch-Site": "none"}, 200, "json"},
		{"GET", map[string]string{"Origin": "http://" + host, "Sec-Fetch-Site": "same-origin"}, 200, "json"},
		{"GET", map[string]string{"Origin": "https://" + host}, 200, "json"}, // a proxy took the TLS off
		{"GET", map[string]string{"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}, 200, "json"},
		{"POST", map[string]string{"Origin": "http://" + host}, 200, ""},
		{"PUT", nil, 200, ""},
		{"OPTIONS", map[string]string{"Origin": "https://friend.example"}, 204, ""},
		{"HEAD", nil, 200, ""},
	} {
		r, _ := http.NewRequest(tt.method, srv.URL, http.NoBody)
		for k, v := range tt.header {
			r.Header.Set(k, v)
		}
		r.Host = r.Header.Get("Host")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.says) {
			t.Errorf("%s %v: %s %q, want %d and %q", tt.method, tt.header, resp.Status, body, tt.status, tt.says)
		}
		if resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %v: Content-Type %q", tt.method, tt.header, resp.Header.Get("Content-Type"))
		}
		if !strings.HasPrefix(tt.header["Origin"], "https://friend.example") || resp.StatusCode >= 400 {
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" && tt.header["Origin"] == "https://evil.example" {
				t.Errorf("a foreign page may read the answer: %q", got)
			}
		} else if resp.Header.Get("Access-Control-Allow-Origin") != "https://friend.example" {
			t.Errorf("%s: a configured origin may not read the answer", tt.method)
		}
	}
	waitFor(t, "no session", func() bool { return h.Sessions() == 0 })
	http.DefaultClient.CloseIdleConnections()
}

// TestDescribe: what GET tells, by web server.
func TestDescribe(t *testing.T) {
	proxied := map[string]string{"SCRIPT_FILENAME": "proxy:unix:/x|fcgi://tandem/tandem"}
	nginx := &gateway.Info{Interface: gateway.FastCGI, Software: "nginx/1.22.1"}
	fcgid := &gateway.Info{Interface: gateway.FastCGI, Software: "Apache/2.4.71"}
	cgi := &gateway.Info{Interface: gateway.CGI, Software: "Apache/2.4.71"}
	for _, tt := range []struct {
		info   *gateway.Info
		grace  time.Duration
		owners session.Owners
		want   []string
		upload bool
	}{
		{nil, time.Minute, nil, []string{"single", "split", "poll"}, true},
		{nginx, time.Minute, nil, []string{"single", "split", "poll"}, true},
		{nginx, 0, nil, []string{"single", "split"}, true},
		{&gateway.Info{Interface: gateway.CGI, Software: "lighttpd/1.4.69"}, 0, nil, []string{"single"}, true},
		{&gateway.Info{Interface: gateway.CGI, Software: "lighttpd/1.4.69"}, 0, nobody{}, []string{"single", "split"}, true},
		{&gateway.Info{Interface: gateway.FastCGI, Software: "Apache/2.4.71", Vars: proxied}, time.Minute, nil, []string{"split", "pulse", "poll"}, false},
		{fcgid, time.Minute, nobody{}, []string{"split", "poll"}, false},
		{cgi, 0, nil, []string{}, false},
		{cgi, 0, nobody{}, []string{"split"}, false},
		{&gateway.Info{Interface: gateway.FastCGI, Software: "Caddy/2.6.2"}, time.Minute, nil, []string{"split", "poll"}, false},
		{&gateway.Info{Interface: gateway.FastCGI, Software: "h2o/2.2.5"}, time.Minute, nil, []string{"split", "poll"}, false},
		{&gateway.Info{Interface: gateway.FastCGI, Software: "HAProxy 2.6.12"}, time.Minute, nil, []string{"split", "poll"}, false},
		{&gateway.Info{Interface: gateway.FastCGI}, time.Minute, nil, []string{"single", "split", "poll"}, false},
	} {
		srv, _ := serve(t, session.Echo, session.Options{Grace: tt.grace, Owners: tt.owners}, tt.info)
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		var d session.Description
		if err := json.NewDecoder(resp.Body).Decode(&d); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if !slices.Equal(d.Transports, tt.want) || d.Version != 1 || d.Limits.Window != 65536 || d.Grace != tt.grace.Milliseconds() || d.StreamedUpload != tt.upload || resp.Header.Get("Tandem-Transports") != strings.Join(tt.want, ", ") {
			t.Errorf("%+v: %+v", tt.info, d)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// nobody is Owners where there is no other process.
type nobody struct{}

func (nobody) Forward(string) http.Handler                            { return nil }
func (nobody) Claim(string) (owner string, release func(), err error) { return "", func() {}, nil }

// TestFlood: an app that sends as fast as it can is held by the client's
// window; a client that then reads gets all of it.
func TestFlood(t *testing.T) {
	sent := make(chan int, 1)
	srv, _ := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		n := 0
		for range 3000 {
			select {
			case sent <- n:
			default:
			}
			if err := s.Send(ctx, frame.Text(strings.Repeat("x", 1000))); err != nil {
				return err
			}
			n++
		}
		return nil
	}), session.Options{}, nil)
	s := openStream(t, srv.URL, jsonHeader, `{"type":"open","version":1,"window":65536,"messages":64}`+"\n")
	s.frame()
	seq := 0
	for range 3000 {
		f := s.frame()
		seq++
		if f["type"] != "message" || f["seq"] != float64(seq) {
			t.Fatalf("frame %v, want message %d", f["type"], seq)
		}
		if seq%30 == 0 {
			s.write(fmt.Sprintf(`{"type":"ack","received":%d,"window":65536,"messages":64}`+"\n", seq))
		}
	}
	if f := s.frame(); f["type"] != "close" {
		t.Fatalf("frame %v, want close", f)
	}
}

// TestHeartbeatIsKept: the session sends something each interval.
func TestHeartbeatIsKept(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{Heartbeat: 20 * time.Millisecond}, nil)
	s := openStream(t, srv.URL, jsonHeader, openLine)
	s.frame()
	for range 5 {
		if l := s.line(); l != "" {
			t.Errorf("got %q, want the empty frame", l)
		}
	}
}

// TestPeer: what an app learns of its client.
func TestPeer(t *testing.T) {
	peers := make(chan session.Peer, 1)
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		peers <- *s.Peer()
		return nil
	})
	info := &gateway.Info{Interface: gateway.CGI, Software: "lighttpd/1.4.69", User: "ann", Vars: map[string]string{"QUERY_STRING": "a=b"}}
	srv, _ := serve(t, app, session.Options{}, info)
	openStream(t, srv.URL, "X-Test: yes\r\nTandem-Transport: pulse\r\n", "x\n")
	p := <-peers
	if p.Transport != "pulse" || p.Codec != "lines" || p.Interface != gateway.CGI || p.User != "ann" || p.Addr != "127.0.0.1" ||
		p.Header.Get("X-Test") != "yes" || p.Vars["QUERY_STRING"] != "a=b" {
		t.Errorf("peer %+v", p)
	}
}

// TestLife: the limits of Options reach the link.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, o := range []session.Options{{MaxLife: time.Minute}, {MaxIdle: time.Minute}} {
			h := session.NewHandler(session.Echo, quiet(o))
			body, w := io.Pipe()
			rec := httptest.NewRecorder()
			start := time.Now()
			go io.WriteString(w, openLine)
			r := httptest.NewRequest("POST", "/", body)
			r.Header.Set("Content-Type", "application/x-ndjson")
			go func() { // a client that keeps its promise
				for {
					time.Sleep(10 * time.Second)
					if _, err := io.WriteString(w, "\n"); err != nil {
						return
					}
				}
			}()
			h.ServeHTTP(rec, r)
			if d := time.Since(start); d != time.Minute || !strings.Contains(rec.Body.String(), `"code":4003`) {
				t.Errorf("after %v: %s", d, rec.Body)
			}
			time.Sleep(time.Minute)
		}
	})
}
