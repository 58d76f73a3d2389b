package flow

import (
	"errors"
	"io"
	"time"

	"tandem/session/frame"
)

// In split and poll a session's halves travel in requests of their own: what goes
// out in one carrier that is never read (Stream, Poll), what comes in in bodies
// beside it (Batch).

// Stream gives the link a carrier that is only written to. The peer has got all up
// to after, so open is followed by an ack, and then by what it has not got. A
// carrier that was there gets a detach frame.
func (l *Link) Stream(to Carrier, codec frame.Codec, open *frame.Frame, after uint64) *Attach {
	return l.attach(&Attach{to: to, codec: codec, control: []frame.Frame{*open}}, l.goOn(after))
}

// Poll is Stream for a carrier that ends, with a detach frame, once it has carried
// something beside open and ack, or when wait is over.
func (l *Link) Poll(to Carrier, codec frame.Codec, open *frame.Frame, after uint64, wait time.Duration) *Attach {
	a := l.attach(&Attach{to: to, codec: codec, poll: true, control: []frame.Frame{*open}}, l.goOn(after))
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(a.finished) {
		return a
	}
	a.late = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.due = true
		a.kick()
	})
	return a
}

// Reopen is Resume for a peer that opens the session once more, because it got no
// answer: it has got nothing yet, and says no more than at the first time.
func (l *Link) Reopen(to Carrier, codec frame.Codec, pulse Pulse, open *frame.Frame) *Attach {
	return l.attach(&Attach{to: to, codec: codec, pulse: pulse, control: []frame.Frame{*open}}, func(a *Attach) {
		l.superseded(a)
		l.goOn(0)(a)
	})
}

// goOn has an attach go on after a fragment that the peer got.
func (l *Link) goOn(after uint64) func(*Attach) {
	return func(*Attach) {
		o := &l.out
		if after > o.most {
			l.failLocked(frame.Errorf(frame.CodeProtocol, "the request says %d were received, sent were %d", after, o.most))
			return
		}
		o.ack(after)
		o.sent = o.tail // more than after, where a later ack was quicker than this request
	}
}

// superseded has a body beside the carrier not count any more.
func (l *Link) superseded(*Attach) { l.batch = nil }

// A GapError says that a fragment is missing before one that came.
type GapError struct{ violation *frame.CloseError }

func (e *GapError) Error() string { return e.violation.Reason }
func (e *GapError) Unwrap() error { return e.violation }

// An OverrunError says that a fragment is beyond the window.
type OverrunError struct{ violation *frame.CloseError }

func (e *OverrunError) Error() string { return e.violation.Reason }
func (e *OverrunError) Unwrap() error { return e.violation }

// ErrSuperseded says that a later body has taken the place of a Batch, or an
// attach that is read itself.
var ErrSuperseded = errors.New("a later request has taken this one's place")

// Batch is a body that comes beside the carrier: on the server a send half, in a
// client the answer to one.
type Batch struct{ reader }

// Batch makes the Batch that counts from now on: an earlier one takes in nothing
// more. control is as in [Attach.Feed].
func (l *Link) Batch(codec frame.Codec, control func(*frame.Frame) error) *Batch {
	b := &Batch{reader{link: l, dec: codec.NewDecoder(), framed: true, control: control}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batch = b
	l.alive()
	return b
}

// Feed takes in the body to its end. open may begin it, and need not.
//
// A fragment that can't be taken, for a *GapError or an *OverrunError, ends the
// Batch, and what came before it in the body stays. Other violations end the
// session: a *frame.CloseError. ErrSuperseded: a later one counts. What else r
// returns comes back as it is. A body that ends without end or close is in
// order; one that ends within a frame is io.ErrUnexpectedEOF.
func (b *Batch) Feed(r io.Reader) error {
	var left rest
	err := read(r, func(p []byte) (err error) {
		left.join(p, func(p []byte) (used int) {
			used, err = b.take(p)
			return used
		})
		return err
	})
	if err == io.EOF {
		_, err = b.dec.EOF(left, new(frame.Frame))
	}
	b.link.mu.Lock()
	defer b.link.mu.Unlock()
	if err != nil && b.link.batch != b {
		return ErrSuperseded // whatever its reader has returned for that
	}
	return err
}

func (b *Batch) take(p []byte) (used int, err error) {
	l := b.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.batch != b {
		return 0, ErrSuperseded
	}
	l.alive()
	defer l.kick()
	used, err = b.frames(p)
	var gap *GapError
	var overrun *OverrunError
	if err == nil || errors.As(err, &gap) || errors.As(err, &overrun) {
		return used, err
	}
	violation := asClose(err)
	l.failLocked(violation)
	return used, violation
}

// alive takes a request that names the session for a sign of life. l.mu is held.
func (l *Link) alive() {
	l.lastIn = time.Now()
	if !l.lostAt.IsZero() {
		l.lostAt = l.lastIn
	}
}

// AckFrame makes the ack for the answer to a request that was to be a Batch.
func (l *Link) AckFrame() frame.Frame {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ackFrame(false)
}

// AckFrame makes the ack for the answer to b. Where b is the batch that counts its
// peer waits for that answer, and asks again if it is lost. Nobody may wait for that
// to an earlier one, so its ack is given once more.
func (b *Batch) AckFrame() frame.Frame {
	b.link.mu.Lock()
	defer b.link.mu.Unlock()
	return b.link.ackFrame(b.link.batch == b)
}
