package flow

import (
	"context"
	"errors"
	"slices"
	"time"

	"tandem/session/frame"
)

// outbound is what goes out: the fragments that the peer has not acked, of
// which the first few may be on the wire. Its memory is bounded by the peer's
// window and maxHeld, because Send waits for room in it.
type outbound struct {
	seq  uint64 // last fragment put in
	sent uint64 // last fragment given to the carrier; goes back where a resumed one sends again
	most uint64 // last fragment ever given to one
	tail uint64 // last fragment acked; unacked holds tail+1 … seq

	unacked []fragment
	head    int
	held    cost // of unacked

	window, messages uint64 // the peer's limits for held

	lost    []frame.Message // un-acked when all was dropped
	dropped bool            // nothing is kept any more, acked or not
	end     bool            // no more messages: an end frame follows the last one

	room chan struct{} // there may be room again
	turn chan struct{} // one Send at a time, so that fragments don't mix
}

type fragment struct {
	data       []byte
	message    []byte // all of it, which data is a part of
	text, more bool
}

// errEnded is what Send returns after CloseSend.
var errEnded = errors.New("tandem: message sent after the end of this direction")

// drop forgets what was not written yet: a termination overtakes it. The
// fragments that were are the last ones.
func (o *outbound) drop() {
	o.dropped = true
	o.lost = append(o.lost, o.pending()...)
	o.unacked, o.head, o.held = nil, 0, cost{}
	o.sent = o.most
	o.seq, o.tail = o.sent, o.sent
}

// pending are the messages of which a fragment is un-acked.
func (o *outbound) pending() (list []frame.Message) {
	for seq := o.tail + 1; seq <= o.seq; seq++ {
		if f := o.at(seq); !f.more || seq == o.seq { // its last one, or the last so far
			list = append(list, frame.Message{Data: f.message, Text: f.text})
		}
	}
	return list
}

// Unacked gives the messages that were sent and that the peer has not acked, or
// had not when the session ended. It may have got them all the same.
func (l *Link) Unacked() []frame.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(slices.Clone(l.out.lost), l.out.pending()...)
}

func (o *outbound) fits(n int) bool {
	return o.held.bytes+uint64(frame.Cost(n)) <= o.window && o.held.frags+1 <= o.messages
}

func (o *outbound) put(f fragment) {
	o.seq++
	o.unacked = append(o.unacked, f)
	o.held.add(cost{uint64(frame.Cost(len(f.data))), 1})
}

// at returns the un-acked fragment seq.
func (o *outbound) at(seq uint64) *fragment { return &o.unacked[o.head+int(seq-o.tail-1)] }

// ack forgets all up to seq, which the peer has.
func (o *outbound) ack(seq uint64) {
	for o.tail < seq {
		f := &o.unacked[o.head]
		o.held.sub(cost{uint64(frame.Cost(len(f.data))), 1})
		*f = fragment{}
		o.head++
		o.tail++
	}
	if o.head == len(o.unacked) {
		if cap(o.unacked) > 64 {
			o.unacked = nil
		}
		o.unacked, o.head = o.unacked[:0], 0
	} else if o.head > 64 && o.head > len(o.unacked)/2 {
		n := copy(o.unacked, o.unacked[o.head:])
		clear(o.unacked[n:])
		o.unacked, o.head = o.unacked[:n], 0
	}
	select {
	case o.room <- struct{}{}:
	default:
	}
}

// Send sends a message, as fragments. It copies m.Data. It waits while the
// peer's window is full: that is the back-pressure, nothing else holds a sender.
// A nil error says that the message is on its way, not that it arrived. After a
// ctx error in the middle of a large message the session can't go on and is
// failed with CodeGoingAway.
func (l *Link) Send(ctx context.Context, m frame.Message) error {
	m.Data = append(make([]byte, 0, len(m.Data)), m.Data...)
	return l.Pass(ctx, m)
}

// Pass is Send for a message that is the link's from now on: it is not copied.
func (l *Link) Pass(ctx context.Context, m frame.Message) error {
	select {
	case l.out.turn <- struct{}{}:
	default:
		l.WillBlock()
		select {
		case l.out.turn <- struct{}{}:
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return l.waited(ctx)
		}
	}
	defer func() { <-l.out.turn }()

	data := m.Data
	message := data[:len(data):len(data)]
	first := true
	for {
		n := frame.Cut(data, m.Text)
		f := fragment{data: data[:n:n], message: message, text: m.Text, more: n < len(data)}
		if err := l.sendFragment(ctx, f); err != nil {
			if !first && l.Err() == nil {
				l.Fail(frame.Errorf(frame.CodeGoingAway, "a message was abandoned half sent"))
			}
			return err
		}
		if !f.more {
			return nil
		}
		data, first = data[n:], false
	}
}

func (l *Link) sendFragment(ctx context.Context, f fragment) error {
	l.mu.Lock()
	for {
		switch {
		case l.err != nil:
			l.mu.Unlock()
			return l.err
		case l.out.end:
			l.mu.Unlock()
			return errEnded
		}
		if l.out.fits(len(f.data)) {
			break
		}
		l.write()
		if l.out.fits(len(f.data)) {
			continue // a codec without acks has room once it is written
		}
		l.willBlock()
		l.mu.Unlock()
		select {
		case <-l.out.room:
		case <-l.done:
			return l.Err()
		case <-ctx.Done():
			return l.waited(ctx)
		}
		l.mu.Lock()
	}
	l.out.put(f)
	seq := l.out.seq
	if l.cfg.MaxIdle > 0 {
		l.lastMessage = time.Now()
	}
	switch {
	case f.more && l.out.fits(frame.MaxData):
		// The next fragment rides along.
	case l.in.yield != nil:
		// The Turn that this may be a part of writes it, together with what else comes of it.
	case l.in.waiting():
		// More input waits for this app, so more output is near: another
		// goroutine writes it all together, at the latest when this one waits.
		l.kick()
	default:
		l.write()
	}
	defer l.mu.Unlock()
	if l.out.seq < seq { // dropped
		return l.err
	}
	return nil
}

// CloseSend ends this direction: an end frame follows the last message.
func (l *Link) CloseSend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.out.end = true
	l.kick()
	return nil
}

// peerWindow takes the peer's limits from an open or ack, as far as this end keeps
// so much. l.mu is held.
func (l *Link) peerWindow(window, messages uint64) {
	l.out.window, l.out.messages = min(window, maxHeld), min(messages, maxHeldMessages)
	select {
	case l.out.room <- struct{}{}:
	default:
	}
}
