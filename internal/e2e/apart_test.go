package e2e_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/internal/config"
	"tandem/internal/servertest"
)

// apartEndpoints are for split and poll: sessions that outlive their requests. By
// heartbeats web servers find out that a client has gone, before they are stopped.
const apartEndpoints = `
[endpoint.echo]
path = "/tandem"
app = "echo"
grace = "30s"
heartbeat = "2s"

[endpoint.cat]
path = "/tandem/cat"
command = ["/bin/cat"]
grace = "30s"
heartbeat = "2s"

[endpoint.status]
path = "/tandem/status"
command = ["/bin/sh", "-c", "read -r line; echo \"$line\"; exit 3"]
grace = "30s"
heartbeat = "2s"

[endpoint.deaf]
path = "/tandem/deaf"
command = ["/bin/sleep", "60"]
grace = "30s"
heartbeat = "2s"

[endpoint.once]
path = "/tandem/once"
command = ["/bin/sh", "-c", "echo started once; exec cat"]
grace = "30s"
heartbeat = "2s"
`

// An entrance is one interface of a web server, over one version of HTTP.
type entrance struct {
	name     string
	base     string
	tls      *tls.Config
	proxy    func(*http.Request) (*url.URL, error) // a forward proxy
	graceful bool                                  // a session outlives its opening request
	cuts     bool                                  // may end the response to a POST too soon
}

// openSplit opens a session with this first batch.
func (e *entrance) openSplit(t *testing.T, endpoint, body string) (*hand, *half) {
	t.Helper()
	h := e.hand(t, endpoint, "split")
	f, _ := h.receive("POST", body)
	if e.cuts {
		f.resume = h
	}
	return h, f
}

func (e *entrance) hand(t *testing.T, endpoint, transport string) *hand {
	return newHand(t, e.base+endpoint, transport, e.tls, e.proxy)
}

// entrances starts every web server that there is, with tandem serve behind it.
func entrances(t *testing.T, td *servertest.Tandem) (all []entrance) {
	t.Helper()
	for _, kind := range []servertest.Kind{servertest.Nginx, servertest.Apache, servertest.Lighttpd, servertest.HAProxy, servertest.Caddy, servertest.H2O} {
		s := servertest.Start(t, kind, servertest.Config{Socket: td.Socket, TLS: true})
		all = append(all, entrance{name: string(kind), base: s.FastCGI(), graceful: true})
		if kind == servertest.H2O && servertest.Engine() == config.EngineNetHTTP {
			continue // net/http/fcgi refuses what h2o says of HTTP/2 (SERVERS.md trap 24)
		}
		all = append(all, entrance{name: string(kind) + "-h2", base: s.TLSURL + "/tandem", tls: s.TLSConfig(), graceful: true})
	}
	return append(all, entrance{name: "http", base: td.HTTP + "/tandem", graceful: true})
}

// nothingResident are the entrances whose every request is a process of its own, or
// one of several: they find each other in a folder.
func nothingResident(t *testing.T) []entrance {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-apart-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // Apache's processes may be another user's
		t.Fatal(err)
	}
	start := func(kind servertest.Kind, name, at string, c servertest.Config) *servertest.Server {
		file := filepath.Join(dir, name+".toml")
		toml := fmt.Sprintf("state_dir = %q\n", filepath.Join(dir, name)) + strings.ReplaceAll(apartEndpoints, `path = "/tandem`, `path = "`+at+"/tandem")
		if err := os.WriteFile(file, []byte(servertest.WithEngine(toml)), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Binary, c.TandemConfig, c.TLS = servertest.Binary(t), file, true
		return servertest.Start(t, kind, c)
	}
	cgid := start(servertest.Apache, "cgid", "/cgi-bin", servertest.Config{})
	cgi := start(servertest.Apache, "cgi", "/cgi-bin", servertest.Config{Prefork: true})
	fcgid := start(servertest.Apache, "fcgid", "/fcgid", servertest.Config{})
	lighttpd := start(servertest.Lighttpd, "lighttpd", "/cgi-bin", servertest.Config{})
	return []entrance{
		{name: "apache-cgid", base: cgid.CGI()},
		{name: "apache-cgid-h2", base: cgid.TLSURL + "/cgi-bin/tandem", tls: cgid.TLSConfig()},
		{name: "apache-cgi", base: cgi.CGI()},
		{name: "apache-fcgid", base: fcgid.Fcgid(), graceful: true},
		{name: "apache-fcgid-h2", base: fcgid.TLSURL + "/fcgid/tandem", tls: fcgid.TLSConfig(), graceful: true},
		{name: "lighttpd-cgi", base: lighttpd.CGI()},
		{name: "lighttpd-cgi-h2", base: lighttpd.TLSURL + "/cgi-bin/tandem", tls: lighttpd.TLSConfig()},
	}
}

