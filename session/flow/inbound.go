package flow

import (
	"context"
	"io"
	"time"

	"tandem/session/frame"
)

// inbound is what came in: at most one message being put together, and the
// whole ones that wait for the app. Its memory is bounded by MaxMessage and the
// window (or Buffer), because a fragment is acked only once it is taken: by the
// message being put together at the head of the line, or by the app.
type inbound struct {
	seq   uint64 // last fragment received
	taken uint64 // last fragment taken: what the next ack says
	acked uint64 // last fragment acked

	queue []whole
	head  int
	bytes int64 // of the queue and the partial message

	partial     []byte
	partialText bool
	inPartial   bool
	partialCost cost // of its fragments that are not taken yet

	held  cost // received and not acked: what the peer has to keep within the window
	fresh cost // of it what is taken
	due   cost // taken, and not acked where the peer is sure to learn of it

	ended bool // the peer's end came
	ready chan struct{}
	bare  chan struct{} // all that was received may be taken; nil: nobody has waited for it

	react    func(frame.Message, error) bool // gets what comes, if not nil
	draining bool                            // a goroutine calls it, or it is done
	lingers  *time.Timer                     // that goroutine waits for more, so long; nil: it doesn't
	deferred bool                            // a Turn follows, which calls it
	yield    func()                          // of the Turn that calls it, until that has been called
}

// overhead is what a waiting message takes in memory beside its bytes.
const overhead = 64

// whole is a message that waits for the app.
type whole struct {
	msg  frame.Message
	last uint64 // its last fragment
	cost cost   // of its fragments that are not taken yet
}

// cost is what fragments count for against a window.
type cost struct{ bytes, frags uint64 }

func (c *cost) add(d cost) { c.bytes += d.bytes; c.frags += d.frags }
func (c *cost) sub(d cost) { c.bytes -= d.bytes; c.frags -= d.frags }

// Receive returns the next message. It waits until there is one, ctx is done,
// the peer's input has ended (io.EOF), or the session is over (a
// *frame.CloseError). What came before the end is received first.
func (l *Link) Receive(ctx context.Context) (frame.Message, error) {
	for {
		l.mu.Lock()
		m, ok, err := l.pop()
		l.mu.Unlock()
		if ok || err != nil {
			return m, err
		}
		select {
		case <-l.in.ready:
		case <-l.done:
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			if m, ok, err := l.pop(); ok || err != nil {
				return m, err // a ctx that ends with the session takes nothing away
			}
			return frame.Message{}, ctx.Err()
		}
	}
}

// React has f called with what Receive would return, in its place, by one goroutine
// at a time and by none while there is nothing. An error is the last call; so is one
// for which f returns false. f must not block, but in this link's methods, without
// WillBlock.
func (l *Link) React(f func(frame.Message, error) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.react = f
	if l.news() {
		l.wake()
	}
}

// linger is how long the goroutine that calls react waits for more: a busy session
// keeps it, and its stack that has grown, an idle one has none.
const linger = 100 * time.Millisecond

// drain calls react until there has been nothing to call it with for a while.
func (l *Link) drain() {
	in := &l.in
	timer := time.NewTimer(linger)
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.drainNow() {
		in.lingers = timer
		l.mu.Unlock()
		timer.Reset(linger)
		late := false
		select {
		case <-in.ready:
		case <-timer.C:
			late = true
		}
		l.mu.Lock()
		if in.lingers != timer {
			return // a Turn has taken over
		}
		in.lingers = nil
		if late && !l.news() {
			in.draining = false
			return
		}
	}
}

// drainHere is drain on the caller's goroutine, which is lent until something would
// block: yield is called first. l.mu is held.
func (l *Link) drainHere(yield func()) {
	in := &l.in
	if in.react == nil || in.draining && in.lingers == nil || !l.news() {
		return
	}
	in.draining, in.lingers, in.yield = true, nil, yield
	in.draining = !l.drainNow()
	in.yield = nil
}

// drainNow calls react with what there is. False: it must not be called again. l.mu is
// held, and let go around each call.
func (l *Link) drainNow() bool {
	for {
		m, ok, err := l.pop()
		if !ok && err == nil {
			return true
		}
		l.mu.Unlock()
		more := l.in.react(m, err)
		l.mu.Lock()
		if !more || err != nil {
			return false
		}
	}
}

// news tells whether there is something to call react with. l.mu is held.
func (l *Link) news() bool { return l.in.waiting() || l.in.ended || l.err != nil }

// WillBlock is for a function given to React, before it waits for something that is not
// this link's: it may have the goroutine of a reader that others need too.
func (l *Link) WillBlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.willBlock()
}

// willBlock lets the reader go on that lends its goroutine. l.mu is held.
func (l *Link) willBlock() {
	if yield := l.in.yield; yield != nil {
		l.in.yield = nil
		yield()
		l.kick() // what the Turn would have written
	}
}

// pop takes the first waiting message. l.mu is held.
func (l *Link) pop() (frame.Message, bool, error) {
	in := &l.in
	if in.head == len(in.queue) {
		switch {
		case l.err != nil:
			return frame.Message{}, false, l.err
		case in.ended:
			return frame.Message{}, false, io.EOF
		}
		return frame.Message{}, false, nil
	}
	w := in.queue[in.head]
	in.queue[in.head] = whole{}
	in.head++
	if in.head == len(in.queue) {
		if cap(in.queue) > 64 {
			in.queue = nil // a burst is over: an idle session keeps no room for it
		}
		in.queue, in.head = in.queue[:0], 0
	}
	in.bytes -= int64(len(w.msg.Data))
	in.take(w.cost)
	in.taken = w.last
	if in.head == len(in.queue) {
		in.take(in.partialCost)
		in.partialCost = cost{}
		in.taken = in.seq
		select {
		case in.bare <- struct{}{}:
		default:
		}
	}
	if l.in.yield == nil && l.ackDue() { // a Turn writes at its end
		l.kick()
	}
	return w.msg, true, nil
}

