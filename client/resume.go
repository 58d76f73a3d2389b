package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"tandem/session/frame"
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

// run carries the session over a, and over further attaches while it outlives them.
func (c *Conn) run(a *attach) {
	defer close(c.done)
	defer c.cancel(errAbandoned)
	a.carry()
	g := gap{conn: c}
	for c.lives(a) {
		g.lost(a)
		if !g.pause() {
			return
		}
		w := g.way()
		a = c.newAttach(w, false, false) // what was held is started: its start frame may be lost
		if g.moved || c.ladder.Load().trial {
			a.prove()
		}
		stop := g.watch(a)
		a.carry()
		stop()
	}
}

// lives tells whether the session needs another attach after a: it goes on, or the
// server has not heard of its end.
func (c *Conn) lives(a *attach) bool {
	over := c.link.Err()
	if over == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grace > 0 && !a.down && !errors.Is(a.fail, errNotEnded) && over.Code != frame.CodeHeartbeat && !isClosed(c.link.Delivered()) && c.ctx.Err() == nil
}

// upDue tells whether it is time to try a better way.
func (c *Conn) upDue() bool {
	l := c.ladder.Load()
	return l != nil && l.due()
}

// gap is the time while the session has no transport.
type gap struct {
	conn     *Conn
	end      time.Time // when to give up
	failures int       // attempts in a row that led to nothing
	conflict bool      // the last one was refused as too low
	moved    bool      // the next one goes another way
	over     bool      // given up
	wait     time.Duration
	fail     error // of the last one
}

// way is the one that the next attach takes.
func (g *gap) way() way { l := g.conn.ladder.Load(); return l.ways[l.at] }

// lost takes in that a is over, and decides how to go on. An answer that will not
// change ends the session.
func (g *gap) lost(a *attach) {
	c := g.conn
	c.mu.Lock()
	since, fail, retry := a.since, a.fail, a.retry
	if a.detached {
		fail = errDetached
	}
	c.mu.Unlock()
	opened := time.Duration(0)
	if !since.IsZero() {
		opened = max(1, time.Since(since))
		g.end = time.Now().Add(c.resumable())
		g.failures = 0
		if fail != errDetached {
			c.notify(Lost, fail)
		}
	}
	if a.works.Load() {
		c.ladder.Load().trial = false
	}
	g.moved = c.ladder.Load().lost(fail, opened)
	g.fail, g.wait = fail, 0
	switch {
	case fail == errDetached:
		g.wait = retry
	case opened < steady && !g.moved:
		g.wait = rand.N(min(resumeFirst<<min(g.failures, 10), resumeMost))
	}
	if opened == 0 {
		g.failures++
	}
	var answer *HTTPError
	again := g.conflict
	g.conflict = false
	if errors.As(fail, &answer) {
		switch status := answer.Status; {
		case status == http.StatusConflict:
			if g.conflict = true; !again {
				g.wait = 0
			}
		case status < 400 || status >= 500 || status == http.StatusBadRequest || // a body that was cut, for one
			status == http.StatusRequestTimeout || status == http.StatusTooManyRequests:
		case g.moved:
		default:
			g.give(fmt.Sprintf("the transport was lost, and the session can't be resumed: %v", fail))
		}
		g.wait += answer.RetryAfter
	}
	g.closes(opened > 0)
}

// give gives the session up.
func (g *gap) give(reason string) {
	link := g.conn.link
	g.over = true
	if link.Err() == nil {
		if n := len(link.Unacked()); n > 0 {
			reason += fmt.Sprintf("; of the messages that were sent the last %d were never acknowledged", n)
		}
		link.Lost(reason)
	}
}

// closes bounds the time for a session that is over: the server only has to hear of
// it. It counts from the end, or from the loss of what was to carry it.
func (g *gap) closes(lost bool) {
	c := g.conn
	if c.link.Err() == nil {
		return
	}
	from := time.Now()
	c.mu.Lock()
	if !lost && !c.overAt.IsZero() {
		from = c.overAt
	}
	c.mu.Unlock()
	if end := from.Add(closeGrace); end.Before(g.end) {
		g.end = end
	}
}

// pause waits for the next attempt. False: there is none.
func (g *gap) pause() bool {
	c := g.conn
	timer := time.NewTimer(min(g.wait, time.Until(g.end)))
	defer timer.Stop()
	over := c.link.Done()
	if isClosed(over) {
		over = nil
	}
	select {
	case <-timer.C:
	case <-over: // Close: at once
		g.closes(false)
	case <-c.ctx.Done():
		return false
	}
	if !g.over && !time.Now().Before(g.end) {
		g.give(fmt.Sprintf("the transport was lost, and the session could not be resumed within %v: %v", c.resumable(), g.fail))
	}
	return !g.over && (c.link.Err() == nil || c.link.Err().Code != frame.CodeHeartbeat)
}

// watch bounds the time until a is open. stop ends it.
func (g *gap) watch(a *attach) (stop func()) {
	ctx, cancel := context.WithDeadline(a.ctx, g.end)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		options := &g.conn.dialer.options
		late := time.NewTimer(connectTimeout)
		defer late.Stop()
		begun, over := a.begun, g.conn.link.Done()
		for {
			select {
			case <-a.opened:
				return
			case <-begun:
				begun = nil
				late.Reset(options.OpenTimeout)
			case <-over: // its last words may still leave
				over, begun = nil, nil
				late.Reset(closeGrace)
			case <-late.C:
				a.cancel(fmt.Errorf("%w (%v)", errHeldBack, options.OpenTimeout))
				return
			case <-ctx.Done():
				a.cancel(errHeldBack)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
