package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Sessions that only are there, and sessions that come and go.

// A Beater is a session whose heartbeat is its user's business.
type Beater interface {
	// Beat sends a sign of life.
	Beat() error
}

// A Leaver is a session that can be ended while Receive runs: Leave tells the server,
// Receive then returns because of that, and Drop lets go of the rest.
type Leaver interface {
	Leave() error
	Drop() error
}

// IdlePlan says how many sessions [Idle] opens and for how long.
type IdlePlan struct {
	Sessions   int
	Waves      int           // one after the other; each is closed before the next
	Opening    int           // so many sessions are opened at once
	Settle     time.Duration // after each wave, before memory is read
	Hold       time.Duration // of the last wave, while CPU time is measured
	Heartbeat  time.Duration // of sessions that are a Beater
	Pids       [][]int       // groups of processes whose memory and CPU time are read
	AfterClose time.Duration // between waves
}

// Wave is what one wave came to.
type Wave struct {
	Opened Opened
	RSS    []int // of each group, in bytes, with the sessions open
}

// Opened is what opening sessions came to.
type Opened struct {
	Took  time.Duration // all of them
	Times Histogram     // from the connection's beginning to the server's open, of each
}

// PerSecond is the rate of sessions.
func (o *Opened) PerSecond() float64 { return float64(o.Times.Count()) / o.Took.Seconds() }

// Idled is what a measurement of [Idle] came to.
type Idled struct {
	Before []int // RSS of each group before the first wave
	Waves  []Wave
	Held   time.Duration
	CPU    []time.Duration // of each group while the last wave was held
	Lost   int             // sessions that ended meanwhile
}

// PerSession is what group g's memory grew by, for each session of a wave.
func (r *Idled) PerSession(wave, g int, sessions int) float64 {
	return float64(r.Waves[wave].RSS[g]-r.Before[g]) / float64(sessions)
}

// Idle opens sessions that say nothing, in waves: what a server keeps for a session
// shows in the second one, which finds what the first has left.
func Idle(ctx context.Context, open Opener, p IdlePlan, progress Progress) (*Idled, error) {
	r := &Idled{Before: p.rss()}
	for n := range p.Waves {
		if n > 0 {
			if err := wait(ctx, p.AfterClose, nil, func() {}); err != nil {
				return nil, err
			}
		}
		if err := r.wave(ctx, open, p, n == p.Waves-1, progress); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (p *IdlePlan) rss() (all []int) {
	for _, group := range p.Pids {
		all = append(all, RSS(group))
	}
	return all
}

func (p *IdlePlan) cpu() (all []time.Duration) {
	for _, group := range p.Pids {
		all = append(all, CPUTime(group))
	}
	return all
}

func (r *Idled) wave(ctx context.Context, open Opener, p IdlePlan, last bool, progress Progress) (err error) {
	sessions := make([]Session, p.Sessions)
	w := Wave{}
	w.Opened, err = openAll(ctx, open, sessions, p.Opening, progress)
	h := holders{lost: make(chan error, 1)}
	defer func() {
		h.end(sessions)
		progress.tell("closed", p.Sessions, p.Sessions)
	}()
	if err != nil {
		return err
	}
	for _, s := range sessions {
		h.hold(s, p.Heartbeat)
	}
	if err := wait(ctx, p.Settle, h.lost, func() {}); err != nil {
		return err
	}
	w.RSS = p.rss()
	r.Waves = append(r.Waves, w)
	if !last {
		return nil
	}
	before, start := p.cpu(), time.Now()
	err = wait(ctx, p.Hold, nil, func() { progress.tell("held, seconds", int(time.Since(start).Seconds()), int(p.Hold.Seconds())) })
	r.Held, r.CPU, r.Lost = time.Since(start), p.cpu(), int(h.gone.Load())
	for i := range r.CPU {
		r.CPU[i] -= before[i]
	}
	return err
}

// holders read what idle sessions get, and keep their promises.
type holders struct {
	all  sync.WaitGroup
	over atomic.Bool
	gone atomic.Int32
	lost chan error // the first
}

func (h *holders) hold(s Session, heartbeat time.Duration) {
	s.Deadline(time.Time{})
	b, beats := s.(Beater)
	var timer *time.Timer
	if beats = beats && heartbeat > 0; beats {
		timer = time.AfterFunc(math.MaxInt64, func() {
			if !h.over.Load() && b.Beat() == nil {
				timer.Reset(heartbeat)
			}
		})
		timer.Reset(heartbeat) // not before timer is set
	}
	h.all.Go(func() {
		n, err := s.Receive()
		if beats {
			timer.Stop()
		}
		if h.over.Load() {
			return
		}
		if err == nil {
			err = fmt.Errorf("%d messages came, expected none: idle is for an app that waits for input", n)
		}
		h.gone.Add(1)
		select {
		case h.lost <- fmt.Errorf("an idle session: %w", err):
		default:
		}
	})
}

// end ends all sessions, and waits until nothing runs for them: a server would keep
// those that are just dropped, for their clients to come back.
func (h *holders) end(sessions []Session) {
	h.over.Store(true)
	var all sync.WaitGroup
	limit := make(chan struct{}, closing)
	each := func(do func(Session)) {
		for _, s := range sessions {
			if s == nil {
				continue
			}
			limit <- struct{}{}
			all.Go(func() {
				defer func() { <-limit }()
				do(s)
			})
		}
		all.Wait()
	}
	each(func(s Session) {
		s.Deadline(time.Now().Add(Patience))
		if l, ok := s.(Leaver); ok {
			if l.Leave() != nil {
				l.Drop()
			}
			return
		}
		s.Close()
	})
	h.all.Wait()
	each(func(s Session) {
		if l, ok := s.(Leaver); ok {
			l.Drop()
		}
	})
}

// closing is how many sessions are closed at once.
const closing = 50

// openAll opens as many sessions as there is room for, some at once.
func openAll(ctx context.Context, open Opener, sessions []Session, atOnce int, progress Progress) (Opened, error) {
	return run(ctx, len(sessions), atOnce, "opened", progress, func(i int) (took time.Duration, err error) {
		start := time.Now()
		sessions[i], err = open(ctx, i)
		return time.Since(start), err
	})
}

// Churn opens sessions and closes each at once, in order: n of them, some at a time.
func Churn(ctx context.Context, open Opener, n, atOnce int, progress Progress) (Opened, error) {
	return run(ctx, n, atOnce, "opened and closed", progress, func(i int) (time.Duration, error) {
		start := time.Now()
		s, err := open(ctx, i)
		took := time.Since(start)
		if err == nil {
			err = s.Close()
		}
		return took, err
	})
}

// run does something n times, so many of them at once, until the first error.
func run(ctx context.Context, n, atOnce int, what string, progress Progress, do func(i int) (time.Duration, error)) (o Opened, err error) {
	var next, done atomic.Int64
	errs := make(chan error, atOnce)
	times := make([]Histogram, atOnce)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				took, err := do(i)
				if err != nil {
					err = fmt.Errorf("session %d: %w", i+1, err)
					errs <- err
					cancel(err)
					return
				}
				times[worker].Add(took)
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for running := true; running; {
		select {
		case <-ticker.C:
			progress.tell(what, int(done.Load()), n)
		case <-finished:
			running = false
		}
	}
	o.Took = time.Since(start)
	for i := range times {
		o.Times.Merge(&times[i])
	}
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
		break // the others are of the same kind, or because of it
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return o, err
}