// Taken waits until all that was received is taken, for a client that polls: what
// an ack leaves out comes again. It returns early when ctx is done or the session
// is over. One goroutine may call it at a time.
func (l *Link) Taken(ctx context.Context) {
	for {
		l.mu.Lock()
		all := l.in.taken == l.in.seq
		if l.in.bare == nil {
			l.in.bare = make(chan struct{}, 1)
		}
		l.mu.Unlock()
		if all {
			return
		}
		select {
		case <-l.in.bare:
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// waiting tells whether a Receive would return at once. l.mu is held.
func (in *inbound) waiting() bool { return in.head < len(in.queue) }

// ackDue tells whether an ack has to go alone: half of a limit is taken and not
// acked, or all is taken and the peer may still have no room for one fragment, or
// nothing more will come. l.mu is held.
func (l *Link) ackDue() bool {
	in := &l.in
	if in.due.frags == 0 {
		return false
	}
	return in.ended || in.due.bytes >= l.cfg.Window/2 || in.due.frags >= l.cfg.Messages/2 ||
		in.held == in.fresh && in.due.bytes+minWindow > l.cfg.Window
}

// take counts fragments as taken.
func (in *inbound) take(c cost) {
	in.fresh.add(c)
	in.due.add(c)
}

// ackFrame makes the ack of all that is taken, and counts it as sent. sure: where it
// does not get through the peer comes back for another one. l.mu is held.
func (l *Link) ackFrame(sure bool) frame.Frame {
	in := &l.in
	in.held.sub(in.fresh)
	in.fresh = cost{}
	if sure {
		in.acked = in.taken
		in.due = cost{}
	}
	return frame.Frame{Type: frame.TypeAck, Received: l.in.taken, Window: l.cfg.Window, Messages: l.cfg.Messages}
}

// message takes in a fragment. framed is false for a codec without seq and
// acks. l.mu is held.
func (l *Link) message(f *frame.Frame, framed bool) error {
	in := &l.in
	if framed && f.Seq <= in.seq {
		return nil // sent again on another attach, after the end even; we have it
	}
	if in.ended {
		return frame.Errorf(frame.CodeProtocol, "a message came after end: send end last")
	}
	c := cost{uint64(frame.Cost(len(f.Data))), 1}
	if framed {
		if f.Seq != in.seq+1 {
			return &GapError{frame.Errorf(frame.CodeProtocol, "expected message seq %d, got %d: a frame is missing", in.seq+1, f.Seq)}
		}
		held := in.held
		held.add(c)
		if held.bytes > l.cfg.Window || held.frags > l.cfg.Messages {
			return &OverrunError{frame.Errorf(frame.CodePolicy, "window overrun: %d bytes in %d fragments are un-acked, the limit is %d bytes and %d fragments: wait for acks",
				held.bytes, held.frags, l.cfg.Window, l.cfg.Messages)}
		}
		in.held = held
	} else if in.bytes+int64(len(in.queue)-in.head)*overhead+int64(len(f.Data)) > l.cfg.Buffer {
		return frame.Errorf(frame.CodePolicy, "input buffer overrun: more than %d bytes wait for the app (lines_buffer): send more slowly, or use the json or binary codec", l.cfg.Buffer)
	}
	in.seq++
	if int64(len(in.partial)+len(f.Data)) > l.cfg.MaxMessage {
		return frame.Errorf(frame.CodeTooBig, "a message is larger than %d bytes (max_message)", l.cfg.MaxMessage)
	}
	if in.inPartial && in.partialText != f.Text {
		return frame.Errorf(frame.CodeProtocol, "message seq %d is text and binary: all fragments of a message are of one kind", in.seq)
	}
	in.bytes += int64(len(f.Data))
	in.partial = append(in.partial, f.Data...)
	if f.More {
		in.inPartial, in.partialText = true, f.Text
		if in.waiting() {
			in.partialCost.add(c)
			return nil
		}
		in.take(c)
		in.taken = in.seq
		return nil
	}
	c.add(in.partialCost)
	if in.head > 64 && in.head > len(in.queue)/2 {
		// An app that is always a little behind never empties the queue.
		n := copy(in.queue, in.queue[in.head:])
		clear(in.queue[n:])
		in.queue, in.head = in.queue[:n], 0
	}
	in.queue = append(in.queue, whole{frame.Message{Data: in.partial, Text: f.Text}, in.seq, c})
	in.partial, in.inPartial, in.partialCost = nil, false, cost{}
	l.lastMessage = l.lastIn
	l.wake()
	return nil
}

// end is the peer's end of input. l.mu is held.
func (l *Link) end(seq uint64, framed bool) error {
	in := &l.in
	if framed && seq != in.seq {
		violation := frame.Errorf(frame.CodeProtocol, "end says the last seq is %d, received were %d: frames are missing", seq, in.seq)
		if seq > in.seq {
			return &GapError{violation}
		}
		return violation
	}
	if in.inPartial {
		return frame.Errorf(frame.CodeProtocol, "end came in the middle of message seq %d", in.seq)
	}
	in.ended = true
	l.wake()
	return nil
}

// wake tells who receives that there is something. l.mu is held.
func (l *Link) wake() {
	in := &l.in
	switch {
	case in.react != nil && in.deferred:
		return
	case in.react != nil && !in.draining:
		in.draining = true
		go l.drain()
		return
	}
	select {
	case in.ready <- struct{}{}:
	default:
	}
}
