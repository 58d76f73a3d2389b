package flow

import (
	"errors"
	"io"
	"sync"
	"time"

	"tandem/session/frame"
)

// readSize is the least room that a read gets, in bytes: with it one record of
// a web server is one read, which a pulsed carrier counts.
const readSize = 16 << 10

func (a *Attach) setReading(on bool) {
	a.link.mu.Lock()
	defer a.link.mu.Unlock()
	a.reading = on
	a.checkFinished()
}

// maxHeartbeat is the longest promise that is believed, in ms: a day.
const maxHeartbeat = 24 * 60 * 60 * 1000

var readBuffers = sync.Pool{New: func() any { b := make([]byte, readSize); return &b }}

// Feed takes in the body of an attach until it ends: nil. It reads at once
// whatever comes and never waits for the app, so the transport is never pushed
// back (docs/servers.md trap 1); a peer that overruns its window ends the session.
// Frames that are about the attach (open, start, detach) go to control, with
// the link not locked.
//
// A framed body that ends without end, close or detach is io.ErrUnexpectedEOF:
// a cut looks the same. What is malformed ends the session, and the rest is
// read and dropped until the carrier has finished.
func (a *Attach) Feed(r io.Reader, codec frame.Codec, control func(*frame.Frame) error) error {
	return a.Feeder(codec, control).Feed(r)
}

// Feeder is Feed for who may get the body in pieces.
func (a *Attach) Feeder(codec frame.Codec, control func(*frame.Frame) error) *Feeder {
	a.setReading(true)
	return &Feeder{reader: reader{link: a.link, attach: a, dec: codec.NewDecoder(), framed: codec.Framed(), control: control}}
}

// A Feeder takes in the body of an attach. It keeps of it what is not a whole frame
// yet.
type Feeder struct {
	reader
	rest
}

// Feed takes in r to its end.
func (f *Feeder) Feed(r io.Reader) error {
	err := read(r, func(p []byte) error {
		f.Write(p)
		f.Turn(nil)
		return nil
	})
	if err != io.EOF {
		f.stop()
		return err
	}
	return f.End()
}

// Write takes in the next piece. It does not block and keeps no part of p. Turn must
// follow, after this piece or some more.
func (f *Feeder) Write(p []byte) { f.rest.join(p, f.take) }

// Turn does what the pieces ask for: it calls the function given to React, and writes.
// With yield it does so on the caller's goroutine, and calls yield before it blocks;
// without, goroutines are started for it.
func (f *Feeder) Turn(yield func()) {
	l, a := f.link, f.attach
	l.mu.Lock()
	defer l.mu.Unlock()
	if yield == nil {
		if l.in.react != nil && l.news() {
			l.wake()
		}
		a.kick()
		return
	}
	l.drainHere(yield)
	if a != l.carrier {
		a.kick() // a last frame to who was replaced
	}
	l.write()
}

// End is the end of the body.
func (f *Feeder) End() error {
	defer f.stop()
	return f.bodyEnded(f.rest)
}

func (f *Feeder) stop() { f.attach.setReading(false) }

// rest is the beginning of a frame that has not come whole.
type rest []byte

// join has take see p behind what was left of the last piece. take returns how much it
// is done with.
func (r *rest) join(p []byte, take func([]byte) int) {
	if len(*r) > 0 {
		p = append(*r, p...)
	}
	switch used := take(p); {
	case used == len(p):
		*r = nil
	case len(*r) > 0:
		*r = p[:copy(p, p[used:])]
	default:
		*r = append(rest(nil), p[used:]...)
	}
}

