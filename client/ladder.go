package client

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// While Dial looks for a way the next one is tried when the one before has been
// silent for so long, and goes on beside it: with six ways the last one has its
// answer well within 5 s, also where a proxy holds all others back. A better one
// that comes just after a worse one is preferred.
const (
	stagger = 600 * time.Millisecond
	prefer  = 200 * time.Millisecond
)

// trial is the outcome of trying one way.
type trial struct {
	rank     int // its place in the order of ways
	way      way
	conn     *Conn
	err      error
	attempts []Attempt
}

// climb tries ways, best first, and returns a session that is open and held on the
// best one that works. Each is a session of its own, which starts no program: so a
// request that arrives late, when another way was taken long since, starts none
// either. Neither a Conn nor an error: none works, failed tells why.
func (d *dialer) climb(ctx context.Context, ways []way, failed *NoTransportError) (chosen *Conn, err error) {
	ctx, stop := context.WithCancel(ctx)
	trials := make(chan trial)
	begun, running := 0, make(map[int]bool)
	begin := func() {
		rank, w := begun, ways[begun]
		begun++
		running[rank] = true
		go func() { trials <- d.try(ctx, rank, w) }()
	}
	var best, over *trial // the best one that works, and one that says something of the endpoint
	// Whoever still tries is told to stop, and waited for: that is soon.
	defer func() {
		stop()
		for len(running) > 0 {
			t := <-trials
			delete(running, t.rank)
			t.conn.drop()
		}
		if chosen == nil && best != nil {
			best.conn.drop()
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	enough := time.NewTimer(time.Hour)
	defer enough.Stop()
	for {
		better := func(than *trial) bool {
			for rank := range running {
				if rank < than.rank {
					return true
				}
			}
			return false
		}
		switch {
		case best != nil && !better(best):
			return best.conn, nil
		case best == nil && over != nil && !better(over):
			return nil, over.err
		case begun == len(ways) && len(running) == 0:
			return nil, nil
		}
		select {
		case <-next.C:
			if best == nil && over == nil && begun < len(ways) {
				begin()
				next.Reset(min(stagger, d.options.OpenTimeout))
			}
		case <-enough.C:
			return best.conn, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case t := <-trials:
			delete(running, t.rank)
			failed.Attempts = append(failed.Attempts, t.attempts...)
			slices.SortStableFunc(failed.Attempts, func(a, b Attempt) int { return cmp.Compare(a.rank, b.rank) })
			switch {
			case t.conn != nil && (best == nil || t.rank < best.rank):
				if best != nil {
					best.conn.drop()
				}
				best = &t
				enough.Reset(prefer)
			case t.conn != nil:
				t.conn.drop()
			case !d.isTheWay(t.err) && !(begun > 1 && busy(t.err)):
				over = &t
			case len(running) == 0:
				next.Reset(0)
			}
		}
	}
}

// busy tells whether the endpoint takes no more sessions: our other trials may be
// those that it has.
func busy(err error) bool {
	var answer *HTTPError
	return errors.As(err, &answer) && (answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusServiceUnavailable)
}

// try tries one way, with smaller and smaller lengths where the length is what
// is refused.
func (d *dialer) try(ctx context.Context, rank int, w way) trial {
	t := trial{rank: rank}
	for _, t.way = range append([]way{w}, w.smaller()...) {
		t.conn, t.err = d.open(ctx, t.way, opening{hold: true})
		if t.err == nil {
			if t.err = t.conn.proveBoth(ctx); t.err == nil {
				return t
			}
			t.conn.drop()
			t.conn = nil
		}
		t.attempts = append(t.attempts, Attempt{t.way.Transport, t.way.body(), t.err, rank})
		if !tooLarge(t.err) {
			break // a smaller length is no better
		}
	}
	return t
}
