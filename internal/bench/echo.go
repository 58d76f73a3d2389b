package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Load is how many sessions there are, and how many messages each has under way.
type Load struct{ Sessions, Depth int }

func (l Load) String() string {
	name := "ping-pong"
	if l.Depth > 1 {
		name = fmt.Sprintf("%d deep", l.Depth)
	}
	if l.Sessions == 1 {
		return name + ", 1 session"
	}
	return fmt.Sprintf("%s, %d sessions", name, l.Sessions)
}

// Echoed is what a measurement of [Echo] came to.
type Echoed struct {
	Messages int           // that came back
	Took     time.Duration // the measurement, without getting warm
	Times    Histogram     // from a message's send to its return
	CPU      []time.Duration
}

// PerSecond is the rate of messages.
func (e *Echoed) PerSecond() float64 { return float64(e.Messages) / e.Took.Seconds() }

// Echo opens the load's sessions with something that echoes messages, keeps them busy,
// and measures for a while once they are warm; longer where less comes back than two
// messages for each that is under way. CPU is the time that each of these
// groups of processes used meanwhile.
func Echo(ctx context.Context, open Opener, l Load, warm, during time.Duration, progress Progress, pids ...[]int) (*Echoed, error) {
	players, err := players(ctx, open, l, warm+during+Patience)
	defer func() {
		var all sync.WaitGroup
		for _, p := range players {
			all.Go(func() { p.session.Close() }) // an error would have shown as one of play's
		}
		all.Wait()
	}()
	if err != nil {
		return nil, err
	}
	var phase atomic.Int32
	var all sync.WaitGroup
	errs := make(chan error, len(players))
	for _, p := range players {
		all.Go(func() {
			if err := p.play(l.Depth, &phase); err != nil {
				errs <- err
			}
		})
	}
	count := func() (n int) {
		for _, p := range players {
			n += int(p.count.Load())
		}
		return n
	}
	cpu := func() (t []time.Duration) {
		for _, group := range pids {
			t = append(t, CPUTime(group))
		}
		return t
	}
	err = wait(ctx, warm, errs, func() { progress.tell("warming up, messages", count(), 0) })
	before, n, start := cpu(), count(), time.Now()
	phase.Store(measuring)
	if err == nil {
		err = wait(ctx, during, errs, func() { progress.tell("messages", count()-n, 0) })
	}
	// Those that were under way when it began are not timed: some more must come.
	for least := 2*l.Sessions*l.Depth + 1; err == nil && count()-n < least && time.Since(start) < during+Patience/2; {
		err = wait(ctx, time.Millisecond, errs, func() {})
	}
	e := &Echoed{Messages: count() - n, Took: time.Since(start), CPU: cpu()}
	for i := range e.CPU {
		e.CPU[i] -= before[i]
	}
	phase.Store(over)
	all.Wait()
	if err == nil && e.Messages == 0 {
		err = errors.New("no message came back: expected an endpoint that sends each one back, such as app = \"echo\"")
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", l, err)
	}
	for _, p := range players {
		e.Times.Merge(&p.times)
	}
	return e, nil
}

// wait waits for d, or for the first error, and calls tick once a second.
func wait(ctx context.Context, d time.Duration, errs <-chan error, tick func()) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-ticker.C:
			tick()
		case err := <-errs:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Phases of a measurement.
const (
	warming = iota
	measuring
	over
)

// A player keeps one session busy.
type player struct {
	session Session
	count   atomic.Int64 // messages that came back
	times   Histogram    // of those while measuring; valid once play has returned
}

// players opens all sessions. Those that it returns must be closed, also with an error.
func players(ctx context.Context, open Opener, l Load, lifetime time.Duration) ([]*player, error) {
	players := make([]*player, l.Sessions)
	errs := make([]error, l.Sessions)
	var all sync.WaitGroup
	for i := range players {
		all.Go(func() {
			s, err := open(ctx, i)
			if err != nil {
				errs[i] = fmt.Errorf("open a session: %w", err)
				return
			}
			s.Deadline(time.Now().Add(lifetime))
			players[i] = &player{session: s}
		})
	}
	all.Wait()
	return slices.DeleteFunc(players, func(p *player) bool { return p == nil }), first(errs)
}

// first is the first error, and how many there are: hundreds are rarely of several
// kinds.
func first(errs []error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%d times: %w", len(errs), errs[0])
}

// play keeps depth messages under way until the phase is over, then lets them come
// back.
func (p *player) play(depth int, phase *atomic.Int32) error {
	started := make([]time.Time, depth) // a ring: message i is in i % depth
	var sent, received int
	for {
		now := int(phase.Load())
		if now != over {
			// Its time begins before the write: while that blocks, the message waits too.
			t := time.Now()
			n, err := p.session.Send(depth - (sent - received))
			if err != nil {
				return err
			}
			for ; n > 0; n-- {
				started[sent%depth] = t
				sent++
			}
		}
		if sent == received {
			return nil
		}
		n, err := p.session.Receive()
		if err != nil {
			return err
		}
		if n > sent-received {
			return fmt.Errorf("%d messages came back, %d were under way", n, sent-received)
		}
		p.count.Add(int64(n))
		for t := time.Now(); n > 0; n-- {
			if now == measuring {
				p.times.Add(t.Sub(started[received%depth]))
			}
			received++
		}
	}
}
