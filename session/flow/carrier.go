package flow

import (
	"context"
	"io"
	"sync"
	"time"

	"tandem/session/frame"
)

// Carrier is where a link writes: the response on the server, the request's
// body in a client.
type Carrier interface {
	io.Writer
	// Flush sends on what was written.
	Flush() error
	// Finished is called once, when the link writes nothing more here and needs
	// nothing more read. It makes a blocked read of the attach's input return.
	Finished()
	// Abort makes a blocked Write return soon, with an error.
	Abort()
}

// A SlowCarrier takes about a round trip for each Write: who sends does not wait
// for it, and what is sent meanwhile goes out together with the next one.
type SlowCarrier interface {
	Carrier
	Slow()
}

// Pulse says how a carrier's output is released (docs/protocol.md, "pulse").
type Pulse bool

const (
	Streaming Pulse = false // each write goes out by itself
	Pulsed    Pulse = true  // each read of the peer's body earns one write of at most one record
)

// The most that one write carries, in bytes before the last frame's own size.
const (
	writeSize = 64 << 10
	pulseSize = 16 << 10 // so that one pulse never brings more than the client can take in its stride
)

// retryMS is what a close frame asks of a client that may come back later, in
// ms; the client adds jitter.
const retryMS = 1000

// An Attach is one carrier in use by a link: an HTTP request that carries the
// session. Its fields are guarded by the link's mu. Whoever finds busy false and
// something to write becomes the one writer: an app in Send, a timer, or a
// goroutine started for it by kick. The reader of the attach never writes, so a
// peer that doesn't read never keeps us from reading.
type Attach struct {
	link  *Link
	to    Carrier
	codec frame.Codec

	slow    bool          // to is a SlowCarrier
	control []frame.Frame // goes before messages
	pulse   Pulse
	credit  bool
	waiting bool // until the peer has told what it has: no message goes before

	poll    bool          // ends with what it can carry at once
	preface []frame.Frame // of a poll: goes before the first write, and is no reason for one
	late    *time.Timer   // ends a poll that has nothing to carry
	due     bool          // it ends now, whether it has or not

	busy, kicked       bool
	closing, closeSent bool
	reading            bool // Feed runs
	replaced           bool // another attach took over; a detach frame is the last one here
	ended              bool
	wrote              time.Time // when a Write last succeeded
	err                error
	finished           chan struct{} // closed when no write runs or comes any more
	linger             *time.Timer
}

// Attach gives a new link its first carrier and writes open there, at once. open
// is this end's open frame.
func (l *Link) Attach(to Carrier, codec frame.Codec, pulse Pulse, open *frame.Frame) *Attach {
	return l.attach(&Attach{to: to, codec: codec, pulse: pulse, control: []frame.Frame{*open}}, nil)
}

// Resume gives the link another carrier, in place of one that was lost or that
// still is there: that one gets a detach frame. open goes out at once, and an ack
// that tells the peer what to send again; messages that the peer has not got
// follow when its ack has told what it has. So the codec must have acks. A session
// that has ended is resumed to bring its last messages, and the close.
func (l *Link) Resume(to Carrier, codec frame.Codec, pulse Pulse, open *frame.Frame) *Attach {
	return l.attach(&Attach{to: to, codec: codec, pulse: pulse, waiting: true, control: []frame.Frame{*open}}, l.superseded)
}

// attach makes a the link's carrier. prepare, if not nil, sees to what the peer has
// missed, and may fail the link.
func (l *Link) attach(a *Attach, prepare func(*Attach)) *Attach {
	a.link, a.finished = l, make(chan struct{})
	_, a.slow = a.to.(SlowCarrier)
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.carrier; old != nil {
		old.savePong()
		old.replace()
	}
	l.carrier = a
	now := time.Now()
	l.lastIn, l.lostAt = now, time.Time{}
	if prepare != nil {
		prepare(a)
	}
	if a.poll {
		a.control, a.preface = nil, a.control // its ack is made when it is written: one that waits is not sent
	} else if prepare != nil {
		a.control = append(a.control, l.ackFrame(true))
	}
	if l.pong != nil {
		a.control = append(a.control, *l.pong)
		l.pong = nil
	}
	if l.err != nil {
		if l.out.dropped {
			a.waiting = false // there is nothing to send again before the close
		}
		a.lastWords(finishLinger)
	}
	l.schedule(now)
	a.kick() // who attaches goes on to read
	return a
}

// replace has a end with a detach frame.
func (a *Attach) replace() {
	if a.err != nil || a.closeSent {
		return
	}
	a.replaced = true
	a.control = append(a.control, frame.Frame{Type: frame.TypeDetach, Code: frame.CodeReplaced})
	a.startLinger(closeLinger)
	a.kick()
}

