package fcgi

// Who reads a connection: a goroutine of its own or, as long as all that it carries is one
// detached request, a poller, which reads for many. So an idle session has no goroutine and no
// stack, and a busy one costs no hand-over from one goroutine to another.

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"tandem/internal/gateway"
	"tandem/internal/nowait"
)

// reader is who reads.
type reader uint8

const (
	reading reader = iota // a goroutine, which is in the middle of something
	waiting               // a goroutine, which waits for the next record
	parked                // a poller, when something comes
	polled                // a poller, now
)

// A leaver is a connection that leaves Go's poller while one of ours reads it (socket).
type leaver interface {
	leave(forget func(fd int)) bool
	comeBack()
	syscall.Conn
}

// errParked ends a goroutine that a poller reads on for.
var errParked = errors.New("fcgi: read on by a poller")

// park hands reading over to a poller, if one can. Called by the goroutine that reads, when
// all that has come was dealt with.
func (c *conn) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader = waiting
	if len(c.requests) == 1 && c.requests[0].detached && c.pending == 0 && !c.lingering && c.broken == nil && c.leave() {
		c.in.release()
		c.reader = parked
	}
	return c.reader == parked
}

// leave gives c to a poller, unless somebody writes. c.mu is held.
func (c *conn) leave() bool {
	if !c.tryWriting() {
		c.late.Store(true)
		if !c.tryWriting() {
			return false // who writes nudges
		}
		c.late.Store(false)
	}
	defer func() { <-c.writing }()
	if c.in.raw == nil || !c.srv.pollers.choose(c) {
		return false
	}
	l, leaves := c.nc.(leaver)
	if leaves && !l.leave(c.poller.forget) {
		return false
	}
	if c.srv.pollers.add(c) {
		return true
	}
	if leaves {
		l.comeBack()
	}
	return false
}

// awake is the end of waiting; it tells whether that came of a nudge.
func (c *conn) awake() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader = reading
	if !c.nudged {
		return false
	}
	c.nudged = false
	if !c.lingering { // that has a deadline of its own
		_ = c.nc.SetReadDeadline(time.Time{})
	}
	return true
}

// detached has a poller read, now that q has no handler any more.
func (c *conn) detached(q *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q.detached = true
	c.nudge()
}

// nudge has the goroutine that waits try to park. c.mu is held.
func (c *conn) nudge() {
	if c.reader == waiting && !c.timed && !c.lingering && c.broken == nil && c.in.raw != nil {
		c.nudged = true
		_ = c.nc.SetReadDeadline(longAgo)
	}
}

func (c *conn) tryWriting() bool {
	select {
	case c.writing <- struct{}{}:
		return true
	default:
		return false
	}
}

// written is the end of a write.
func (c *conn) written() {
	<-c.writing
	if c.late.Load() && c.late.Swap(false) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nudge()
	}
}

// unpark has a goroutine read again. c.mu is held.
func (c *conn) unpark() {
	switch c.reader {
	case parked:
		c.reader = reading
		c.srv.pollers.remove(c)
		if l, ok := c.nc.(leaver); ok {
			l.comeBack()
		}
		go c.read()
	case polled:
		c.recalled = true
	}
}

// poll is a poller's: c has something to read, with in. The Sink that is to have its Turn
// for it is returned, or nil.
func (c *conn) poll(in *nowait.Reader) gateway.Sink {
	c.mu.Lock()
	if c.reader != parked {
		c.mu.Unlock()
		return nil // it was taken back meanwhile
	}
	c.reader = polled
	q := c.requests[0]
	c.mu.Unlock()
	got, err := in.Read(c.in.raw)
	rest, ok := c.pass(q, got)
	var s gateway.Sink
	if q == c.fed {
		c.fed, s = nil, q.body.detachedTo()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader = parked
	if !ok || err != nil || c.recalled {
		// What is more than input of the request is a goroutine's, an end and an error too.
		c.recalled = false
		c.in.put(rest)
		c.readErr = err
		c.unpark()
	}
	return s
}

// pass gives q what of p is its STDIN, and returns the rest. False: other records are in
// it, or a part of one.
func (c *conn) pass(q *request, p []byte) (rest []byte, ok bool) {
	for len(p) > 0 {
		if n := min(len(p), c.rest.length); n > 0 {
			q.body.put(p[:n]) // takes all, as there is a sink
			c.fed = q
			c.rest.length -= n
			p = p[n:]
			continue
		}
		if n := min(len(p), c.rest.padding); n > 0 {
			c.rest.padding -= n
			p = p[n:]
			continue
		}
		if len(p) < headerLen {
			return p, false
		}
		h := parseHeader(p)
		if h.typ != typeStdin || h.id != q.id || h.length == 0 || h.check() != nil {
			return p, false
		}
		c.rest = h
		p = p[headerLen:]
	}
	return nil, true
}

// readRest reads what a poller has left of a STDIN record.
func (c *conn) readRest() error {
	if c.readErr != nil {
		return readError(c.midRest(c.readErr))
	}
	h := c.rest
	c.rest = recordHeader{}
	if h.length > 0 {
		if q := c.request(h.id); q != nil {
			if err := c.readStdin(q, &h.length); err != nil {
				return err
			}
		}
	}
	if err := c.in.skip(h.length + h.padding); err != nil {
		return readError(midRecord(err))
	}
	return nil
}

// midRest is err, or what it is in the middle of a record.
func (c *conn) midRest(err error) error {
	if c.rest.length+c.rest.padding > 0 {
		return midRecord(err)
	}
	return err
}

// send writes rec. In a Turn it lets the poller go on before it waits.
func (c *conn) send(rec []byte) (int, error) {
	rest := rec
	if c.in.raw != nil {
		var err error
		if rest, err = nowait.Write(c.in.raw, rec); len(rest) == 0 || err != nil {
			return len(rec) - len(rest), err
		}
		c.willBlock()
		c.mu.Lock()
		c.unpark() // Go's poller is what waits
		c.mu.Unlock()
	}
	n, err := c.nc.Write(rest)
	return len(rec) - len(rest) + n, err
}

// willBlock lets the poller go on whose goroutine this may be.
func (c *conn) willBlock() {
	if t := c.turn.Load(); t != nil {
		t.yield()
	}
}

// turn is a poller's goroutine while a Sink has it.
type turn struct {
	state atomic.Int32
	next  func() // goes on in another goroutine
	lend  func() // yield
}

const (
	turnOver int32 = iota
	turnRuns
	turnYielded
)

func (t *turn) begin() { t.state.Store(turnRuns) }

// yield has another goroutine go on, if the turn isn't over. Anybody may call it, and more than
// once.
func (t *turn) yield() {
	if t.state.CompareAndSwap(turnRuns, turnYielded) {
		go t.next()
	}
}

// end tells whether the goroutine is still the poller's.
func (t *turn) end() bool { return t.state.CompareAndSwap(turnRuns, turnOver) }
