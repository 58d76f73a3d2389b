package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/internal/servertest"
	"tandem/session/frame"
)

// wires are a client's connections, which a test can cut.
type wires struct {
	mu    sync.Mutex
	conns []net.Conn
	made  chan struct{} // holds a token when there is one to cut
}

func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns = append(w.conns, c)
		select {
		case w.made <- struct{}{}:
		default:
		}
	}
	return c, err
}

func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// TestHundredCuts cuts a busy session's connections to the web server 100 times, at
// random moments, on every transport: the one program behind it gets each message once, in
// order, and the client each answer.
func TestHundredCuts(t *testing.T) {
	const cuts = 100
	td := servertest.StartTandem(t, apartEndpoints)
	transports := map[string][]string{
		"nginx":    {"", client.Single, client.Split, client.Poll},
		"nginx-h2": {client.Split},
		"apache":   {"", client.Pulse},
		"lighttpd": {client.Single},
		"http":     {""},
	}
	for _, e := range entrances(t, td) {
		for _, transport := range transports[e.name] {
			t.Run(e.name+"/"+cmp.Or(transport, "chosen"), func(t *testing.T) {
				t.Parallel()
				w := wires{made: make(chan struct{}, 1)}
				c := e.dial(t, "/once", transport, func(o *client.Options) { o.DialContext, o.Memory = w.dial, new(memory) })
				ctx := within(t, 100*time.Second)
				if m, err := c.Receive(ctx); err != nil || string(m.Data) != "started once" {
					t.Fatalf("got %q, %v", m.Data, err)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range cuts {
						select {
						case <-w.made:
						case <-ctx.Done():
							return
						}
						timer := time.NewTimer(rand.N(20 * time.Millisecond)) // the moment of the cut
						<-timer.C
						w.cut()
					}
				}()
				sent := make(chan error, 1)
				total := -1
				go func() {
					for i := 0; ; i++ {
						select {
						case <-done:
							total = i
							sent <- c.CloseSend()
							return
						default:
						}
						if err := c.Send(ctx, frame.Text(fmt.Sprint(i))); err != nil {
							sent <- fmt.Errorf("sending %d: %w", i, err)
							return
						}
					}
				}()
				n := 0
				for ; ; n++ {
					m, err := c.Receive(ctx)
					if err != nil {
						wantCode(t, err, frame.CodeNormal)
						break
					}
					if string(m.Data) != fmt.Sprint(n) {
						t.Fatalf("got %q, want %d", m.Data, n)
					}
				}
				if err := <-sent; err != nil || n != total {
					t.Errorf("%d of %d came back, %v", n, total, err)
				}
				t.Logf("%d messages, ended on %s", n, c.Transport())
			})
		}
	}
}