// savePong keeps a pong that has not left for the next carrier. l.mu is held.
func (a *Attach) savePong() {
	for _, f := range a.control {
		if f.Type == frame.TypePong {
			pong := f
			a.link.pong = &pong
		}
	}
}

// stale tells whether what comes in on a does not count: the peer sends again what
// another attach has not told it of. l.mu is held.
func (a *Attach) stale() bool {
	return a.replaced || a.link.carrier != a && a.link.err == nil
}

// Lost is the end of a's transport. The link waits for the next attach, for
// Config.Grace; without grace the session ends.
func (a *Attach) Lost(reason string) {
	a.link.mu.Lock()
	defer a.link.mu.Unlock()
	a.lost(reason)
}

func (a *Attach) lost(reason string) {
	l := a.link
	if l.carrier != a || l.err != nil || l.cfg.Grace <= 0 || !a.codec.Framed() {
		if l.carrier == a && l.err == nil {
			l.lostLocked(reason)
		}
		a.fail(frame.Errorf(frame.CodeHeartbeat, "%s", reason))
		return
	}
	l.carrier = nil
	l.lostAt, l.lostReason = time.Now(), reason
	a.fail(frame.Errorf(frame.CodeHeartbeat, "%s", reason))
	l.schedule(l.lostAt)
}

// Detach takes the carrier away and returns once no Write runs there: at once
// after a termination was written, else after aborting what is being written. A
// session that is not over has lost its transport by that.
func (a *Attach) Detach() {
	l := a.link
	l.mu.Lock()
	a.fail(io.ErrClosedPipe)
	l.mu.Unlock()
	<-a.finished
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier == a {
		reason := "the transport was lost: " + a.err.Error()
		if a.poll && a.closeSent {
			reason = "the client stopped polling"
		}
		a.lost(reason)
		l.carrier = nil
	}
}

// Finished is closed once the carrier takes no more writes: the last frame has
// left, another attach took over, or the carrier failed.
func (a *Attach) Finished() <-chan struct{} { return a.finished }

// writeBuffer is what one write is made in. It has the frame that is being
// encoded because an argument of a codec, an interface, would be an allocation.
type writeBuffer struct {
	bytes []byte
	frame frame.Frame
}

var buffers = sync.Pool{New: func() any { return &writeBuffer{bytes: make([]byte, 0, 4<<10)} }}

// write writes all that waits, on the caller's goroutine, unless another one is
// at it and takes it along. l.mu is held, and let go around each Write.
func (l *Link) write() {
	if a := l.carrier; a != nil && a.slow {
		a.kick()
	} else if a != nil {
		a.write()
	}
}

func (a *Attach) write() {
	l := a.link
	if a.busy || !a.ready() {
		return
	}
	a.busy = true
	buf := buffers.Get().(*writeBuffer)
	for a.err == nil && a.ready() {
		bad := a.next(buf)
		b := buf.bytes
		sent := l.out.sent
		if len(b) > 0 {
			a.credit = false
			l.mu.Unlock()
			_, err := a.to.Write(b)
			if err == nil {
				err = a.to.Flush()
			}
			l.mu.Lock()
			if err != nil {
				a.writeFailed(err)
				break
			}
			a.wrote = time.Now()
			l.lastOut = a.wrote
		}
		if !a.codec.Framed() && l.carrier == a && l.out.tail < sent {
			l.out.ack(sent)
		}
		if bad != nil {
			l.out.drop() // also where the session is over already, or next would meet it again
			l.failLocked(bad)
		}
	}
	if cap(buf.bytes) <= 2*writeSize {
		buf.frame = frame.Frame{} // keeps nobody's data alive
		buffers.Put(buf)
	}
	a.busy = false
	a.checkFinished()
}

// kick has another goroutine write what waits. For those who must not block:
// the reader, and an app that has more input to look at. l.mu is held.
func (l *Link) kick() {
	if l.carrier != nil {
		l.carrier.kick()
	}
}

func (a *Attach) kick() {
	if a.busy || a.kicked || !a.ready() {
		return
	}
	a.kicked = true
	go func() {
		a.link.mu.Lock()
		a.kicked = false
		a.write()
		a.link.mu.Unlock()
	}()
}

// ready tells whether there is something to write, and leave to write it.
func (a *Attach) ready() bool {
	if a.err != nil || a.closeSent || a.pulse == Pulsed && !a.credit {
		return false
	}
	l, o := a.link, &a.link.out
	switch {
	case len(a.control) > 0:
		return true
	case l.carrier != a || a.waiting:
		return false
	case a.poll:
		return a.due || o.sent < o.seq || a.closing || l.ackDue()
	}
	return o.sent < o.seq || o.end && !a.ended || a.closing || a.codec.Framed() && l.ackDue()
}

