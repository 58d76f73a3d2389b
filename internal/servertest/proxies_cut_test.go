package servertest

import (
	"testing"
	"time"
)

// Facts about what proxies do to a stream as time goes by.

// Decides "option http-no-delay" in the shipped file and in docs/proxies.md: without
// it HAProxy holds each piece of a response back for some 200 ms.
func TestHAProxyHoldsPiecesBack(t *testing.T) {
	t.Parallel()
	const held = 150 * time.Millisecond
	const option = "option http-no-delay"
	quickest := func(t *testing.T, s *stage, url string) time.Duration {
		client := s.open(t, url, exchange{method: "GET"})
		app := s.next(t)
		app.write("first\n")
		client.receive("first\n")
		best := time.Hour
		for range 5 {
			start := time.Now()
			app.write("hello\n")
			client.receive("hello\n")
			best = min(best, time.Since(start))
		}
		app.end()
		client.finished()
		return best
	}
	origin := newOrigin(t)
	for _, c := range []struct {
		name string
		*stage
		url  string
		held bool
	}{
		{"FastCGI as shipped", newStage(t, HAProxy, Config{}), "", false},
		{"FastCGI without", newStage(t, HAProxy, Config{replace: [2]string{option, ""}}), "", true},
		{"HTTP with", origin, Start(t, HAProxy, Config{Upstream: origin.URL, Extra: option}).FastCGI(), false},
		{"HTTP without", origin, Start(t, HAProxy, Config{Upstream: origin.URL}).FastCGI(), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.url == "" {
				c.url = c.FastCGI()
			}
			if got := quickest(t, c.stage, c.url); got > held != c.held {
				t.Errorf("the quickest of five pieces took %v; expected it to be held for %v: %v", got, held, c.held)
			}
		})
	}
}

// Decides that a session outlives its connection: these cut one that is silent,
// squid also one that isn't.
func TestProxiesCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		kind   Kind
		config Config
		noisy  bool // the response goes on and on
	}{
		{"nginx proxy_read_timeout", Nginx, Config{Extra: "proxy_read_timeout 1s;"}, false},
		{"haproxy timeout server", HAProxy, Config{Extra: "timeout server 1s"}, false},
		{"squid read_timeout", Squid, Config{Global: "read_timeout 1 second"}, false},
		{"squid client_lifetime", Squid, Config{Global: "client_lifetime 1 second"}, true},
		{"tinyproxy Timeout", Tinyproxy, Config{Global: "Timeout 1"}, false},
		{"privoxy socket-timeout", Privoxy, Config{Global: "socket-timeout 1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newOrigin(t)
			url, x := s.URL+"/tandem", exchange{method: "GET"}
			if flavours[c.kind].forward {
				x.proxy = Start(t, c.kind, c.config).Proxy
			} else {
				c.config.Upstream = s.URL
				url = Start(t, c.kind, c.config).FastCGI()
			}
			start := time.Now()
			client := s.open(t, url, x)
			app := s.next(t)
			app.write("1")
			client.receive("1")
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case _, ok := <-client.output:
					if !ok {
						t.Logf("cut after %v: %v", time.Since(start), client.err)
						return
					}
				case <-tick.C:
					if c.noisy {
						app.write("more")
					}
				case <-time.After(patience - time.Since(start)):
					t.Fatal("the connection wasn't cut")
				}
			}
		})
	}
}
