package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// A network is where the client's connections go through. It can cut them.
type network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	to      string            // where every connection leads, whatever its address
	cuts    int               // so many connections are still to be cut by themselves
	down    bool              // no connection comes up
	up      map[net.Conn]bool // the connections
	refused chan struct{}     // an attempt while down
}

func newNetwork(t *testing.T, serverURL string, o *Options) *network {
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{rng: rand.New(rand.NewPCG(1, 2)), to: u.Host, up: make(map[net.Conn]bool), refused: make(chan struct{}, 1)}
	o.DialContext = n.dial
	return n
}

func (n *network) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		select {
		case n.refused <- struct{}{}:
		default:
		}
		return nil, errors.New("connection refused")
	}
	conn, err := net.Dial(network, n.to)
	if err != nil {
		return nil, err
	}
	n.up[conn] = true
	c := &cutConn{Conn: conn, network: n}
	c.left.Store(1 << 50)
	if n.cuts > 0 {
		c.left.Store(2000 + n.rng.Int64N(1<<(8+n.rng.IntN(10))))
	}
	return c, nil
}

// cut cuts all connections. If down, no other one comes up.
func (n *network) cut(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	for conn := range n.up {
		conn.Close()
	}
	clear(n.up)
}

// A cutConn is cut after so many bytes, wherever that is in a frame.
type cutConn struct {
	net.Conn
	network *network
	left    atomic.Int64
	once    sync.Once
}

func (c *cutConn) count(n int) (allowed int) {
	left := c.left.Add(-int64(n))
	if left >= 0 {
		return n
	}
	c.once.Do(func() {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		c.network.cuts--
		delete(c.network.up, c.Conn)
		if tcp, ok := c.Conn.(*net.TCPConn); ok && c.network.rng.IntN(2) == 0 {
			tcp.SetLinger(0) // reset: what the kernel still has is lost
		}
		c.Conn.Close()
	})
	return max(0, n+int(left))
}

func (c *cutConn) Write(p []byte) (int, error) {
	n := len(p)
	if left := c.left.Load(); int64(n) > left {
		n = int(max(0, left)) // the rest is what the cut takes
		c.Conn.Write(p[:n])
		c.count(len(p))
		return n, errors.New("cut")
	}
	c.count(n)
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if allowed := c.count(n); allowed < n {
		return allowed, errors.New("cut")
	}
	return n, err
}

func numbered(from string, i int) string {
	return fmt.Sprintf("%s %d %s", from, i, strings.Repeat("x", []int{0, 100, 3000, 40_000}[i%4]))
}

// TestResume: 20 cuts at random points of one session that is busy both ways, in
// every way there is. Each message arrives once and in order; so does the end.
func TestResume(t *testing.T) {
	const messages = 500
	for _, tt := range []struct {
		http2            bool
		codec, transport string
	}{
		{false, "binary", Single},
		{false, "json", Pulse},
		{true, "binary", Single},
		{false, "binary", ""},
	} {
		t.Run(fmt.Sprintf("http2=%v,%s,%s", tt.http2, tt.codec, tt.transport), func(t *testing.T) {
			var started atomic.Int32
			app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
				started.Add(1)
				sent := make(chan error, 1)
				go func() {
					for i := range messages {
						if err := s.Send(ctx, frame.Text(numbered("app", i))); err != nil {
							sent <- err
							return
						}
					}
					sent <- nil
				}()
				for i := 0; ; i++ {
					m, err := s.Receive(ctx)
					if err == io.EOF && i == messages {
						break
					}
					if want := numbered("client", i); err != nil || string(m.Data) != want {
						return frame.Errorf(4999, "message %d: %.30q, %v", i, m.Data, err)
					}
				}
				if err := <-sent; err != nil {
					return err
				}
				return frame.Errorf(frame.CodeProgramExited, "exit status 3")
			})
			url, o := serve(t, app, &session.Options{Grace: 30 * time.Second}, tt.http2)
			o.Codec, o.Transport = tt.codec, tt.transport
			n := newNetwork(t, url, o)
			if tt.transport != "" {
				n.cuts = 20
			}
			c := dialTest(t, url, o)
			if tt.transport == "" { // what is only tried out is not resumed: cuts come later
				n.mu.Lock()
				n.cuts = 20
				n.mu.Unlock()
				n.cut(false)
			}
			sent := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			go func() {
				for i := range messages {
					if err := c.Send(ctx, frame.Text(numbered("client", i))); err != nil {
						sent <- err
						return
					}
				}
				sent <- c.CloseSend()
			}()
			for i := range messages {
				m, err := c.Receive(ctx)
				if want := numbered("app", i); err != nil || string(m.Data) != want {
					t.Fatalf("message %d: %.30q, %v", i, m.Data, err)
				}
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if over := receiveClose(t, c, frame.CodeProgramExited); over.Reason != "exit status 3" {
				t.Errorf("reason %q", over.Reason)
			}
			<-c.done
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.cuts > 0 {
				t.Errorf("%d cuts did not take place: too little was sent for them", n.cuts)
			}
			if started.Load() != 1 {
				t.Errorf("the app was started %d times", started.Load())
			}
		})
	}
}