// read passes on all of r, as it comes, and returns how that ended: io.EOF, or
// another error, take's too.
func read(r io.Reader, take func([]byte) error) error {
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	for {
		n, err := r.Read(*buf)
		if n > 0 {
			if err := take((*buf)[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// scratch has frames that are being decoded: an argument of a codec, an interface, would
// be an allocation, and a frame for each reader much memory.
var scratch = sync.Pool{New: func() any { return new(frame.Frame) }}

// reader is one body being read.
type reader struct {
	link    *Link
	attach  *Attach
	dec     frame.Decoder
	framed  bool
	opened  bool // its open frame came
	control func(*frame.Frame) error
}

// take handles the whole frames in p and returns their length.
func (rd *reader) take(p []byte) (used int) {
	l := rd.link
	l.mu.Lock()
	defer l.mu.Unlock()
	a := rd.attach
	if a.stale() {
		return len(p)
	}
	l.lastIn = time.Now()
	if a.pulse == Pulsed {
		a.credit = true
	}
	l.in.deferred = true
	used, err := rd.frames(p)
	l.in.deferred = false
	if err != nil {
		l.failLocked(asClose(err))
		if a.waiting {
			a.fail(err) // it can't be told what it has missed
		}
		return len(p)
	}
	return used
}

// frames handles the whole frames in p and returns their length. l.mu is held.
func (rd *reader) frames(p []byte) (used int, err error) {
	l, f := rd.link, scratch.Get().(*frame.Frame)
	defer func() {
		*f = frame.Frame{} // keeps nobody's data alive
		scratch.Put(f)
	}()
	for used < len(p) {
		if l.err != nil && isClosed(l.delivered) {
			return len(p), nil
		}
		n, err := rd.dec.Decode(p[used:], f)
		if err != nil {
			return used, err
		}
		if n == 0 {
			break
		}
		if err := rd.handle(f); err != nil {
			return used, err
		}
		if rd.attach != nil && rd.attach.stale() {
			return len(p), nil // since l.mu was let go for a control frame
		}
		used += n
	}
	return used, nil
}

// bodyEnded is the end of the body: in a codec without frames the end of input.
func (rd *reader) bodyEnded(rest []byte) error {
	l := rd.link
	l.mu.Lock()
	defer l.mu.Unlock()
	a := rd.attach
	if a.pulse == Pulsed {
		a.pulse = Streaming // nothing holds the output back any more
		defer a.kick()
	}
	if l.err != nil || a.replaced {
		return nil
	}
	var f frame.Frame
	ok, err := rd.dec.EOF(rest, &f)
	if err == nil && ok {
		err = rd.handle(&f)
	}
	if err == nil && !rd.framed && l.err == nil {
		err = l.end(0, false)
	}
	if err == nil && !l.in.ended && l.err == nil || err == io.ErrUnexpectedEOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		l.failLocked(asClose(err))
	}
	return nil
}

// handle takes in one frame. l.mu is held.
func (rd *reader) handle(f *frame.Frame) error {
	l := rd.link
	if l.cfg.Trace != nil && f.Type != frame.TypeEmpty {
		l.cfg.Trace(false, f)
	}
	if rd.attach != nil && rd.framed && !rd.opened && f.Type != frame.TypeEmpty && f.Type != frame.TypeOpen {
		return frame.Errorf(frame.CodeProtocol, "expected an open frame first, got %v", f.Type)
	}
	if l.err != nil {
		return rd.handleAfterEnd(f)
	}
	switch f.Type {
	case frame.TypeMessage:
		return l.message(f, rd.framed)
	case frame.TypeAck:
		return rd.acked(f)
	case frame.TypePing:
		l.control(frame.Frame{Type: frame.TypePong, Nonce: f.Nonce})
	case frame.TypePong:
		// Of pings that wait to be written, and of pongs, only the last one is: it
		// stands for those before it.
		for nonce, c := range l.pings {
			if nonce <= f.Nonce {
				close(c)
				delete(l.pings, nonce)
			}
		}
	case frame.TypeEnd:
		return l.end(f.Seq, rd.framed)
	case frame.TypeClose:
		l.failLocked(&frame.CloseError{Code: f.Code, Reason: f.Reason})
		l.told()
	case frame.TypeOpen:
		if rd.opened {
			return frame.Errorf(frame.CodeProtocol, "a second open frame came on one request")
		}
		rd.opened = true
		if f.Version != frame.Version {
			return frame.Errorf(frame.CodeProtocol, "expected protocol version %d, got %d", frame.Version, f.Version)
		}
		if f.Window < minWindow || f.Messages < 1 {
			return frame.Errorf(frame.CodeProtocol, "open tells a window of %d bytes and %d messages: at least %d and 1 are needed for one fragment", f.Window, f.Messages, minWindow)
		}
		l.peerWindow(f.Window, f.Messages)
		l.peerHeartbeat = time.Duration(min(f.Heartbeat, maxHeartbeat)) * time.Millisecond
		l.schedule(l.lastIn)
		fallthrough
	case frame.TypeStart, frame.TypeDetach:
		if f.Type == frame.TypeDetach {
			rd.opened = false // where another response follows in this body, it begins anew
		}
		l.mu.Unlock()
		err := rd.control(f)
		l.mu.Lock()
		return err
	}
	return nil
}

// handleAfterEnd takes what still counts once this end is done: what the peer
// has, and that it knows. l.mu is held.
func (rd *reader) handleAfterEnd(f *frame.Frame) error {
	switch f.Type {
	case frame.TypeOpen:
		rd.opened = true
	case frame.TypeAck:
		return rd.acked(f)
	case frame.TypeClose:
		rd.link.told()
		if a := rd.link.carrier; a != nil {
			a.checkFinished()
		}
	}
	return nil
}

// acked takes the peer's word of what it has. The first one of an attach that
// resumes also says where to go on. l.mu is held.
func (rd *reader) acked(f *frame.Frame) error {
	l, o := rd.link, &rd.link.out
	if f.Received > o.most {
		return frame.Errorf(frame.CodeProtocol, "ack says %d were received, sent were %d", f.Received, o.most)
	}
	if rd.attach != nil && rd.attach.waiting {
		if f.Received < o.tail {
			return frame.Errorf(frame.CodeProtocol, "ack says %d were received, an earlier one said %d", f.Received, o.tail)
		}
		rd.attach.waiting = false
		o.sent = f.Received
	}
	o.ack(f.Received)
	o.sent = max(o.sent, f.Received) // it came on an attach that was lost
	l.peerWindow(f.Window, f.Messages)
	return nil
}

// control has a frame go out before all that waits; one of its type that waits
// already is overwritten, so a flood of pings costs one pong. l.mu is held.
func (l *Link) control(f frame.Frame) {
	a := l.carrier
	if a == nil || a.err != nil || a.closeSent {
		if f.Type == frame.TypePong {
			pong := f
			l.pong = &pong // the next one takes it along
		}
		return
	}
	for i := range a.control {
		if a.control[i].Type == f.Type {
			a.control[i] = f
			return
		}
	}
	a.control = append(a.control, f)
}

// asClose gives err as the termination it stands for; nil stays nil.
func asClose(err error) *frame.CloseError {
	if err == nil {
		return nil
	}
	var e *frame.CloseError
	if errors.As(err, &e) { // as a GapError's and an OverrunError's too
		return e
	}
	return frame.Errorf(frame.CodeInternal, "%v", err)
}
