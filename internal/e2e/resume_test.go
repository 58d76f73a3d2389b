package e2e_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// wires are a client's connections, which a test can cut.
type wires struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		w.mu.Lock()
		w.conns = append(w.conns, c)
		w.mu.Unlock()
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

// TestResume cuts a busy session's connection to the web server again and again:
// the one program behind it gets each message once, in order, and the client each
// answer.
func TestResume(t *testing.T) {
	for _, r := range routes(t) {
		if strings.HasSuffix(r.name, "-cgi") {
			continue // the process ends with its request
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var w wires
			c := r.dial(t, "/steady", func(o *client.Options) { o.DialContext = w.dial })
			ctx := within(t, 60*time.Second)
			const n = 3000
			sent := make(chan error, 1)
			go func() {
				for i := range n {
					if i%300 == 299 {
						w.cut()
					}
					if err := c.Send(ctx, frame.Text(fmt.Sprint(i))); err != nil {
						sent <- fmt.Errorf("sending %d: %w", i, err)
						return
					}
				}
				sent <- c.CloseSend()
			}()
			for i := range n {
				m, err := c.Receive(ctx)
				if err != nil || string(m.Data) != fmt.Sprint(i) {
					t.Fatalf("got %q, %v; want %d", m.Data, err, i)
				}
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			_, err := c.Receive(ctx)
			wantCode(t, err, frame.CodeNormal)
		})
	}
}
