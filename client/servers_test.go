package client

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/fcgi"
	"tandem/internal/servertest"
	"tandem/session"
	"tandem/session/frame"
)

// apps is what the sessions through the web servers talk with; the first message
// names one.
func apps(pause <-chan struct{}) session.App {
	return session.AppFunc(func(ctx context.Context, s *session.Session) error {
		m, err := s.Receive(ctx)
		if err != nil {
			return err
		}
		switch string(m.Data) {
		case "end":
			return frame.Errorf(frame.CodeProgramExited, "as asked")
		case "sum": // after a pause, in which the client sends what it can
			<-pause
			hash := sha256.New()
			for {
				m, err := s.Receive(ctx)
				if err == io.EOF {
					return s.Send(ctx, frame.Text(fmt.Sprintf("%x", hash.Sum(nil))))
				}
				if err != nil {
					return err
				}
				hash.Write(m.Data)
			}
		}
		return session.Echo.Serve(ctx, s)
	})
}

// A route is a way through a web server.
type route struct {
	name      string
	kind      servertest.Kind
	tls       bool
	chunked   bool
	transport string
	forced    bool // else it is what Dial chooses
}

var routes = []route{
	{"nginx, length", servertest.Nginx, false, false, Single, false},
	{"nginx, chunked", servertest.Nginx, false, true, Single, false},
	{"nginx, HTTP/2", servertest.Nginx, true, false, Single, false},
	{"nginx, HTTP/2 without length", servertest.Nginx, true, true, Single, false},
	{"lighttpd, length", servertest.Lighttpd, false, false, Single, false},
	{"Apache", servertest.Apache, false, false, Split, false},
	{"Apache, pulse", servertest.Apache, false, false, Pulse, true},
	{"Apache, poll", servertest.Apache, false, false, Poll, true},
	{"nginx, split", servertest.Nginx, false, false, Split, true},
	{"nginx, HTTP/2, split", servertest.Nginx, true, false, Split, true},
	{"nginx, poll", servertest.Nginx, false, false, Poll, true},
	{"lighttpd, split", servertest.Lighttpd, false, false, Split, true},
}

// Through the real servers, as shipped: what Dial chooses by itself, messages each
// way, many of them at once, a large upload to an app that pauses, and each end.
func TestServers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts web servers")
	}
	servers := make(map[servertest.Kind]*servertest.Server)
	pauses := make(chan struct{})
	for _, kind := range servertest.Kinds {
		servers[kind] = servertest.Start(t, kind, servertest.Config{Socket: fcgiSocket(t, apps(pauses)), TLS: kind == servertest.Nginx})
	}
	for _, r := range routes {
		t.Run(r.name, func(t *testing.T) {
			s := servers[r.kind]
			url, o := s.FastCGI(), &Options{Proxy: noProxy, Memory: &processMemory{}}
			if r.tls {
				url, o.TLS = s.TLSURL+"/tandem", s.TLSConfig()
			}
			if r.forced {
				o.Transport = r.transport
			}
			onlyLength(t, r.chunked)
			open := func(t *testing.T, app string) *Conn {
				c := dialTest(t, url, o)
				if c.Transport() != r.transport {
					t.Errorf("expected the transport %s, got %s", r.transport, c.Transport())
				}
				t.Cleanup(func() { c.Close(frame.CodeGoingAway, "") }) // Apache does not notice that a reader has gone
				send(t, c, app)
				return c
			}
			t.Run("echo", func(t *testing.T) {
				c := open(t, "echo")
				start := time.Now()
				for i := range 20 {
					send(t, c, fmt.Sprint(i))
					receive(t, c, fmt.Sprint(i))
				}
				t.Logf("%v a round trip", time.Since(start)/20)
				start = time.Now()
				if err := c.Close(frame.CodeNormal, ""); err != nil {
					t.Error(err)
				}
				t.Logf("%v to close", time.Since(start))
			})
			t.Run("10,000 messages", func(t *testing.T) {
				c := open(t, "echo")
				n := 10_000
				if raceEnabled {
					n = 2000
				}
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := count(n, func(i int) error { return c.Send(t.Context(), frame.Text(fmt.Sprint(i))) }); err != nil {
						t.Error(err)
					}
				})
				for i := range n {
					receive(t, c, fmt.Sprint(i))
				}
				wg.Wait()
				t.Logf("%d messages in %v", n, time.Since(start))
			})
			t.Run("upload", func(t *testing.T) {
				c := open(t, "sum")
				data := []byte(strings.Repeat("0123456789abcdef", 40_000/16))
				n := 50_000_000 / len(data)
				if raceEnabled {
					n /= 10
				}
				hash := sha256.New()
				start := time.Now()
				pause := 200 * time.Millisecond
				if r.kind == servertest.Nginx && !r.tls {
					pause = 2 * time.Second // the stall of docs/servers.md trap 1 is nginx's
				}
				time.AfterFunc(pause, func() { pauses <- struct{}{} })
				for range n {
					hash.Write(data)
					if err := c.Send(patient(t), frame.Message{Data: data}); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.CloseSend(); err != nil {
					t.Fatal(err)
				}
				receive(t, c, fmt.Sprintf("%x", hash.Sum(nil)))
				receiveClose(t, c, frame.CodeNormal)
				t.Logf("%d bytes in %v", n*len(data), time.Since(start))
			})
			t.Run("end by the app", func(t *testing.T) {
				c := open(t, "end")
				receiveClose(t, c, frame.CodeProgramExited)
				start := time.Now()
				c.Close(frame.CodeNormal, "")
				if took := time.Since(start); took > closeGrace/2 {
					t.Errorf("the response ended %v after the close", took)
				}
			})
		})
	}
}

func fcgiSocket(t *testing.T, app session.App, fronts ...func(http.Handler) http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-client") // t.TempDir is not for Apache's user
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(path, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h := session.NewHandler(app, &session.Options{Log: log, Grace: 30 * time.Second})
	srv := &fcgi.Server{Handler: h, Log: log}
	for _, front := range fronts {
		srv.Handler = front(srv.Handler)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(ln)
	}()
	t.Cleanup(func() {
		if err := h.Shutdown(patient(t)); err != nil {
			t.Errorf("sessions stay: %v", err)
		}
		srv.Close()
		<-done
		os.RemoveAll(dir)
	})
	return path
}
