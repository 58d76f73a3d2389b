package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long one step, such as opening all sessions, may take.
const patience = 20 * time.Second

// A session is one client of a contestant. One goroutine uses it.
type session interface {
	// send sends up to n messages and tells how many.
	send(n int) (int, error)
	// receive waits for messages and tells how many came.
	receive() (int, error)
	// deadline bounds all that is called from now on.
	deadline(time.Time)
	// close ends the session in order and waits for that.
	close() error
}

// A contestant is something that echoes messages. To add one, give it a session
// and put it into house.start.
type contestant struct {
	name string
	open func() (session, error)
	// web and backend are the processes of its servers; one that has no process of
	// its own names none.
	web, backend []int
}

// A load is how many sessions there are, and how many messages each has under way.
type load struct{ sessions, depth int }

func (l load) String() string {
	name := "ping-pong"
	if l.depth > 1 {
		name = fmt.Sprintf("%d deep", l.depth)
	}
	if l.sessions == 1 {
		return name + ", 1 session"
	}
	return fmt.Sprintf("%s, %d sessions", name, l.sessions)
}

// A rate is one measurement of a contestant under a load.
type rate struct {
	perSecond    float64       // messages back at the client
	p50, p99     time.Duration // from a message's send to its return
	web, backend time.Duration // CPU per message
}

// measure opens the load's sessions, keeps them busy, and measures for a while
// once they are warm.
func (c *contestant) measure(ctx context.Context, l load, warm, during time.Duration) (rate, error) {
	players, err := c.players(l)
	defer func() {
		for _, p := range players {
			p.session.close() // an error would have shown as one of play's
		}
	}()
	if err != nil {
		return rate{}, err
	}
	var phase atomic.Int32
	var all sync.WaitGroup
	errs := make(chan error, len(players))
	for _, p := range players {
		all.Go(func() {
			if err := p.play(l.depth, &phase); err != nil {
				errs <- err
			}
		})
	}
	count := func() (n int64) {
		for _, p := range players {
			n += p.count.Load()
		}
		return n
	}
	err = wait(ctx, warm, errs)
	web, backend, n, start := cpuTime(c.web), cpuTime(c.backend), count(), time.Now()
	phase.Store(measuring)
	if err == nil {
		err = wait(ctx, during, errs)
	}
	n, took := count()-n, time.Since(start)
	web, backend = cpuTime(c.web)-web, cpuTime(c.backend)-backend
	phase.Store(over)
	all.Wait()
	if err == nil && n == 0 {
		err = errors.New("no message came back")
	}
	if err != nil {
		return rate{}, fmt.Errorf("%s, %v: %w", c.name, l, err)
	}
	var times []time.Duration
	for _, p := range players {
		times = append(times, p.times...)
	}
	slices.Sort(times)
	return rate{
		perSecond: float64(n) / took.Seconds(),
		p50:       quantile(times, 0.5),
		p99:       quantile(times, 0.99),
		web:       web / time.Duration(n),
		backend:   backend / time.Duration(n),
	}, nil
}

// wait waits for d, or for the first error.
func wait(ctx context.Context, d time.Duration, errs <-chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-errs:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
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
	session session
	count   atomic.Int64    // messages that came back
	times   []time.Duration // of those while measuring; valid once play has returned
}

// players opens all sessions. Those that it returns must be closed, also with an error.
func (c *contestant) players(l load) ([]*player, error) {
	players := make([]*player, l.sessions)
	errs := make([]error, l.sessions)
	var all sync.WaitGroup
	for i := range players {
		all.Go(func() {
			s, err := c.open()
			if err != nil {
				errs[i] = fmt.Errorf("%s: open a session: %w", c.name, err)
				return
			}
			s.deadline(time.Now().Add(patience))
			players[i] = &player{session: s, times: make([]time.Duration, 0, 1<<14)}
		})
	}
	all.Wait()
	return slices.DeleteFunc(players, func(p *player) bool { return p == nil }), errors.Join(errs...)
}

// play keeps depth messages under way until the phase is over, then lets them come
// back.
func (p *player) play(depth int, phase *atomic.Int32) error {
	started := make([]time.Time, depth) // a ring: message i is in i % depth
	var sent, received int
	for {
		now := int(phase.Load())
		if now != over {
			n, err := p.session.send(depth - (sent - received))
			if err != nil {
				return err
			}
			for t := time.Now(); n > 0; n-- {
				started[sent%depth] = t
				sent++
			}
		}
		if sent == received {
			return nil
		}
		n, err := p.session.receive()
		if err != nil {
			return err
		}
		if n > sent-received {
			return fmt.Errorf("%d messages came back, %d were under way", n, sent-received)
		}
		p.count.Add(int64(n))
		for t := time.Now(); n > 0; n-- {
			if now == measuring {
				p.times = append(p.times, t.Sub(started[received%depth]))
			}
			received++
		}
	}
}