// inBetween are entrances behind a proxy, with its defaults but for one line, in front
// of tandem serve.
func inBetween(t *testing.T, td *servertest.Tandem) (all []entrance) {
	t.Helper()
	for _, kind := range []servertest.Kind{servertest.Nginx, servertest.Apache, servertest.HAProxy, servertest.Caddy, servertest.H2O} {
		c := servertest.Config{Upstream: td.HTTP}
		if kind == servertest.HAProxy {
			c.Extra = "option http-no-delay" // else 208 ms for each message
		}
		s := servertest.Start(t, kind, c)
		all = append(all, entrance{name: string(kind) + "-proxy", base: s.FastCGI(), graceful: true,
			// Caddy 2.6 stops reading from Tandem when the response begins before it has seen
			// that the request is whole, and shows its client a complete response.
			cuts: kind == servertest.Caddy})
	}
	for _, kind := range []servertest.Kind{servertest.Squid, servertest.Privoxy, servertest.Tinyproxy} {
		s := servertest.Start(t, kind, servertest.Config{})
		all = append(all, entrance{name: string(kind), base: td.HTTP + "/tandem", proxy: s.Proxy, graceful: true})
	}
	return all
}

// buffering are entrances through which no response streams.
func buffering(t *testing.T, td *servertest.Tandem) []entrance {
	t.Helper()
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Upstream: td.HTTP, Extra: "proxy_ignore_headers X-Accel-Buffering;"})
	lighttpd := servertest.Start(t, servertest.Lighttpd, servertest.Config{Upstream: td.HTTP})
	return []entrance{
		{name: "nginx-buffers", base: nginx.FastCGI(), graceful: true},
		{name: "lighttpd-buffers", base: lighttpd.FastCGI(), graceful: true},
	}
}

// TestSplitByHand: through every web server, 1,000 messages each way in order, in
// batches, close by either side, and a program's exit status.
func TestSplitByHand(t *testing.T) {
	td := servertest.StartTandem(t, apartEndpoints)
	for _, e := range slices.Concat(entrances(t, td), nothingResident(t), inBetween(t, td)) {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			t.Run("messages", func(t *testing.T) {
				h, f := e.openSplit(t, "/cat", openLine+messageLine(1, "1")+messageLine(2, "2"))
				f.message(1, "1")
				f.message(2, "2")
				const n, batch = 1000, 32
				for seq := uint64(3); seq <= n; seq += batch {
					var body strings.Builder
					body.WriteString(ackLine(seq - 1))
					last := min(seq+batch-1, n)
					for i := seq; i <= last; i++ {
						body.WriteString(messageLine(i, fmt.Sprint(i)))
					}
					h.sent(body.String())
					for i := seq; i <= last; i++ {
						f.message(i, fmt.Sprint(i))
					}
				}
				h.sent(fmt.Sprintf("{\"type\":\"end\",\"seq\":%d}\n", n))
				if c := f.next("close"); c.Code != 1000 || c.Seq != n {
					t.Errorf("got %+v, expected close 1000 after %d", c, n)
				}
				f.end()
			})
			t.Run("round trip", func(t *testing.T) {
				h, f := e.openSplit(t, "", openLine)
				var times []time.Duration
				for seq := uint64(1); seq <= 50; seq++ {
					start := time.Now()
					h.sent(messageLine(seq, "ping"))
					f.message(seq, "ping")
					times = append(times, time.Since(start))
				}
				t.Logf("median %v", median(times))
				h.sent(`{"type":"close","code":1000}` + "\n")
				if c := f.next("close"); c.Code != 1000 {
					t.Errorf("got %+v, expected close 1000", c)
				}
				f.end()
				if status, _ := h.send("\n"); status != http.StatusGone {
					t.Errorf("a request after both sides' close: %d, expected 410", status)
				}
			})
			t.Run("exit status", func(t *testing.T) {
				h, f := e.openSplit(t, "/status", openLine)
				h.sent(messageLine(1, "done"))
				f.message(1, "done")
				if c := f.next("close"); c.Code != 4000 || !strings.Contains(c.Reason, "exit status 3") {
					t.Errorf("got %+v, expected 4000, exit status 3", c)
				}
				f.end()
			})
		})
	}
}

