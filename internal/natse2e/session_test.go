package natse2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"tandem/client"
	"tandem/session/frame"
)

// turns is a proxy that has each request go to the next host, and counts those that each has got.
func turns(t *testing.T, hosts []*host) (proxy *httptest.Server, counts []atomic.Int64) {
	t.Helper()
	var turn atomic.Int64
	counts = make([]atomic.Int64, len(hosts))
	proxy = httptest.NewServer(&httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // of requests that were cut
		Rewrite: func(r *httputil.ProxyRequest) {
			i := int(turn.Add(1)) % len(hosts)
			counts[i].Add(1)
			r.SetURL(&url.URL{Scheme: "http", Host: hosts[i].address})
		},
	})
	t.Cleanup(proxy.Close)
	return proxy, counts
}

// The requests of one session reach different hosts, as behind a proxy that has each go to the next one: the session works, also
// one of a single request that is cut and resumed.
func TestSessionOfManyHosts(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hosts := newHosts(t, c, "session", "")
	for _, transport := range []string{client.Split, client.Poll, client.Single} {
		proxy, counts := turns(t, hosts)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := client.Dial(ctx, proxy.URL+"/hub", &client.Options{Transport: transport})
		if err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
		defer s.CloseNow()
		ask := func(v any) {
			t.Helper()
			text, err := json.Marshal(v)
			if err == nil {
				err = s.Send(ctx, frame.Message{Data: text, Text: true})
			}
			if err != nil {
				t.Fatalf("%s: %v", transport, err)
			}
		}
		expect := func(want string) {
			t.Helper()
			m, err := s.Receive(ctx)
			if err != nil || string(m.Data) != want {
				t.Fatalf("%s: got %s, %v; expected %s", transport, m.Data, err, want)
			}
		}
		ask(map[string]any{"subscribe": map[string]any{"topics": []string{transport}}})
		expect(`{"subscribed":{"subscription":1,"recovered":true}}`)
		const rounds = 12
		for i := range rounds {
			if transport == client.Single {
				proxy.CloseClientConnections()
			}
			id := fmt.Sprintf("%s-%d", transport, i)
			publish(t, hosts[i%len(hosts):], id, transport, "data")
			expect(fmt.Sprintf(`{"event":{"id":%q,"topic":%q,"data":"data"}}`, id, transport))
			ask(map[string]int{"unsubscribe": 100 + i})
			if m, err := s.Receive(ctx); err != nil {
				t.Fatalf("%s: got %s, %v", transport, m.Data, err)
			}
		}
		for i := range counts {
			if counts[i].Load() == 0 {
				t.Errorf("%s: no request reached host %d", transport, i)
			}
		}
		t.Logf("%s: %d, %d and %d requests at the hosts", transport, counts[0].Load(), counts[1].Load(), counts[2].Load())
	}
}
