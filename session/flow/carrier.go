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

// attach is one carrier in use, with what is to be written there first. Its
// fields are guarded by the link's mu. Whoever finds busy false and something
// to write becomes the one writer: an app in Send, a timer, or a goroutine
// started for it by kick. The reader of the attach never writes, so a peer that
// doesn't read never keeps us from reading.
type attach struct {
	link  *Link
	to    Carrier
	codec frame.Codec

	control []frame.Frame // goes before messages
	pulse   Pulse
	credit  bool

	busy, kicked       bool
	closing, closeSent bool
	ended              bool
	err                error
	finished           chan struct{} // closed when no write runs or comes any more
	linger             *time.Timer
}

// Attach gives the link a carrier and writes open there, at once. The link must
// be detached. opened is this end's open frame.
func (l *Link) Attach(to Carrier, codec frame.Codec, pulse Pulse, open *frame.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &attach{link: l, to: to, codec: codec, pulse: pulse, finished: make(chan struct{})}
	a.control = append(a.control, *open)
	l.carrier = a
	if l.err != nil {
		a.lastWords(closeLinger)
	}
	l.schedule(time.Now())
	l.write()
}

// Detach takes the carrier away and returns once no Write runs there: at once
// after a termination was written, else after aborting what is being written.
func (l *Link) Detach() {
	l.mu.Lock()
	a := l.carrier
	if a == nil {
		l.mu.Unlock()
		return
	}
	a.fail(io.ErrClosedPipe)
	l.mu.Unlock()
	<-a.finished
	l.mu.Lock()
	if l.carrier == a {
		l.carrier = nil
	}
	l.mu.Unlock()
}

// Finished is closed once the attached carrier takes no more writes: the last
// frame has left or the carrier failed. It must be called while attached.
func (l *Link) Finished() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carrier.finished
}

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
	a := l.carrier
	if a == nil || a.busy || !a.ready() {
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
			l.lastOut = time.Now()
		}
		if !a.codec.Framed() && l.out.tail < sent {
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
	a := l.carrier
	if a == nil || a.busy || a.kicked || !a.ready() {
		return
	}
	a.kicked = true
	go func() {
		l.mu.Lock()
		a.kicked = false
		l.write()
		l.mu.Unlock()
	}()
}

// ready tells whether there is something to write, and leave to write it.
func (a *attach) ready() bool {
	if a.err != nil || a.closeSent || a.pulse == Pulsed && !a.credit {
		return false
	}
	o := &a.link.out
	return len(a.control) > 0 || o.sent < o.seq || o.end && !a.ended || a.closing ||
		a.codec.Framed() && a.link.ackDue()
}

// next encodes into buf what one write carries: control frames, an ack that
// rides along, messages, and at their end the end or close frame. The error is of
// a message that the codec can't carry; what came before it is in buf.
func (a *attach) next(buf *writeBuffer) *frame.CloseError {
	l := a.link
	buf.bytes = buf.bytes[:0]
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
	for _, f := range a.control {
		if err := put(f); err != nil {
			return err
		}
	}
	a.control = a.control[:0]
	if a.codec.Framed() && l.in.taken > l.in.acked {
		if err := put(frame.Frame{Type: frame.TypeAck, Received: l.in.taken, Window: l.cfg.Window, Messages: l.cfg.Messages}); err != nil {
			return err
		}
		l.in.acked = l.in.taken
		l.in.held.sub(l.in.due)
		l.in.due = cost{}
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
	}
	switch {
	case a.closing:
		f := frame.Frame{Type: frame.TypeClose, Seq: l.out.sent, Code: l.err.Code, Reason: l.err.Reason}
		if f.Code.Retry() == frame.RetryLater {
			f.RetryMS = retryMS
		}
		a.closeSent = true
		return put(f)
	case l.out.end && !a.ended:
		a.ended = true
		return put(frame.Frame{Type: frame.TypeEnd, Seq: l.out.sent})
	}
	return nil
}

// lastWords has a close frame follow what waits, for at most linger without
// progress.
func (a *attach) lastWords(linger time.Duration) {
	if linger == 0 {
		a.fail(a.link.err)
		return
	}
	a.closing = true
	start := time.Now()
	a.linger = time.AfterFunc(linger, func() {
		a.link.mu.Lock()
		defer a.link.mu.Unlock()
		last := a.link.lastOut
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
func (a *attach) writeFailed(err error) {
	a.fail(err)
	if a.link.err == nil {
		time.AfterFunc(lossGrace, func() { a.link.Lost("writing to the peer failed: " + err.Error()) })
	}
}

// fail has the carrier take no more writes. l.mu is held.
func (a *attach) fail(err error) {
	if a.err == nil {
		a.err = err
		if a.busy {
			a.to.Abort()
		}
	}
	a.checkFinished()
}

// checkFinished marks the attach finished where it is. l.mu is held.
func (a *attach) checkFinished() {
	if a.busy || a.err == nil && !a.closeSent {
		return
	}
	select {
	case <-a.finished:
	default:
		close(a.finished)
		if a.linger != nil {
			a.linger.Stop()
		}
		a.to.Finished()
	}
}