// TestPollByHand: the same where nothing streams, and through every web server.
func TestPollByHand(t *testing.T) {
	td := servertest.StartTandem(t, apartEndpoints)
	for _, e := range slices.Concat(entrances(t, td), buffering(t, td), inBetween(t, td), nothingResident(t)) {
		if !e.graceful {
			continue // the session would end with its opening request
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			t.Run("messages", func(t *testing.T) {
				const n, batch = 1000, 32
				p := openPoll(e.hand(t, "/cat", "poll"), openLine)
				for seq := uint64(1); seq <= n; seq += batch {
					last := min(seq+batch-1, n)
					var body strings.Builder
					for i := seq; i <= last; i++ {
						body.WriteString(messageLine(i, fmt.Sprint(i)))
					}
					p.h.sent(body.String())
					for i := seq; i <= last; i++ {
						p.message(i, fmt.Sprint(i))
					}
				}
				p.h.sent(fmt.Sprintf("{\"type\":\"end\",\"seq\":%d}\n", n))
				if c := p.next("close"); c.Code != 1000 || c.Seq != n {
					t.Errorf("got %+v, expected close 1000 after %d", c, n)
				}
			})
			t.Run("round trip", func(t *testing.T) {
				p := openPoll(e.hand(t, "", "poll"), openLine)
				var times []time.Duration
				for seq := uint64(1); seq <= 50; seq++ {
					start := time.Now()
					p.h.sent(messageLine(seq, "ping"))
					p.message(seq, "ping")
					times = append(times, time.Since(start))
				}
				t.Logf("median %v", median(times))
				p.h.sent(`{"type":"close","code":1000}` + "\n")
				p.half.next("detach")
				p.half.end()
				if resp, err := p.h.do(t.Context(), "GET", ""); err != nil || resp.StatusCode != http.StatusGone {
					t.Errorf("after the client's close: %v, %v; expected 410", resp, err)
				}
			})
			t.Run("exit status", func(t *testing.T) {
				p := openPoll(e.hand(t, "/status", "poll"), openLine)
				p.h.sent(messageLine(1, "done"))
				p.message(1, "done")
				if c := p.next("close"); c.Code != 4000 || !strings.Contains(c.Reason, "exit status 3") {
					t.Errorf("got %+v, expected 4000, exit status 3", c)
				}
			})
		})
	}
}

// A polled session asks again whenever an answer is over.
type polled struct {
	h    *hand
	half *half
	got  uint64
}

func openPoll(h *hand, body string) *polled {
	h.t.Helper()
	p := &polled{h: h}
	p.half, _ = h.receive("POST", body)
	return p
}

func (p *polled) next(kind string) line {
	p.h.t.Helper()
	for deadline := time.Now().Add(handPatience); ; {
		switch l := p.half.next(kind, "detach"); {
		case l.Type != "detach":
			p.got = max(p.got, l.Seq)
			return l
		case l.Code != 1000:
			p.h.t.Fatalf("the answer ends with %+v, expected detach 1000", l)
		case time.Now().After(deadline):
			p.h.t.Fatalf("no %s came, in many answers", kind)
		}
		p.half.end()
		p.half, _ = p.h.receive("GET", "", fmt.Sprint("Tandem-After: ", p.got), "Prefer: wait=5")
	}
}

func (p *polled) message(seq uint64, data string) {
	p.h.t.Helper()
	if m := p.next("message"); m.Seq != seq || m.Data != data {
		p.h.t.Fatalf("message %d is %q, expected %d, %q", m.Seq, m.Data, seq, data)
	}
}
