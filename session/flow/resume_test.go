package flow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// A cutter lets so many bytes through, then none.
type cutter struct {
	pipe
	mu   sync.Mutex
	left int
	cut  func()
}

func (c *cutter) Write(p []byte) (int, error) {
	c.mu.Lock()
	n := min(len(p), c.left)
	c.left -= n
	c.mu.Unlock()
	written, err := c.pipe.Write(p[:n])
	if err == nil && n < len(p) {
		c.cut()
		err = errors.New("cut")
	}
	return written, err
}

// network joins two links again and again over transports that are cut at random
// points, or replaced while they live, until both are over.
type network struct {
	codec frame.Codec
	cfg   flow.Config
	rng   *rand.Rand
	a, b  *flow.Link
	cuts  int
}

func (n *network) run() {
	var stale sync.WaitGroup
	for first := true; ; first = false {
		ra, wb := io.Pipe()
		rb, wa := io.Pipe()
		cut := sync.OnceFunc(func() {
			for _, p := range []*io.PipeReader{ra, rb} {
				p.CloseWithError(errors.New("cut"))
			}
			for _, p := range []*io.PipeWriter{wa, wb} {
				p.CloseWithError(errors.New("cut"))
			}
		})
		budget := func() int {
			if n.cuts > 60 {
				return 1 << 40 // enough: let it come to an end
			}
			return n.rng.IntN(1 << (4 + n.rng.IntN(14)))
		}
		replace := n.rng.IntN(4) == 0 && n.cuts <= 60
		onCut := cut
		next := make(chan struct{}) // the next transport is to be made
		goOn := sync.OnceFunc(func() { close(next) })
		if replace {
			onCut = goOn // the old one stays, as far as the ends know
		}
		n.cuts++
		attach := func(l *flow.Link, r *io.PipeReader, w *io.PipeWriter) *flow.Attach {
			c := &cutter{pipe: pipe{w, r}, left: budget(), cut: onCut}
			if first {
				return l.Attach(c, n.codec, flow.Streaming, open(n.cfg))
			}
			return l.Resume(c, n.codec, flow.Streaming, open(n.cfg))
		}
		at, bt := attach(n.a, ra, wa), attach(n.b, rb, wb)
		var both sync.WaitGroup
		feed := func(at *flow.Attach, r *io.PipeReader) {
			err := at.Feed(r, n.codec, func(*frame.Frame) error { return nil })
			if !replace {
				cut()
			}
			if err != nil && !replace {
				at.Lost(err.Error())
			}
		}
		both.Go(func() { feed(at, ra) })
		both.Go(func() { feed(bt, rb) })
		stale.Go(func() {
			both.Wait()
			goOn()
			at.Detach()
			bt.Detach()
		})
		<-next
		if replace {
			stale.Go(func() { // it dies in the end
				<-at.Finished()
				<-bt.Finished()
				cut()
			})
		}
		if n.a.Err() != nil && n.b.Err() != nil {
			cut()
			break
		}
	}
	stale.Wait()
}

// TestResume: two links over a network that cuts and replaces transports at
// random points. Each message arrives exactly once, in order, both ways, and the
// end with its code arrives as well. RESUME_CASES=n runs more cases.
func TestResume(t *testing.T) {
	cases := 25
	if s := os.Getenv("RESUME_CASES"); s != "" {
		cases, _ = strconv.Atoi(s)
	}
	for seed := range cases {
		for _, codec := range []frame.Codec{frame.JSON, frame.Binary} {
			t.Run(fmt.Sprintf("%s/%d", codec.Name(), seed), func(t *testing.T) {
				t.Parallel()
				resumeCase(t, codec, uint64(seed))
			})
		}
	}
}

