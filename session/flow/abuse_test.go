package flow

// What a hostile or careless peer may do to a link, seen from inside.

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/frame"
)

// TestPeerWindowIsBounded: a client that tells an endless window and acks nothing holds no more than a bounded memory.
func TestPeerWindowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{MaxMessage: 1 << 20, Window: InitialWindow, Messages: InitialMessages})
		s := discard{}
		open := &frame.Frame{Type: frame.TypeOpen, Version: 1, Window: InitialWindow, Messages: InitialMessages}
		at := l.Attach(s, frame.Binary, Streaming, open)
		pr, pw := io.Pipe()
		fed := make(chan struct{})
		opened := make(chan struct{})
		go func() { at.Feed(pr, frame.Binary, func(*frame.Frame) error { close(opened); return nil }); close(fed) }()
		b, _ := frame.Binary.Append(nil, &frame.Frame{Type: frame.TypeOpen, Version: 1, Window: frame.MaxInt, Messages: frame.MaxInt})
		pw.Write(b)
		<-opened
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // until no Send goes on
		defer cancel()
		sent := 0
		data := make([]byte, 16<<10)
		for l.Send(ctx, frame.Message{Data: data}) == nil {
			if sent += len(data); sent > 64<<20 {
				t.Error("64 MiB were taken from the app for a client that acks nothing")
				break
			}
		}
		t.Log("held", sent)
		l.Lost("done")
		pw.Close()
		<-fed
		at.Detach()
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Flush() error                { return nil }
func (discard) Finished()                   {}
func (discard) Abort()                      {}

// TestBacklogForgetsWhatWasReceived: an app that is always behind must not cost memory for what it has received.
func TestBacklogForgetsWhatWasReceived(t *testing.T) {
	l := New(Config{MaxMessage: 1 << 20, Window: InitialWindow, Messages: InitialMessages})
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := uint64(0)
	in := func() {
		seq++
		if err := l.message(&frame.Frame{Type: frame.TypeMessage, Seq: seq, Data: []byte("x")}, true); err != nil {
			t.Fatal(err)
		}
	}
	in()
	for range 100_000 {
		in()
		l.pop()
		l.in.held.sub(l.in.due)
		l.in.due = cost{}
	}
	if n := cap(l.in.queue); n > 1000 {
		t.Errorf("one message waits, and the queue has room for %d", n)
	}
}

// TestSmallestWindows: the smallest window and number of messages that an end may
// grant let everything through at once: no ack waits for a heartbeat.
func TestSmallestWindows(t *testing.T) {
	for _, limits := range [][2]uint64{{minWindow, 1000}, {minWindow + 100, 2}, {InitialWindow, 1}, {2*minWindow - 1, 3}} {
		cfg := Config{MaxMessage: 1 << 20, Window: limits[0], Messages: limits[1]}
		open := &frame.Frame{Type: frame.TypeOpen, Version: 1, Window: limits[0], Messages: limits[1]}
		a, b := New(cfg), New(cfg)
		ar, aw := io.Pipe()
		br, bw := io.Pipe()
		opened := make(chan struct{}, 2)
		control := func(*frame.Frame) error { opened <- struct{}{}; return nil }
		var wg sync.WaitGroup
		aa := a.Attach(pipeCarrier{aw}, frame.Binary, Streaming, open)
		ba := b.Attach(pipeCarrier{bw}, frame.Binary, Streaming, open)
		wg.Go(func() { aa.Feed(br, frame.Binary, control) })
		wg.Go(func() { ba.Feed(ar, frame.Binary, control) })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		<-opened
		<-opened
		sizes := []int{8000, 16 << 10, 1, 8100, 16 << 10, 40_000, 0, 8176}
		wg.Go(func() {
			for _, n := range sizes {
				if err := a.Send(ctx, frame.Message{Data: make([]byte, n)}); err != nil {
					t.Errorf("window %d, %d messages: sending %d bytes: %v", limits[0], limits[1], n, err)
				}
			}
		})
		for range sizes {
			if _, err := b.Receive(ctx); err != nil {
				t.Errorf("window %d, %d messages: %v", limits[0], limits[1], err)
				break
			}
		}
		cancel()
		a.Lost("done")
		b.Lost("done")
		aw.Close()
		bw.Close()
		wg.Wait()
		aa.Detach()
		ba.Detach()
	}
}

type pipeCarrier struct{ *io.PipeWriter }

func (pipeCarrier) Flush() error { return nil }
func (pipeCarrier) Finished()    {}
func (p pipeCarrier) Abort()     { p.CloseWithError(io.ErrClosedPipe) }

// TestConcurrentPings: each ping is answered, however many there are at once.
func TestConcurrentPings(t *testing.T) {
	a := New(Config{MaxMessage: 1 << 20, Window: InitialWindow, Messages: InitialMessages})
	b := New(Config{MaxMessage: 1 << 20, Window: InitialWindow, Messages: InitialMessages})
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	open := &frame.Frame{Type: frame.TypeOpen, Version: 1, Window: InitialWindow, Messages: InitialMessages}
	nothing := func(*frame.Frame) error { return nil }
	var wg sync.WaitGroup
	aa := a.Attach(pipeCarrier{aw}, frame.Binary, Streaming, open)
	ba := b.Attach(pipeCarrier{bw}, frame.Binary, Streaming, open)
	wg.Go(func() { aa.Feed(br, frame.Binary, nothing) })
	wg.Go(func() { ba.Feed(ar, frame.Binary, nothing) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var pings sync.WaitGroup
	for range 8 {
		pings.Go(func() {
			for range 50 {
				if _, err := a.Ping(ctx); err != nil {
					t.Errorf("a ping was lost: %v", err)
					return
				}
			}
		})
	}
	pings.Wait()
	a.Lost("done")
	b.Lost("done")
	aw.Close()
	bw.Close()
	wg.Wait()
	aa.Detach()
	ba.Detach()
}