// resumable dials an echo that can be resumed over a network to be cut.
func resumable(t *testing.T, grace time.Duration, o *Options) (*Conn, *network) {
	t.Helper()
	url, defaults := serve(t, session.Echo, &session.Options{Grace: grace}, false)
	o.Proxy, o.Transport = defaults.Proxy, Single
	n := newNetwork(t, url, o)
	c := dialTest(t, url, o)
	send(t, c, "before")
	receive(t, c, "before")
	return c, n
}

// TestGap: what is sent while there is no network arrives later.
func TestGap(t *testing.T) {
	c, n := resumable(t, time.Minute, &Options{})
	n.cut(true)
	<-n.refused
	send(t, c, "meanwhile")
	<-n.refused // it goes on trying
	if err := c.Err(); err != nil {
		t.Fatalf("over during the gap: %v", err)
	}
	n.cut(false)
	receive(t, c, "meanwhile")
	if err := c.Close(frame.CodeNormal, ""); err != nil {
		t.Error(err)
	}
}

// TestGoneForGood: the session ends after the grace time, and tells why.
func TestGoneForGood(t *testing.T) {
	c, n := resumable(t, time.Second, &Options{})
	start := time.Now()
	n.cut(true)
	over := receiveClose(t, c, frame.CodeHeartbeat)
	if !strings.Contains(over.Reason, "connection refused") {
		t.Errorf("reason %q", over.Reason)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("given up after %v, the server's grace is 1 s", took)
	}
}

// TestEndInTheGap: Close and CloseNow don't wait for a network that stays down.
func TestEndInTheGap(t *testing.T) {
	t.Parallel() // it waits
	for name, end := range map[string]func(c *Conn) error{
		"CloseNow": func(c *Conn) error { c.CloseNow(); return c.Err() },
		"Close":    func(c *Conn) error { return c.Close(frame.CodeNormal, "") },
	} {
		t.Run(name, func(t *testing.T) {
			c, n := resumable(t, time.Hour, &Options{})
			n.cut(true)
			<-n.refused
			start := time.Now()
			if err := end(c); err == nil {
				t.Error("no error, though the server can't know")
			}
			if took := time.Since(start); took > closeGrace+closeGrace/2 {
				t.Errorf("it took %v", took)
			}
			<-c.Done()
		})
	}
}