func resumeCase(t *testing.T, codec frame.Codec, seed uint64) {
	cfg := config()
	cfg.Grace = time.Hour
	rng := rand.New(rand.NewPCG(seed, 1))
	n := &network{codec: codec, cfg: cfg, rng: rng, a: flow.New(cfg), b: flow.New(cfg)}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const messages = 60
	text := func(from string, i int) string {
		size := []int{0, 10, 1000, 40_000}[i%4]
		return fmt.Sprintf("%s %d %s", from, i, strings.Repeat("x", size))
	}
	send := func(l *flow.Link, from string) error {
		for i := range messages {
			if err := l.Send(ctx, frame.Text(text(from, i))); err != nil {
				return fmt.Errorf("%s: sending %d: %w", from, i, err)
			}
		}
		return nil
	}
	receive := func(l *flow.Link, from string) error {
		for i := range messages {
			m, err := l.Receive(ctx)
			if err != nil || string(m.Data) != text(from, i) {
				return fmt.Errorf("message %d of %s: got %.20q, %v", i, from, m.Data, err)
			}
		}
		return nil
	}
	errs := make(chan error, 4)
	var work sync.WaitGroup
	work.Go(func() { errs <- send(n.a, "a") })
	work.Go(func() { errs <- receive(n.a, "b") })
	go func() { // b is the server: its app ends when both directions are done
		var app sync.WaitGroup
		app.Go(func() { errs <- send(n.b, "b") })
		app.Go(func() { errs <- receive(n.b, "a") })
		app.Wait()
		n.b.Finish(ctx, frame.CodeProgramExited, "exit status 3")
	}()
	done := make(chan struct{})
	go func() { n.run(); close(done) }()
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
			n.a.Lost("test failed")
			n.b.Lost("test failed")
		}
	}
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("the end did not arrive")
	}
	if !t.Failed() {
		wantCode(t, n.a.Err(), frame.CodeProgramExited)
		wantCode(t, n.b.Err(), frame.CodeProgramExited)
	}
}

// TestGrace: a session that nobody resumes ends after the grace time, and not
// before.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Grace = 30 * time.Second
		l := flow.New(cfg)
		at := l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg))
		synctest.Wait()
		at.Lost("cut")
		at.Detach()
		time.Sleep(29 * time.Second)
		if err := l.Err(); err != nil {
			t.Fatalf("over before the grace time: %v", err)
		}
		at = l.Resume(&output{}, frame.JSON, flow.Streaming, open(cfg))
		time.Sleep(time.Hour)
		if err := l.Err(); err != nil {
			t.Fatalf("over although it was resumed: %v", err)
		}
		at.Lost("cut again")
		at.Detach()
		time.Sleep(31 * time.Second)
		wantCode(t, l.Err(), frame.CodeHeartbeat)
		if !strings.Contains(l.Err().Reason, "cut again") {
			t.Errorf("reason %q", l.Err().Reason)
		}
	})
}

// TestSetGrace: the time can be told later, also to a link that waits already.
func TestSetGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		l := flow.New(cfg)
		at := l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg))
		synctest.Wait()
		l.SetGrace(time.Hour)
		at.Lost("cut")
		at.Detach()
		time.Sleep(time.Minute)
		if err := l.Err(); err != nil {
			t.Fatalf("over before the grace time: %v", err)
		}
		l.SetGrace(2 * time.Minute)
		time.Sleep(59 * time.Second)
		if err := l.Err(); err != nil {
			t.Fatalf("over before the new grace time: %v", err)
		}
		time.Sleep(2 * time.Second)
		wantCode(t, l.Err(), frame.CodeHeartbeat)
	})
}

// TestSentAgainAfterTheEnd: messages that had come, together with the end, but
// were not taken yet are sent again by a peer that resumes.
func TestSentAgainAfterTheEnd(t *testing.T) {
	cfg := config()
	cfg.Grace = time.Hour
	l := flow.New(cfg)
	begin := `{"type":"open","version":1,"window":65536,"messages":64}` + "\n"
	rest := `{"type":"message","seq":1,"data":"x"}` + "\n" + `{"type":"end","seq":1}` + "\n"
	feed := func(at *flow.Attach, text string) {
		t.Helper()
		if err := at.Feed(strings.NewReader(text), frame.JSON, func(*frame.Frame) error { return nil }); err != nil {
			t.Error(err)
		}
		at.Lost("cut")
		at.Detach()
	}
	feed(l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg)), begin+rest)
	feed(l.Resume(&output{}, frame.JSON, flow.Streaming, open(cfg)), begin+`{"type":"ack","received":0,"window":65536,"messages":64}`+"\n"+rest)
	if m, err := l.Receive(t.Context()); err != nil || string(m.Data) != "x" {
		t.Errorf("got %q, %v", m.Data, err)
	}
	if _, err := l.Receive(t.Context()); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
	if err := l.Err(); err != nil {
		t.Errorf("the session ended: %v", err)
	}
	l.Lost("the test is over")
}
