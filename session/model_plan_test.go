package session_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// plan is what happens in one case.
type plan struct {
	up, down   []string // messages
	codec      frame.Codec
	transports []string
	window     cost // the client's
	heartbeat  uint64
	quiet      bool // the client sends nothing that it need not, and asks again only when it has to
	hold       bool
	grace      time.Duration
	slow       bool // the app
	quits      bool // the client closes early
	stops      bool // the server does
	leaves     bool // the client doesn't answer the server's close
	faults     int
}

var apart = map[string]bool{"split": true, "poll": true}

const lastWords = "the last words"

func newPlan(rng *rand.Rand) plan {
	large := 2 + rng.IntN(8)
	texts := func(from string) (texts []string) {
		for i := range rng.IntN(60) {
			n := rng.IntN(60)
			if rng.IntN(large) == 0 {
				n = rng.IntN(40 << 10)
			}
			texts = append(texts, fmt.Sprint(from, i, strings.Repeat("é", n/2)))
		}
		return texts
	}
	p := plan{
		up: texts("up"), down: append(texts("down"), lastWords),
		codec:      []frame.Codec{frame.JSON, frame.Binary}[rng.IntN(2)],
		transports: [][]string{{"split"}, {"poll"}, {"single"}, {"pulse"}, {"split", "poll", "single", "pulse"}, {"split", "poll"}, {"split", "single"}}[rng.IntN(7)],
		window:     cost{256 << 10, 1024},
		heartbeat:  uint64([]int{0, 15000}[rng.IntN(2)]),
		quiet:      rng.IntN(2) == 0,
		hold:       rng.IntN(4) == 0,
		grace:      10 * time.Minute,
		slow:       rng.IntN(3) == 0,
		quits:      rng.IntN(10) == 0,
		stops:      rng.IntN(12) == 0,
		leaves:     rng.IntN(4) == 0,
		faults:     rng.IntN(60),
	}
	if rng.IntN(3) == 0 {
		p.window = cost{16<<10 + 32, 1 + uint64(rng.IntN(8))}
	}
	return p
}

// serve is the app: it sends and receives what the plan says, waits for the end of
// the client's input, and ends with last words and a status.
func (c *model) serve(ctx context.Context, s *session.Session) error {
	c.starts.Add(1)
	var sending sync.WaitGroup
	sent := make(chan error, 1)
	sending.Go(func() {
		rng := c.dice(1)
		for _, m := range c.plan.down[:len(c.plan.down)-1] {
			pause(rng, c.plan.slow)
			if err := s.Send(ctx, frame.Text(m)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	})
	defer sending.Wait()
	rng := c.dice(2)
	for i := 0; ; i++ {
		pause(rng, c.plan.slow)
		m, err := s.Receive(ctx)
		if err == io.EOF && i == len(c.plan.up) {
			break
		}
		if err != nil {
			if !c.plan.quits && !c.plan.stops {
				c.t.Errorf("the app received %d of %d: %v", i, len(c.plan.up), err)
			}
			return err
		}
		if i >= len(c.plan.up) || string(m.Data) != c.plan.up[i] || !m.Text {
			c.t.Errorf("the app received as message %d %.30q", i, m.Data)
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	if err := s.Send(ctx, frame.Text(lastWords)); err != nil {
		return err
	}
	return frame.Errorf(frame.CodeProgramExited, "exit status 7")
}

// pause is what a program does between two messages: often nothing.
func pause(rng *rand.Rand, slow bool) {
	if n := rng.IntN(10); n == 0 || slow {
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
}