// next encodes into buf what one write carries: control frames, an ack that
// rides along, messages, and at their end the end or close frame. The error is of
// a message that the codec can't carry; what came before it is in buf.
func (a *Attach) next(buf *writeBuffer) *frame.CloseError {
	l := a.link
	buf.bytes = buf.bytes[:0]
	a.due = true // a poll that has said something ends
	put := func(f frame.Frame) *frame.CloseError {
		buf.frame = f
		b, err := a.codec.Append(buf.bytes, &buf.frame)
		if err != nil {
			return asClose(err)
		}
		if l.cfg.Trace != nil && len(b) > len(buf.bytes) && f.Type != frame.TypeEmpty {
			l.cfg.Trace(true, &buf.frame)
		}
		buf.bytes = b
		return nil
	}
	for _, waiting := range []*[]frame.Frame{&a.preface, &a.control} {
		for _, f := range *waiting {
			if err := put(f); err != nil {
				return err
			}
		}
		*waiting = nil // frames are large, and few: an idle attach keeps no room for them
	}
	switch {
	case a.replaced:
		a.closeSent = true
		return nil
	case l.carrier != a || a.waiting:
		return nil
	}
	if a.codec.Framed() && l.in.taken > l.in.acked || a.poll {
		if err := put(l.ackFrame(true)); err != nil {
			return err
		}
	}
	limit := writeSize
	if a.pulse == Pulsed {
		limit = pulseSize
	}
	for o := &l.out; o.sent < o.seq; o.sent++ {
		m := o.at(o.sent + 1)
		if n := len(buf.bytes); n > 0 && n+len(m.data) > limit {
			return nil
		}
		if err := put(frame.Frame{Type: frame.TypeMessage, Seq: o.sent + 1, Data: m.data, Text: m.text, More: m.more}); err != nil {
			return err
		}
		o.most = max(o.most, o.sent+1)
	}
	switch {
	case a.closing:
		f := frame.Frame{Type: frame.TypeClose, Seq: l.out.sent, Code: l.err.Code, Reason: l.err.Reason}
		if f.Code.Retry() == frame.RetryLater {
			f.RetryMS = retryMS
		}
		a.closeSent = true
		if a.awaitsClose() {
			a.startLinger(closeLinger)
		}
		return put(f)
	case l.out.end && !a.ended:
		a.ended = true
		if err := put(frame.Frame{Type: frame.TypeEnd, Seq: l.out.sent}); err != nil {
			return err
		}
	}
	if a.poll {
		a.closeSent = true
		return put(frame.Frame{Type: frame.TypeDetach, Code: frame.CodeNormal})
	}
	return nil
}

// lastWords has a close frame follow what waits, for at most linger without
// progress.
func (a *Attach) lastWords(linger time.Duration) {
	if linger == 0 {
		a.fail(a.link.err)
		return
	}
	a.closing = true
	a.startLinger(linger)
}

// startLinger gives what is still to be written so long without progress.
func (a *Attach) startLinger(linger time.Duration) {
	if a.linger != nil {
		a.linger.Stop()
	}
	start := time.Now()
	a.linger = time.AfterFunc(linger, func() {
		a.link.mu.Lock()
		defer a.link.mu.Unlock()
		last := a.wrote
		if last.Before(start) {
			last = start
		}
		if rest := linger - time.Since(last); rest > 0 {
			a.linger.Reset(rest)
			return
		}
		a.fail(context.DeadlineExceeded)
	})
}

// writeFailed: the peer takes no more. What it said last, a close perhaps, may
// still be on its way to us, so the session is lost only when the reader has had
// its time.
func (a *Attach) writeFailed(err error) {
	a.fail(err)
	if a.link.err == nil && !a.replaced {
		time.AfterFunc(lossGrace, func() { a.Lost("writing to the peer failed: " + err.Error()) })
	}
}

// fail has the carrier take no more writes. l.mu is held.
func (a *Attach) fail(err error) {
	if a.err == nil {
		a.err = err
		if a.busy {
			a.to.Abort()
		}
	}
	a.checkFinished()
}

// checkFinished marks the attach finished where it is: it failed, or its last
// frame is out and nothing of the peer's need be waited for. l.mu is held.
func (a *Attach) checkFinished() {
	if a.busy || a.err == nil && (!a.closeSent || a.awaitsClose()) {
		return
	}
	select {
	case <-a.finished:
	default:
		close(a.finished)
		for _, t := range []*time.Timer{a.linger, a.late} {
			if t != nil {
				t.Stop()
			}
		}
		a.to.Finished()
	}
}

// awaitsClose tells whether the peer's close is still expected, which says that
// it has all: only then can a session that may be resumed be forgotten.
func (a *Attach) awaitsClose() bool {
	return a.reading && !a.replaced && a.codec.Framed() && a.link.cfg.Grace > 0 && !isClosed(a.link.delivered)
}
