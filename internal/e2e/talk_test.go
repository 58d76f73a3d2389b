package e2e_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// TestTalk: in one HTTP request whose body stays open, messages go each way, in
// either order, on every route and in both framed codecs.
func TestTalk(t *testing.T) {
	for _, r := range routes(t) {
		for _, codec := range []string{"binary", "json"} {
			t.Run(r.name+"/"+codec, func(t *testing.T) {
				t.Parallel()
				withCodec := func(o *client.Options) { o.Codec = codec }
				c := r.dial(t, "/hello", withCodec)
				path := c.Path()
				if path.Transport != r.transport || path.Body() != r.body && r.proto == "" {
					t.Errorf("the client chose %s, %s; want %s, %s", path.Transport, path.Body(), r.transport, r.body)
				}
				if r.proto != "" && path.Proto != r.proto {
					t.Errorf("the path is %s, want %s", path.Proto, r.proto)
				}
				ctx := within(t, 30*time.Second)
				// The server speaks first, unasked.
				if m, err := c.Receive(ctx); err != nil || string(m.Data) != "hello" {
					t.Fatalf("first message %q, %v", m.Data, err)
				}
				var times []time.Duration
				for i := range 50 {
					start := time.Now()
					want := fmt.Sprint("message ", i)
					if err := c.Send(ctx, frame.Text(want)); err != nil {
						t.Fatal(err)
					}
					if m, err := c.Receive(ctx); err != nil || string(m.Data) != want || !m.Text {
						t.Fatalf("got %q, %v; want %q", m.Data, err, want)
					}
					times = append(times, time.Since(start))
				}
				t.Logf("round trip: median %v", median(times))
				if err := c.CloseSend(); err != nil {
					t.Fatal(err)
				}
				_, err := c.Receive(ctx)
				wantCode(t, err, frame.CodeNormal)
			})
		}
	}
}

// TestBothAtOnce: 10,000 messages each way at the same time, complete and in
// order; the program compares what it gets.
func TestBothAtOnce(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			const n = 10_000
			c := r.dial(t, "/both", nil)
			ctx := within(t, 60*time.Second)
			sent := make(chan error, 1)
			go func() {
				for i := 1; i <= n; i++ {
					if err := c.Send(ctx, frame.Text(fmt.Sprint(i))); err != nil {
						sent <- fmt.Errorf("sending %d: %w", i, err)
						return
					}
				}
				sent <- c.CloseSend()
			}()
			next, same := 1, false
			for {
				m, err := c.Receive(ctx)
				if err != nil {
					wantCode(t, err, frame.CodeNormal)
					break
				}
				switch string(m.Data) {
				case fmt.Sprint(next):
					next++
				case "same":
					same = true
				default:
					t.Fatalf("got %q, want %d", m.Data, next)
				}
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if next != n+1 || !same {
				t.Errorf("%d messages came, the program got all in order: %v", next-1, same)
			}
		})
	}
}

// TestSilence: a quiet session stays, and a message after the silence is as
// quick as before. The long form is scripts/soak.
func TestSilence(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := r.dial(t, "", func(o *client.Options) { o.Heartbeat = 500 * time.Millisecond })
			ctx := within(t, 30*time.Second)
			select {
			case <-c.Done():
				t.Fatalf("the session ended in silence: %v", c.Err())
			case <-time.After(3 * time.Second): // the silence is the test
			}
			if err := c.Send(ctx, frame.Text("still here")); err != nil {
				t.Fatal(err)
			}
			if m, err := c.Receive(ctx); err != nil || string(m.Data) != "still here" {
				t.Errorf("got %q, %v", m.Data, err)
			}
			if err := c.Close(frame.CodeNormal, ""); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestLargeMessages of all kinds of bytes come back whole.
func TestLargeMessages(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := r.dial(t, "", nil)
			ctx := within(t, 60*time.Second)
			for _, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 300_000, 1 << 20} {
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i * 7)
				}
				if err := c.Send(ctx, frame.Message{Data: data}); err != nil {
					t.Fatal(err)
				}
				m, err := c.Receive(ctx)
				if err != nil || m.Text || string(m.Data) != string(data) {
					t.Fatalf("%d bytes came back as %d, text %v, %v", size, len(m.Data), m.Text, err)
				}
			}
		})
	}
}

func wantCode(t *testing.T, err error, code frame.Code) {
	t.Helper()
	var e *frame.CloseError
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("the session ended with %v, want %d", err, code)
	}
}
