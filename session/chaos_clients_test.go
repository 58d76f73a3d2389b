package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/session"
	"tandem/session/frame"
)

// TestChaosOfClients: Conns that are used from many sides at once and dropped at any
// moment end in time, with one error, and leave nothing.
func TestChaosOfClients(t *testing.T) {
	h := session.NewHandler(chaotic, quiet(session.Options{Heartbeat: 20 * time.Millisecond}))
	h1 := httptest.NewServer(h)
	h2 := httptest.NewUnstartedServer(h)
	h2.EnableHTTP2 = true
	h2.StartTLS()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				o := &client.Options{TLS: &tls.Config{InsecureSkipVerify: true}, Codec: []string{"json", "binary"}[rand.IntN(2)],
					Transport: []string{"single", "pulse", ""}[rand.IntN(3)], HTTP1: rand.IntN(2) == 0, Heartbeat: 20 * time.Millisecond}
				if rand.IntN(3) == 0 {
					o.Messages, o.Window = 2+uint64(rand.IntN(3)), 16<<10+32
				}
				url := []string{h1.URL, h2.URL}[rand.IntN(2)]
				begun := time.Now()
				useSomehow(t, url, o)
				if d := time.Since(begun); d > 8*time.Second {
					t.Errorf("a client took %v, %+v", d, o)
				}
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("%d sessions are left: %v", h.Sessions(), err)
	}
	h1.Close()
	h2.Close()
}

func useSomehow(t *testing.T, url string, o *client.Options) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if rand.IntN(8) == 0 {
		go cancel()
	}
	c, err := client.Dial(ctx, url, o)
	if err != nil {
		return
	}
	defer c.CloseNow()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range rand.IntN(40) {
				if c.Send(ctx, frame.Message{Data: make([]byte, rand.IntN(30000))}) != nil {
					return
				}
			}
			if rand.IntN(3) == 0 {
				c.CloseSend()
			}
		})
	}
	wg.Go(func() {
		for range rand.IntN(60) {
			if _, err := c.Receive(ctx); err != nil {
				var over *frame.CloseError
				if errors.As(err, &over) {
					if c.Err() == nil || c.Err().Error() != over.Error() {
						t.Errorf("Receive says %v, Err %v", over, c.Err())
					}
				} else if err != io.EOF && ctx.Err() == nil {
					t.Errorf("Receive: %v", err)
				}
				return
			}
		}
	})
	wg.Go(func() {
		for range rand.IntN(5) {
			c.Ping(ctx)
		}
	})
	switch rand.IntN(5) {
	case 0:
		c.CloseNow()
	case 1:
		c.Close(frame.CodeNormal, "")
	case 2:
		go c.CloseNow()
		c.Close(frame.CodeGoingAway, "x")
	case 3:
		cancel()
	case 4:
		time.AfterFunc(200*time.Millisecond, cancel)
	}
	wg.Wait()
	c.Close(frame.CodeNormal, "")
}
