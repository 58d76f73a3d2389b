package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// How a lost session is resumed: at once, then after random times, up to a bound
// that doubles each time, so that the clients of a server that comes back don't
// come all together.
const (
	resumeFirst = 100 * time.Millisecond
	resumeMost  = 5 * time.Second
	resumeExtra = time.Second    // beyond the server's grace: it may have noticed the loss later
	steady      = time.Second    // a request that lived so long is a good one: its loss is followed by an attempt at once
	maxGrace    = 24 * time.Hour // what is believed of a server
)

// granted is the time that the grace of an open, in ms, leaves for resuming.
func granted(ms uint64) time.Duration {
	if ms == 0 {
		return 0
	}
	return time.Duration(min(ms, uint64(maxGrace/time.Millisecond)))*time.Millisecond + resumeExtra
}

// outlive has the session outlive its transport from now on, if the server lets it.
func (c *Conn) outlive() {
	if c.dialer.options.NoResume {
		return
	}
	c.mu.Lock()
	c.grace = c.now.Load().told
	grace := c.grace
	c.mu.Unlock()
	c.link.SetGrace(grace)
}

// resumable is how long a lost session may be resumed for, 0: it can't be.
func (c *Conn) resumable() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grace
}

// run carries the session over r, and over further requests while it outlives them.
func (c *Conn) run(r *request) {
	defer close(c.done)
	defer c.cancel(errAbandoned)
	r.carry()
	g := gap{conn: c}
	for attempt := uint64(1); c.link.Err() == nil; attempt++ {
		g.lost(r)
		if !g.pause() {
			return
		}
		r = c.newRequest(attempt, false) // what was held is started: its start frame may be lost
		stop := g.watch(r)
		r.carry()
		stop()
	}
}

// gap is the time while the session has no transport.
type gap struct {
	conn     *Conn
	end      time.Time // when to give up
	failures int       // attempts in a row that led to nothing
	conflict bool      // the last one was refused as too low
	wait     time.Duration
	fail     error // of the last one
}

// lost takes in that r is over, and decides how to go on. An answer that will not
// change ends the session.
func (g *gap) lost(r *request) {
	c := g.conn
	c.mu.Lock()
	since, fail := r.since, r.fail
	c.mu.Unlock()
	bound := time.Duration(0)
	if !since.IsZero() {
		g.end = time.Now().Add(c.resumable())
		g.failures = 0
		if time.Since(since) < steady {
			bound = resumeFirst
		}
	} else {
		bound = min(resumeFirst<<min(g.failures, 10), resumeMost)
		g.failures++
	}
	var answer *HTTPError
	errors.As(fail, &answer)
	var least time.Duration
	again := g.conflict
	g.conflict = false
	switch {
	case answer == nil || answer.Status < 400 || answer.Status >= 500:
	case answer.Status == http.StatusConflict:
		if g.conflict = true; !again {
			bound = 0
		}
	case answer.Status == http.StatusRequestTimeout || answer.Status == http.StatusTooManyRequests:
	default:
		c.link.Lost(fmt.Sprintf("the transport was lost, and the session can't be resumed: %v", fail))
	}
	if answer != nil {
		least = answer.RetryAfter
	}
	g.wait = least
	if bound > 0 {
		g.wait += rand.N(bound)
	}
	g.fail = fail
}

// pause waits for the next attempt. False: the session is over.
func (g *gap) pause() bool {
	link := g.conn.link
	timer := time.NewTimer(min(g.wait, time.Until(g.end)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-link.Done():
	}
	if !time.Now().Before(g.end) {
		link.Lost(fmt.Sprintf("the transport was lost, and the session could not be resumed within %v: %v", g.conn.resumable(), g.fail))
	}
	return link.Err() == nil
}

// watch bounds the time until r is open. stop ends it.
func (g *gap) watch(r *request) (stop func()) {
	ctx, cancel := context.WithDeadline(r.ctx, g.end)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		options := &g.conn.dialer.options
		late := time.NewTimer(connectTimeout)
		defer late.Stop()
		begun, over := r.body.begun, g.conn.link.Done()
		for {
			select {
			case <-r.opened:
				return
			case <-begun:
				begun = nil
				late.Reset(options.OpenTimeout)
			case <-over: // its last words may still leave
				over, begun = nil, nil
				late.Reset(closeGrace)
			case <-late.C:
				r.cancel(fmt.Errorf("%w (%v)", errHeldBack, options.OpenTimeout))
				return
			case <-ctx.Done():
				r.cancel(errHeldBack)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
