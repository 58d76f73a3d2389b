package servertest

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// Facts about requests whose body is finite: what transports split and poll need.

// A way is one interface of a server, over one version of HTTP.
type way struct {
	name string
	*stage
	url   string
	http2 bool
}

// ways are all: FastCGI and CGI, HTTP/1.1 and HTTP/2.
func ways(t *testing.T) []way {
	nginx := newStage(t, Nginx, Config{TLS: true})
	apache := newStage(t, Apache, Config{TLS: true})
	prefork := newStage(t, Apache, Config{Prefork: true})
	lighttpd := newStage(t, Lighttpd, Config{TLS: true})
	haproxy := newStage(t, HAProxy, Config{TLS: true})
	caddy := newStage(t, Caddy, Config{TLS: true})
	h2o := newStage(t, H2O, Config{})
	return []way{
		{"nginx FastCGI", nginx, nginx.FastCGI(), false},
		{"nginx FastCGI HTTP2", nginx, nginx.TLSURL + "/tandem", true},
		{"apache mod_proxy_fcgi", apache, apache.FastCGI(), false},
		{"apache mod_proxy_fcgi HTTP2", apache, apache.TLSURL + "/tandem", true},
		{"apache mod_cgid", apache, apache.CGI(), false},
		{"apache mod_cgid HTTP2", apache, apache.TLSURL + "/cgi-bin/tandem", true},
		{"apache mod_cgi", prefork, prefork.CGI(), false},
		{"apache mod_fcgid", apache, apache.Fcgid(), false},
		{"apache mod_fcgid HTTP2", apache, apache.TLSURL + "/fcgid/tandem", true},
		{"lighttpd FastCGI", lighttpd, lighttpd.FastCGI(), false},
		{"lighttpd FastCGI HTTP2", lighttpd, lighttpd.TLSURL + "/tandem", true},
		{"lighttpd CGI", lighttpd, lighttpd.CGI(), false},
		{"lighttpd CGI HTTP2", lighttpd, lighttpd.TLSURL + "/cgi-bin/tandem", true},
		{"haproxy FastCGI", haproxy, haproxy.FastCGI(), false},
		{"haproxy FastCGI HTTP2", haproxy, haproxy.TLSURL + "/tandem", true},
		{"caddy FastCGI", caddy, caddy.FastCGI(), false},
		{"caddy FastCGI HTTP2", caddy, caddy.TLSURL + "/tandem", true},
		{"h2o FastCGI", h2o, h2o.FastCGI(), false},
		// Over HTTP/2 the stand-in's net/http/fcgi refuses what h2o says: see TestShortProtocol.
	}
}

// Decides that transport split is offered everywhere: a GET's response streams, and
// so does a POST's once its body has ended, also when the client allows compression.
func TestResponseStreams(t *testing.T) {
	t.Parallel()
	const body = "a whole body\n"
	for _, w := range ways(t) {
		t.Run(w.name+" GET", func(t *testing.T) {
			client := w.open(t, w.url, exchange{method: "GET", http2: w.http2,
				header: map[string]string{"Accept-Encoding": "gzip, br"}})
			app := w.next(t)
			app.stream(client)
		})
		t.Run(w.name+" POST", func(t *testing.T) {
			client := w.open(t, w.url, exchange{length: int64(len(body)), http2: w.http2,
				header: map[string]string{"Accept-Encoding": "gzip, br"}})
			client.send(body)
			client.end()
			app := w.next(t)
			app.readAll(body)
			app.stream(client)
		})
	}
}

// readAll reads a whole body, in whatever pieces it comes.
func (a *app) readAll(want string) {
	a.t.Helper()
	got := ""
	for {
		reply := a.do("read")
		if reply == "got EOF" {
			break
		}
		piece, err := strconv.Unquote(strings.TrimPrefix(reply, "got "))
		if err != nil {
			a.t.Fatalf("program: read: %s after %q", reply, got)
		}
		got += piece
	}
	if got != want {
		a.t.Fatalf("program: read %q, expected %q", got, want)
	}
}

// stream writes pieces, each once the client has the one before.
func (a *app) stream(client *client) {
	a.t.Helper()
	for _, text := range []string{"1", "2", "a longer piece\n", "3"} {
		a.write(text)
		client.receive(text)
	}
	a.end()
	client.finished()
}

// Decides that HAProxy, Caddy and h2o are not offered single: the program isn't
// called before the body's end, as long as that is short.
func TestShortBodyIsSpooled(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{HAProxy, Caddy, H2O} {
		s := newStage(t, kind, Config{})
		for name, length := range map[string]int64{"chunked": chunked, "declared length": 2} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				client := s.open(t, s.FastCGI(), exchange{length: length})
				client.send("a")
				client.silent()
				if len(s.apps) > 0 {
					t.Fatal("the program was called before the body's end")
				}
				client.send("b")
				client.end()
				app := s.next(t)
				app.read("ab")
				app.write("1")
				client.receive("1")
				app.end()
				client.finished()
			})
		}
	}
}

// Decides that mod_fcgid is the last choice for split: a request that finds all of a
// program's processes busy waits for a second before another one is started.
func TestFcgidWaitsWhereAllAreBusy(t *testing.T) {
	t.Parallel()
	s := newStage(t, Apache, Config{Global: "FcgidSpawnScoreUpLimit 500"})
	const wait = 900 * time.Millisecond
	for i := range 2 {
		start := time.Now()
		client := s.open(t, s.Fcgid(), exchange{method: "GET"})
		app := s.next(t)
		if took := time.Since(start); took > wait != (i > 0) {
			t.Errorf("with %d busy processes the program was called after %v", i, took)
		}
		app.write("1")
		client.receive("1")
	}
}

// Decides heartbeats on the receive half, too: when the client of a GET has gone, only
// nginx tells the program, all others let it find out by writing.
func TestGoneReaderIsNoticedByWriting(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Nginx, Apache, Lighttpd, HAProxy, Caddy, H2O} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newResponder(t, kind)
			client := (&stage{Server: r.Server}).open(t, r.FastCGI(), exchange{method: "GET"})
			app := r.next(t)
			app.write(typeStdout, helloResponse)
			client.receive("hello")
			client.cancel()
			closed := func(wait time.Duration) bool {
				select {
				case got, ok := <-app.records:
					if ok {
						t.Fatalf("got %v", got)
					}
					return true
				case <-time.After(wait):
					return false
				}
			}
			if got := closed(500 * time.Millisecond); got != (kind == Nginx) {
				t.Errorf("the connection is closed at once: %v", got)
			} else if got {
				return
			}
			for range 100 {
				app.conn.Write([]byte{1, typeStdout, 0, 1, 0, 1, 0, 0, '\n'})
				if closed(10 * time.Millisecond) {
					return
				}
			}
			t.Error("100 writes to nobody, and the connection is open")
		})
	}
}
