package flow_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// slowOutput takes a second for each write.
type slowOutput struct{ writes []string }

func (s *slowOutput) Write(p []byte) (int, error) {
	time.Sleep(time.Second)
	s.writes = append(s.writes, string(p))
	return len(p), nil
}
func (s *slowOutput) Flush() error { return nil }
func (s *slowOutput) Finished()    {}
func (s *slowOutput) Abort()       {}
func (s *slowOutput) Slow()        {}

// TestSlowCarrier: who sends doesn't wait for a slow carrier, and what was sent
// meanwhile goes out together. What is not acked is told at the end.
func TestSlowCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		l, out := flow.New(cfg), &slowOutput{}
		at := l.Attach(out, frame.JSON, flow.Streaming, open(cfg))
		start := time.Now()
		for range 10 {
			if err := l.Send(t.Context(), frame.Text("x")); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("sending took %v", took)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(out.writes) > 2 || strings.Count(strings.Join(out.writes, ""), `"type":"message"`) != 10 {
			t.Errorf("%d writes: %q", len(out.writes), out.writes)
		}
		l.Lost("the test is over")
		if n := len(l.Unacked()); n != 10 {
			t.Errorf("%d messages are un-acked, expected 10", n)
		}
		at.Detach()
	})
}

// TestTaken: it waits for Receive, or for its context.
func TestTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		l := flow.New(cfg)
		at := l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg))
		l.Taken(t.Context()) // nothing came
		r, w := io.Pipe()
		fed := make(chan error, 1)
		go func() { fed <- at.Feed(r, frame.JSON, func(*frame.Frame) error { return nil }) }()
		io.WriteString(w, openLine+messageLine(1, "x")+messageLine(2, "y"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		l.Taken(ctx)
		if took := time.Since(start); took != time.Second {
			t.Errorf("it returned after %v, though nothing was received", took)
		}
		go func() {
			for range 2 {
				time.Sleep(time.Second)
				l.Receive(t.Context())
			}
		}()
		start = time.Now()
		l.Taken(t.Context())
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		l.Lost("the test is over")
		w.Close()
		<-fed
		at.Detach()
	})
}
