package servertest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Facts about proxies between a client and a web server: docs/proxies.md.

// newOrigin is the stand-in as an HTTP server of its own, which streams both ways
// whatever comes.
func newOrigin(t *testing.T) *stage {
	t.Helper()
	dir, err := makeDir("origin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	control := filepath.Join(dir, "control.sock")
	standin := fcgiStandin(control)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	origin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		// As Tandem's responses have it.
		w.Header().Set("Cache-Control", "no-store, no-transform")
		w.Header().Set("Connection", "close")
		w.Header().Set("X-Accel-Buffering", "no")
		standin.ServeHTTP(w, r)
	})}
	go origin.Serve(ln)
	t.Cleanup(func() { origin.Close() })
	return &stage{&Server{URL: "http://" + ln.Addr().String()}, direct(t, control)}
}

// What a proxy does to a request.
const (
	both    = "both ways at once"
	half    = "the response waits for the body's end"
	whole   = "the body is passed on when it is whole"
	tooLong = "413"
)

func TestProxies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		kind   Kind
		extra  string
		stream bool // a GET's response, and a finite POST's
		// A POST whose body stays open.
		chunked, declared string
	}{
		{"nginx", Nginx, "", true, whole, tooLong},
		{"nginx deaf to X-Accel-Buffering", Nginx, "proxy_ignore_headers X-Accel-Buffering;", false, whole, tooLong},
		{"nginx without buffers", Nginx, "proxy_http_version 1.1; proxy_request_buffering off; client_max_body_size 0;", true, both, both},
		{"apache", Apache, "", true, whole, whole},
		{"lighttpd", Lighttpd, "", false, whole, whole},
		{"lighttpd streaming", Lighttpd, "server.stream-request-body = 2\nserver.stream-response-body = 2", true, both, both},
		{"haproxy", HAProxy, "", true, both, both},
		{"caddy", Caddy, "", true, both, both},
		{"h2o", H2O, "", true, whole, tooLong},
		{"squid", Squid, "", true, both, both},
		{"privoxy", Privoxy, "", true, whole, both},
		{"tinyproxy", Tinyproxy, "", true, half, half},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newOrigin(t)
			url, x := s.URL+"/tandem", exchange{}
			if flavours[c.kind].forward {
				x.proxy = Start(t, c.kind, Config{}).Proxy
			} else {
				url = Start(t, c.kind, Config{Upstream: s.URL, Extra: c.extra}).FastCGI()
			}
			if got := s.streams(t, url, x); got != c.stream {
				t.Errorf("responses stream: %v, expected %v", got, c.stream)
			}
			for name, want := range map[string]string{"chunked": c.chunked, "declared": c.declared} {
				x.length = map[string]int64{"chunked": chunked, "declared": declared}[name]
				if got := s.duplex(t, url, x); got != want {
					t.Errorf("%s body: %s, expected: %s", name, got, want)
				}
			}
		})
	}
}

// What an https URL makes of a forward proxy: a tunnel, through which everything passes.
func TestTunnels(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Squid, Privoxy, Tinyproxy} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, Nginx, Config{TLS: true})
			x := exchange{proxy: Start(t, kind, Config{}).Proxy}
			url := s.TLSURL + "/tandem"
			if !s.streams(t, url, x) {
				t.Error("responses don't stream")
			}
			for _, length := range []int64{chunked, declared} {
				x.length = length
				if got := s.duplex(t, url, x); got != both {
					t.Errorf("body of length %d: %s, expected: %s", length, got, both)
				}
			}
		})
	}
}

// streams tells whether pieces of a response come when they are written.
func (s *stage) streams(t *testing.T, url string, x exchange) bool {
	t.Helper()
	var got [2]bool
	for i, method := range []string{"GET", "POST"} {
		x.method, x.length = method, int64(i)
		x.header = map[string]string{"Accept-Encoding": "identity"}
		client := s.open(t, url, x)
		if method == "POST" {
			client.send("a")
			client.end()
		}
		app := s.next(t)
		app.readAll(map[string]string{"GET": "", "POST": "a"}[method])
		app.write("1")
		got[i] = client.heard()
		app.write("2")
		app.end()
		client.receive("12")
		client.finished()
	}
	if got[0] != got[1] {
		t.Errorf("a GET's response streams: %v, a POST's: %v", got[0], got[1])
	}
	return got[0]
}

// duplex tells what happens while the body is open.
func (s *stage) duplex(t *testing.T, url string, x exchange) string {
	t.Helper()
	client := s.open(t, url, x)
	defer client.cancel()
	client.offer("a")
	var app *app
	select {
	case app = <-s.apps:
	case status, ok := <-client.status:
		if !ok {
			return fmt.Sprint("no response: ", client.err)
		}
		return fmt.Sprint(status)
	case <-time.After(500 * time.Millisecond):
		return whole
	}
	app.t = t
	defer app.conn.Close()
	fmt.Fprintln(app.conn, "read")
	select {
	case reply := <-app.replies:
		if reply != `got "a"` {
			return reply
		}
	case <-time.After(500 * time.Millisecond):
		return whole
	}
	app.write("1")
	if client.heard() {
		return both
	}
	return half
}
