package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// counted is an echo that counts how often it was started.
func counted(starts *atomic.Int32) session.App {
	return session.AppFunc(func(ctx context.Context, s *session.Session) error {
		starts.Add(1)
		return session.Echo.Serve(ctx, s)
	})
}

var discardLog = slog.NewLogLogger(slog.DiscardHandler, 0)

// A hop is a reverse proxy in front of a server, which spoils the way in one manner.
type hop struct {
	requests  bool          // passes a request on when it has all of it
	responses bool          // passes a response on when it has all of it
	life      time.Duration // ends each connection after so long; 0: never
}

// start gives the hop's own URL.
func (h hop) start(t *testing.T, to string) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(u) },
		FlushInterval: -1,
		Transport:     &http.Transport{DisableCompression: true},
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ErrorLog:      discardLog,
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.requests {
			body, err := io.ReadAll(r.Body) // of a body that stays open: until the client goes
			if err != nil {
				return
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		} else {
			http.NewResponseController(w).EnableFullDuplex()
		}
		if h.responses {
			kept := &keeper{ResponseWriter: w}
			defer kept.release()
			w = kept
		}
		proxy.ServeHTTP(w, r)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if h.life > 0 {
		ln = &mortal{ln, h.life}
	}
	srv := &http.Server{Handler: handler, ErrorLog: discardLog}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
		proxy.Transport.(*http.Transport).CloseIdleConnections()
	})
	return "http://" + ln.Addr().String()
}

// keeper keeps a response back until it has ended.
type keeper struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *keeper) WriteHeader(status int)      { k.status = status }
func (k *keeper) Write(p []byte) (int, error) { return k.body.Write(p) }
func (k *keeper) Flush()                      {}

func (k *keeper) release() {
	if k.status > 0 {
		k.ResponseWriter.WriteHeader(k.status)
	}
	io.Copy(k.ResponseWriter, &k.body)
}

// mortal is a listener whose connections are cut after a while.
type mortal struct {
	net.Listener
	life time.Duration
}

func (m *mortal) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if err == nil {
		time.AfterFunc(m.life, func() { conn.Close() })
	}
	return conn, err
}

// Dial finds the best transport that works, in less than 5 s the first time and
// with one request the second time; and starts the program once.
func TestFindsTheBest(t *testing.T) {
	for _, test := range []struct {
		name string
		hop  hop
		want way
	}{
		{"nothing in the way", hop{}, way{Single, 1 << 40}},
		{"requests are held back", hop{requests: true}, way{Split, 0}},
		{"responses are held back", hop{responses: true}, way{Poll, 0}},
		{"both are held back", hop{requests: true, responses: true}, way{Poll, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var starts atomic.Int32
			server, o := serve(t, counted(&starts), &session.Options{Grace: 5 * time.Second}, false)
			through := test.hop.start(t, server)
			o.Memory = &processMemory{}
			for n, most := range []time.Duration{5 * time.Second, time.Second} {
				start := time.Now()
				c := dialTest(t, through, o)
				took := time.Since(start)
				if took > most && !raceEnabled {
					t.Errorf("Dial %d took %v", n+1, took)
				}
				t.Logf("Dial %d: %v", n+1, took)
				if got := c.now.Load().way; got != test.want {
					t.Errorf("expected %v, got %v", test.want, got)
				}
				for i := range 10 {
					send(t, c, fmt.Sprint(i))
					receive(t, c, fmt.Sprint(i))
				}
				if err := c.Close(frame.CodeNormal, ""); err != nil {
					t.Error(err)
				}
				if got := starts.Load(); got != int32(n+1) {
					t.Errorf("after %d sessions the program was started %d times", n+1, got)
				}
			}
		})
	}
}

// A way that is remembered and works no more is found out, and the program of the
// next one is the only one.
func TestForgets(t *testing.T) {
	var starts atomic.Int32
	server, o := serve(t, counted(&starts), &session.Options{Grace: 5 * time.Second}, false)
	o.Memory, o.OpenTimeout = &processMemory{}, 500*time.Millisecond
	through := hop{responses: true}.start(t, server)
	u, _ := url.Parse(through)
	o.Memory.Remember("http://"+u.Host, Known{Transport: Single, Declared: 1 << 40, Best: []string{Single, Split, Poll}, Until: time.Now().Add(time.Hour)})
	c := dialTest(t, through, o)
	if c.Transport() != Poll {
		t.Errorf("expected poll, got %s", c.Transport())
	}
	send(t, c, "x")
	receive(t, c, "x")
	if k, ok := o.Memory.Recall("http://" + u.Host); !ok || k.Transport != Poll {
		t.Errorf("remembered is %+v", k)
	}
	if n := starts.Load(); n != 1 {
		t.Errorf("the program was started %d times", n)
	}
}