// TestEndWhileResuming: an attempt that gets no answer does not hold an end up.
func TestEndWhileResuming(t *testing.T) {
	t.Parallel() // it waits
	for name, end := range map[string]func(c *Conn) error{
		"CloseNow": func(c *Conn) error { c.CloseNow(); return c.Err() },
		"Close":    func(c *Conn) error { return c.Close(frame.CodeNormal, "") },
	} {
		t.Run(name, func(t *testing.T) {
			c, n := resumable(t, time.Hour, &Options{OpenTimeout: time.Hour})
			asked := make(chan string, 1)
			silent, err := url.Parse(fake(t, func(v *visit) {
				asked <- v.req.Header.Get("Tandem-Attempt")
				io.Copy(io.Discard, v.body)
			}))
			if err != nil {
				t.Fatal(err)
			}
			n.mu.Lock()
			n.to = silent.Host
			n.mu.Unlock()
			n.cut(false)
			if attempt := <-asked; attempt != "1" {
				t.Errorf("attempt %q", attempt)
			}
			start := time.Now()
			if err := end(c); err == nil {
				t.Error("no error, though the server can't know")
			}
			if took := time.Since(start); took > 2*closeGrace {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestServerForgot: a server that has been restarted does not have the session.
func TestServerForgot(t *testing.T) {
	c, n := resumable(t, time.Hour, &Options{})
	other, _ := serve(t, session.Echo, &session.Options{Grace: time.Hour}, false)
	n.mu.Lock()
	n.to = strings.TrimPrefix(other, "http://")
	n.mu.Unlock()
	n.cut(false)
	if over := receiveClose(t, c, frame.CodeHeartbeat); !strings.Contains(over.Reason, "410") {
		t.Errorf("reason %q", over.Reason)
	}
}

// TestNoResume: a cut ends the session.
func TestNoResume(t *testing.T) {
	c, n := resumable(t, time.Hour, &Options{NoResume: true})
	n.cut(false)
	receiveClose(t, c, frame.CodeHeartbeat)
}

const openWithGrace = `{"type":"open","version":1,"session":"abc.def","transport":"single","heartbeat":15000,"grace":60000,"window":65536,"messages":64,"max_message":1048576}` + "\n"

// TestResumingRequests: what the requests say, and what answers do to them.
func TestResumingRequests(t *testing.T) {
	var visits atomic.Int32
	url := fake(t, func(v *visit) {
		n := visits.Add(1)
		if n > 1 {
			if id, attempt := v.req.Header.Get("Tandem-Session"), v.req.Header.Get("Tandem-Attempt"); id != "abc.def" || attempt != fmt.Sprint(n-1) {
				t.Errorf("request %d: session %q, attempt %q", n, id, attempt)
			}
		}
		switch n {
		case 1:
			v.write(jsonHead + openWithGrace + `{"type":"message","seq":1,"data":"one"}` + "\n")
			for m := v.message(); string(m.Data) != "b"; m = v.message() {
			}
			v.conn.Close()
		case 2:
			v.write("HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
		case 3:
			v.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		case 4:
			if f := v.frame(); f == nil || f.Type != frame.TypeOpen || f.Hold {
				t.Errorf("expected an open that holds nothing, got %+v", f)
			}
			if f := v.frame(); f == nil || f.Type != frame.TypeAck || f.Received != 1 {
				t.Errorf("expected the ack of one message, got %+v", f)
			}
			v.write(jsonHead + openWithGrace + `{"type":"ack","received":1,"window":65536,"messages":64}` + "\n")
			if f := v.message(); f == nil || f.Seq != 2 || string(f.Data) != "b" {
				t.Errorf("expected the second message again, got %+v", f)
			}
			v.write(`{"type":"message","seq":2,"data":"two"}` + "\n")
			v.write(`{"type":"close","seq":2,"code":4000,"reason":"exit status 3"}` + "\n")
		}
	})
	c := dialTest(t, url, &Options{Transport: Single, Codec: "json"})
	receive(t, c, "one")
	send(t, c, "a")
	send(t, c, "b")
	receive(t, c, "two")
	receiveClose(t, c, frame.CodeProgramExited)
}

// TestAnotherSession: a proxy that drops the headers would start a second program.
func TestAnotherSession(t *testing.T) {
	var visits atomic.Int32
	url := fake(t, func(v *visit) {
		if visits.Add(1) == 1 {
			v.write(jsonHead + openWithGrace)
			v.message()
			v.conn.Close()
			return
		}
		v.write(jsonHead + strings.Replace(openWithGrace, "abc.def", "abc.ghi", 1))
	})
	c := dialTest(t, url, &Options{Transport: Single, Codec: "json"})
	send(t, c, "x")
	if over := receiveClose(t, c, frame.CodeProtocol); !strings.Contains(over.Reason, "Tandem-Session") {
		t.Errorf("reason %q", over.Reason)
	}
}

// TestSilentServerIsResumed: a transport that is dead without anybody saying so is
// left after 2.5 of the server's heartbeats, for another one.
func TestSilentServerIsResumed(t *testing.T) {
	var visits atomic.Int32
	url := fake(t, func(v *visit) {
		v.write(jsonHead + strings.Replace(openWithGrace, `"heartbeat":15000`, `"heartbeat":100`, 1))
		if visits.Add(1) == 1 {
			for v.frame() != nil { // says nothing more
			}
			return
		}
		v.write(`{"type":"ack","received":0,"window":65536,"messages":64}` + "\n")
		v.message()
		v.write(`{"type":"close","seq":0,"code":4000}` + "\n")
	})
	c := dialTest(t, url, &Options{Transport: Single, Codec: "json"})
	send(t, c, "x")
	receiveClose(t, c, frame.CodeProgramExited)
}
