package client

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The pulse: how long a body may be silent (docs/protocol.md, "pulse"). Apache
// hands on what came from the program before the chunk before last, so an answer
// needs two pulses to get through. Right after a message they follow each other
// quickly, for an answer that is near; then at the usual pace for as long as
// messages flow, then slower and slower.
const (
	pulseNear  = time.Millisecond // doubled for each pulse, up to
	pulseFlow  = 20 * time.Millisecond
	pulseIdle  = 250 * time.Millisecond
	pulseAwake = time.Second // so long after a message pulses stay at pulseFlow
)

// errAbandoned is what net/http reads from a body once the session is over. It
// has it close the connection, which an end of the body would not: a client
// must not half-close, web servers take that for an abort.
var errAbandoned = errors.New("client: the session is over")

// body is the request's body, read by net/http, and the flow.Carrier that the
// link writes to. A Write returns once net/http has taken all of it; so a peer
// that doesn't read holds up the link's writer, and nothing else.
//
// A pulsing body breaks its silence by itself, with an empty frame.
type body struct {
	empty []byte // the empty frame in this codec

	mu      sync.Mutex
	rest    int64 // bytes that the declared length still allows; -1: no limit
	length  int64 // the declared length, or -1
	pending []byte
	first   []byte // the open frame: written before anybody reads
	over    bool
	failed  error // why a Write failed by itself

	pulsing  bool
	interval time.Duration // until the next pulse
	active   time.Time     // when something last made pulses worth while

	wake     chan struct{} // there is something for Read to look at
	taken    chan struct{} // pending has been read
	up       func()        // called at the first Read: there is a connection
	ended    chan struct{} // closed when over
	finished chan struct{} // closed when the link writes no more
	closed   chan struct{} // closed when net/http reads no more
	closeOne sync.Once
}

func newBody(length int64, empty []byte, up func()) *body {
	return &body{
		empty:    empty,
		rest:     length,
		length:   length,
		wake:     make(chan struct{}, 1),
		taken:    make(chan struct{}, 1),
		up:       sync.OnceFunc(up),
		ended:    make(chan struct{}),
		finished: make(chan struct{}),
		closed:   make(chan struct{}),
	}
}

// Write hands p to net/http. The first write, of the open frame, is kept until
// the connection is up. What is written later waits, so the link collects in the
// meantime and the next write is larger.
func (b *body) Write(p []byte) (int, error) {
	b.mu.Lock()
	switch {
	case b.over:
		b.mu.Unlock()
		return 0, errAbandoned
	case b.length >= 0 && int64(len(p)+len(b.first)) > b.rest:
		b.failed = fmt.Errorf("the %d bytes that the web server allows for a request's body are used up, raise its limit on the size of requests", b.length)
		b.mu.Unlock()
		return 0, b.failed
	case b.first == nil:
		b.first = append([]byte{}, p...)
		b.mu.Unlock()
		b.poke()
		return len(p), nil
	}
	b.pending = p
	b.mu.Unlock()
	b.poke()
	select {
	case <-b.taken:
		return len(p), nil
	case <-b.ended:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) == 0 {
		return len(p), nil
	}
	n := len(p) - len(b.pending)
	b.pending = nil // it is the caller's again
	return n, errAbandoned
}

// Flush has nothing to do: net/http sends on what each Read returns.
func (b *body) Flush() error { return nil }

// Finished is the link's last word here. What the server still has to say comes
// all the same. A chunked body ends now: Apache ends a response only after the
// request's body where it keeps the connection, to a proxy say. A body of declared
// length can't end, and pulses behind any server: nginx's HTTP/2 (1.22) shows the
// end of a response only when more of an open body comes.
func (b *body) Finished() {
	close(b.finished)
	if b.length >= 0 {
		b.pulse()
	} else {
		b.poke()
	}
}

// Abort has a running Write return. A frame may have left in part, so nothing
// may follow it.
func (b *body) Abort() { b.end() }

// Close is net/http's: it needs no more of the body, because the connection
// failed or the response has ended. A Read that still runs returns, as HTTP/2 waits
// for it before it tells of the failure. Which of the two it was the reader of the
// response finds out, and ends the body; a Write that failed here would be quicker,
// and hide a close frame that is just coming in.
func (b *body) Close() error {
	b.closeOne.Do(func() { close(b.closed) })
	return nil
}

// end has the body carry no more.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.over = true
		close(b.ended)
	}
}

// failure is why the body could not go on, nil if that was not its own doing.
func (b *body) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

func (b *body) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// pulse turns the pulse on.
func (b *body) pulse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pulsing = true
	b.hurry(pulseNear)
}

// message tells that a message passed. One that came in is followed by a pulse
// at once: another may wait behind it.
func (b *body) message(sent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.pulsing {
		return
	}
	if sent {
		b.hurry(pulseNear)
	} else {
		b.hurry(0)
	}
}

// hurry has the next pulse come within d. b.mu is held.
func (b *body) hurry(d time.Duration) {
	b.active = time.Now()
	if b.interval = min(b.interval, d); d == 0 || len(b.pending) == 0 {
		b.poke()
	}
}

// Read gives net/http what the link writes, as soon as it is there. Nothing needs
// to fill a buffer of net/http's first: it has flushed the header before it reads
// a body of a type that it doesn't know, and from then on sends what each Read
// returns by itself, whether as a chunk, as bytes of a declared length, which it
// copies past its empty buffer to the connection, or as an HTTP/2 frame
// (TestFramesLeaveAtOnce would tell if that changed).
func (b *body) Read(p []byte) (int, error) {
	b.up()
	var timer *time.Timer
	for {
		var pulse <-chan time.Time
		b.mu.Lock()
		if b.over {
			b.mu.Unlock()
			return 0, errAbandoned
		}
		if n := b.take(p); n > 0 {
			b.mu.Unlock()
			return n, nil
		}
		if b.complete() {
			b.mu.Unlock()
			return 0, io.EOF
		}
		if b.pulsing {
			if timer == nil {
				timer = time.NewTimer(b.interval)
				defer timer.Stop()
			} else {
				timer.Reset(b.interval)
			}
			pulse = timer.C
		}
		b.mu.Unlock()
		select {
		case <-b.wake:
		case <-b.ended:
		case <-b.closed:
			return 0, errAbandoned
		case <-pulse:
			if n := b.beat(p); n > 0 {
				return n, nil
			}
		}
	}
}

// complete tells whether the body has come to its end. b.mu is held.
func (b *body) complete() bool {
	if b.rest == 0 {
		return true
	}
	select {
	case <-b.finished:
		return b.length < 0
	default:
		return false
	}
}

// take moves what was written to p. b.mu is held.
func (b *body) take(p []byte) int {
	from := &b.pending
	if len(b.first) > 0 {
		from = &b.first
	}
	n := copy(p, *from)
	*from = (*from)[n:]
	if b.rest >= 0 {
		b.rest -= int64(n)
	}
	if n > 0 && from == &b.pending && len(b.pending) == 0 {
		b.taken <- struct{}{}
	}
	return n
}

// beat is one pulse, unless something was written meanwhile.
func (b *body) beat(p []byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending)+len(b.first) > 0 || b.over || b.rest >= 0 && b.rest < int64(len(b.empty)) {
		return 0
	}
	most := pulseIdle
	if time.Since(b.active) < pulseAwake {
		most = pulseFlow
	}
	b.interval = min(max(2*b.interval, pulseNear), most)
	if b.rest >= 0 {
		b.rest -= int64(len(b.empty))
	}
	return copy(p, b.empty)
}

var _ io.ReadCloser = (*body)(nil)