// What is remembered may let the answer through and hold back what is sent: the
// session then moves, with what was sent meanwhile.
func TestMovesWhenOneWayIsHeldBack(t *testing.T) {
	var starts atomic.Int32
	server, o := serve(t, counted(&starts), &session.Options{Grace: 5 * time.Second}, false)
	to := strings.TrimPrefix(server, "http://")
	// This one passes the head and the first frames on, and no more of a body that
	// stays open.
	through := fake(t, func(v *visit) {
		up, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		defer context.AfterFunc(t.Context(), func() { up.Close() })()
		v.req.Header.Set("Connection", "close")
		open := v.req.ContentLength > 1<<19
		go func() {
			if !open {
				v.req.Write(up)
				return
			}
			fmt.Fprintf(up, "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", v.req.Method, v.req.ContentLength)
			v.req.Header.Write(up)
			io.WriteString(up, "\r\n")
			line, _ := v.body.ReadString('\n')
			io.WriteString(up, line)
		}()
		io.Copy(v.conn, up)
	})
	through = strings.TrimSuffix(through, "/tandem")
	o.Memory, o.OpenTimeout, o.Codec = &processMemory{}, 500*time.Millisecond, "json"
	o.Memory.Remember(through, Known{Transport: Single, Declared: 1 << 40, Best: []string{Single, Split, Poll}, Until: time.Now().Add(time.Hour)})
	var events []string
	var mu sync.Mutex
	o.Notify = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprint(e.Kind, " ", e.Path.Transport))
	}
	c := dialTest(t, through, o)
	if c.Transport() != Single {
		t.Fatalf("expected single, got %s", c.Transport())
	}
	for i := range 5 {
		send(t, c, fmt.Sprint(i))
	}
	for i := range 5 {
		receive(t, c, fmt.Sprint(i))
	}
	if c.Transport() != Split {
		t.Errorf("expected split, got %s", c.Transport())
	}
	if err := c.Close(frame.CodeNormal, ""); err != nil {
		t.Error(err)
	}
	if n := starts.Load(); n != 1 {
		t.Errorf("the program was started %d times", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(events, ", "); got != "0 single, 1 split" {
		t.Errorf("events: %s", got)
	}
}

// Through a proxy that ends every connection after a while the session lives, loses
// nothing, and comes to a transport on which that does no harm.
func TestConnectionsThatDie(t *testing.T) {
	var starts atomic.Int32
	server, o := serve(t, counted(&starts), &session.Options{Grace: 5 * time.Second}, false)
	life := 400 * time.Millisecond
	through := hop{life: life}.start(t, server)
	o.Memory = &processMemory{}
	c := dialTest(t, through, o)
	start := time.Now()
	i := 0
	for ; time.Since(start) < 10*life; i++ {
		send(t, c, fmt.Sprint(i))
		receive(t, c, fmt.Sprint(i))
	}
	if err := c.Close(frame.CodeNormal, ""); err != nil {
		t.Error(err)
	}
	t.Logf("%d round trips, at the end over %s", i, c.Transport())
	if c.Transport() == Single {
		t.Error("single was cut again and again, and not left")
	}
	if n := starts.Load(); n != 1 {
		t.Errorf("the program was started %d times", n)
	}
}

// Requests of trials that arrive when Dial is long done start nothing.
func TestLateTrials(t *testing.T) {
	var starts atomic.Int32
	server, o := serve(t, counted(&starts), &session.Options{Grace: 5 * time.Second}, false)
	to := strings.TrimPrefix(server, "http://")
	release := make(chan struct{})
	var held, delivered sync.WaitGroup
	// This one holds open bodies back, and delivers them later all the same.
	through := fake(t, func(v *visit) {
		up, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		defer context.AfterFunc(t.Context(), func() { up.Close() })()
		v.req.Header.Set("Connection", "close")
		if n := v.req.ContentLength; n < 0 || n > 1<<19 {
			if v.req.Header.Get("Tandem-Session") != "" { // opens nothing
				io.Copy(io.Discard, v.body)
				return
			}
			line, _ := bufio.NewReader(v.in).ReadBytes('\n')
			held.Add(1)
			delivered.Add(1)
			go func() {
				defer delivered.Done()
				held.Done()
				<-release
				late, err := net.Dial("tcp", to)
				if err != nil {
					t.Error(err)
					return
				}
				defer late.Close()
				fmt.Fprintf(late, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", 1<<40)
				v.req.Header.Write(late)
				fmt.Fprintf(late, "\r\n%s", line)
				if resp, err := http.ReadResponse(bufio.NewReader(late), nil); err != nil || resp.StatusCode != 200 {
					t.Errorf("the late request: %v, %v", resp, err)
				}
			}()
			io.Copy(io.Discard, v.body)
			return
		}
		v.req.Write(up)
		io.Copy(v.conn, up)
	})
	o.Memory, o.Codec, o.OpenTimeout = &processMemory{}, "json", time.Second
	c := dialTest(t, strings.TrimSuffix(through, "/tandem"), o)
	if c.Transport() != Split {
		t.Errorf("expected split, got %s", c.Transport())
	}
	send(t, c, "x")
	receive(t, c, "x")
	held.Wait()
	close(release)
	delivered.Wait()
	if n := starts.Load(); n != 1 {
		t.Errorf("the program was started %d times", n)
	}
}
