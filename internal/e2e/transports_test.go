package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/internal/servertest"
	"tandem/session/frame"
)

// dial opens a session with package client.
func (e *entrance) dial(t *testing.T, endpoint, transport string, change func(*client.Options)) *client.Conn {
	t.Helper()
	o := client.Options{Transport: transport, TLS: e.tls, Proxy: e.proxy}
	if change != nil {
		change(&o)
	}
	c, err := client.Dial(within(t, 30*time.Second), e.base+endpoint, &o)
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	t.Cleanup(c.CloseNow)
	return c
}

// exchange sends n messages, and receives the n that come back, both at once.
func exchange(ctx context.Context, t *testing.T, c *client.Conn, n int) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if err := c.Send(ctx, frame.Text(fmt.Sprint(i))); err != nil {
				sent <- fmt.Errorf("sending %d: %w", i, err)
				return
			}
		}
		sent <- nil
	}()
	for i := range n {
		if m, err := c.Receive(ctx); err != nil || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("got %q, %v; want %d", m.Data, err, i)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// TestTransports: split and poll with package client, through every web server and
// proxy where they work: 1,000 messages each way in order, a program's exit status,
// close by either side.
func TestTransports(t *testing.T) {
	td := servertest.StartTandem(t, apartEndpoints)
	resident := slices.Concat(entrances(t, td), inBetween(t, td))
	started := nothingResident(t)
	through := map[string][]entrance{
		client.Split: slices.Concat(resident, started),
		client.Poll:  slices.Concat(resident, buffering(t, td), slices.DeleteFunc(slices.Clone(started), func(e entrance) bool { return !e.graceful })),
	}
	for transport, all := range through {
		for _, e := range all {
			t.Run(transport+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				ctx := within(t, 60*time.Second)

				c := e.dial(t, "/cat", transport, nil)
				if c.Transport() != transport {
					t.Errorf("the transport is %s, want %s", c.Transport(), transport)
				}
				exchange(ctx, t, c, 1000)
				if err := c.CloseSend(); err != nil {
					t.Error(err)
				}
				_, err := c.Receive(ctx)
				wantCode(t, err, frame.CodeNormal)

				c = e.dial(t, "", transport, nil)
				var times []time.Duration
				for range 50 {
					start := time.Now()
					exchange(ctx, t, c, 1)
					times = append(times, time.Since(start))
				}
				t.Logf("round trip: median %v", median(times))
				if err := c.Close(frame.CodeNormal, ""); err != nil {
					t.Errorf("close: %v", err)
				}

				c = e.dial(t, "/status", transport, nil)
				exchange(ctx, t, c, 1)
				_, err = c.Receive(ctx)
				wantCode(t, err, frame.CodeProgramExited)
				if !strings.Contains(fmt.Sprint(err), "exit status 3") {
					t.Errorf("the session ended with %v, want exit status 3", err)
				}
			})
		}
	}
}

// TestLadder: without a transport told the client finds the best one that works
// through a proxy, in less than 5 s, and the second time at once.
func TestLadder(t *testing.T) {
	td := servertest.StartTandem(t, apartEndpoints)
	all := map[string]entrance{}
	for _, e := range slices.Concat(inBetween(t, td), buffering(t, td)) {
		all[e.name] = e
	}
	// HAProxy in front of nginx, as it often is.
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})
	all["haproxy-nginx"] = entrance{base: servertest.Start(t, servertest.HAProxy, servertest.Config{Upstream: nginx.URL, Extra: "option http-no-delay"}).FastCGI()}
	for name, want := range map[string]string{
		"nginx-proxy":      client.Split,
		"apache-proxy":     client.Split,
		"haproxy-proxy":    client.Single,
		"haproxy-nginx":    client.Single,
		"caddy-proxy":      client.Single,
		"h2o-proxy":        client.Split,
		"squid":            client.Single,
		"privoxy":          client.Single,
		"tinyproxy":        client.Split,
		"nginx-buffers":    client.Poll,
		"lighttpd-buffers": client.Poll,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := all[name]
			var known memory // one each: an endpoint is the same through all forward proxies
			var took [2]time.Duration
			for i := range took {
				start := time.Now()
				c := e.dial(t, "/once", "", func(o *client.Options) { o.Memory = &known })
				took[i] = time.Since(start)
				if c.Transport() != want {
					t.Errorf("the transport is %s (%s), want %s", c.Transport(), c.Path().Body(), want)
				}
				ctx := within(t, 30*time.Second)
				if m, err := c.Receive(ctx); err != nil || string(m.Data) != "started once" {
					t.Fatalf("got %q, %v", m.Data, err)
				}
				exchange(ctx, t, c, 100)
				if err := c.Close(frame.CodeNormal, ""); err != nil {
					t.Errorf("close: %v", err)
				}
			}
			t.Logf("%s after %v, then after %v", want, took[0], took[1])
			if took[0] > 5*time.Second || took[1] > time.Second {
				t.Errorf("a session was open after %v, the next one after %v", took[0], took[1])
			}
		})
	}
}

// A memory is for one endpoint.
type memory struct {
	mu    sync.Mutex
	known *client.Known
}

func (m *memory) Recall(string) (client.Known, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		return client.Known{}, false
	}
	return *m.known, true
}

func (m *memory) Remember(_ string, k client.Known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = &k
}

// TestProxiesThatCut: a session outlives proxies that end every request after a
// second, or after a second of silence: the one program behind it runs on.
func TestProxiesThatCut(t *testing.T) {
	td := servertest.StartTandem(t, apartEndpoints)
	squid := servertest.Start(t, servertest.Squid, servertest.Config{Global: "client_lifetime 1 second"})
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Upstream: td.HTTP, Extra: "proxy_read_timeout 1s;"})
	haproxy := servertest.Start(t, servertest.HAProxy, servertest.Config{Upstream: td.HTTP, Extra: "option http-no-delay\n    timeout server 1s"})
	for _, e := range []struct {
		entrance
		transport string
		pause     time.Duration // between messages: the cuts are in it
	}{
		{entrance{name: "squid", base: td.HTTP + "/tandem", proxy: squid.Proxy}, "", 200 * time.Millisecond},
		{entrance{name: "haproxy", base: haproxy.FastCGI()}, "", 1500 * time.Millisecond},
		{entrance{name: "nginx", base: nginx.FastCGI()}, client.Split, 1500 * time.Millisecond},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			c := e.dial(t, "/once", e.transport, func(o *client.Options) { o.Memory = new(memory) })
			ctx := within(t, 60*time.Second)
			if m, err := c.Receive(ctx); err != nil || string(m.Data) != "started once" {
				t.Fatalf("got %q, %v", m.Data, err)
			}
			first := c.Transport()
			for start := time.Now(); time.Since(start) < 8*time.Second; {
				exchange(ctx, t, c, 10)
				select {
				case <-time.After(e.pause): // the proxy's silence
				case <-c.Done():
					t.Fatal(c.Err())
				}
			}
			t.Logf("began with %s, ended with %s", first, c.Transport())
			if err := c.CloseSend(); err != nil {
				t.Error(err)
			}
			_, err := c.Receive(ctx)
			wantCode(t, err, frame.CodeNormal)
		})
	}
}
