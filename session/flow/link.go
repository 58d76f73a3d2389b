package flow

import (
	"context"
	"sync"
	"time"

	"tandem/session/frame"
)

// What an end may have un-acked before the other's open told its window, and
// what a server grants a client for good: an nginx upload that never fills a
// backend socket stays within it (docs/protocol.md, "Flow control").
const (
	InitialWindow   = 64 << 10 // bytes, as frame.Cost counts
	InitialMessages = 64       // fragments
)

// maxHeld is the most that is kept for a peer that does not ack, in bytes and
// fragments, whatever window it tells: the memory is ours.
const (
	maxHeld         = 1 << 20
	maxHeldMessages = 4 << 10
)

// minWindow is the smallest window that an open may tell: one full fragment,
// else a sender could wait for ever.
const minWindow = frame.MaxData + 32

// Config is how a link behaves. But for Grace (SetGrace) it does not change while
// the link lives.
type Config struct {
	// MaxMessage is the largest message taken in, in bytes; a larger one is
	// CodeTooBig. It must be set.
	MaxMessage int64
	// Window and Messages are what this end grants the other: bytes and
	// fragments un-acked. They must be set; a codec without acks ignores them.
	Window, Messages uint64
	// Buffer bounds, in bytes, the input that waits for the app where the codec
	// has no acks to hold the peer back (lines); beyond it is CodePolicy.
	Buffer int64
	// Heartbeat is this end's promise: something is written at least that
	// often. 0: no promise.
	Heartbeat time.Duration
	// MaxIdle and MaxLife end the session with CodeExpired: so long without a
	// message either way, and so old. 0: no limit.
	MaxIdle, MaxLife time.Duration
	// Grace is how long the session outlives a lost carrier, waiting to be
	// resumed, and how long its end is kept for a peer that may not have got it.
	// 0: a lost carrier ends the session.
	Grace time.Duration
	// Trace, if not nil, is called with each frame but empty ones, in wire order
	// for each direction. It must be quick and must not call the link.
	Trace func(sent bool, f *frame.Frame)
	// Terminated, if not nil, is called once, in a goroutine of its own, when the
	// session is over.
	Terminated func(*frame.CloseError)
}

// Times of the end: how long the last frames may take to leave, and to come.
const (
	lossGrace    = 500 * time.Millisecond // after a write failed
	closeLinger  = time.Second            // after a termination by the peer or for a violation
	finishLinger = 30 * time.Second       // after this end was done: without any progress
)

// A Link is one end of a session.
//
// Receive may be called by one goroutine at a time; everything else is safe for
// concurrent use. No method but Send, Receive, Finish, Ping and Feed
// blocks. Once the session has terminated every method returns the same
// *frame.CloseError, and what had been received before can still be received.
type Link struct {
	cfg Config

	mu      sync.Mutex
	in      inbound
	out     outbound
	carrier *Attach           // nil while detached
	batch   *Batch            // the body beside it that counts, nil if there is none
	pong    *frame.Frame      // owed, while there is no carrier
	err     *frame.CloseError // why the session is over; nil while it runs

	done      chan struct{} // closed when err is set
	delivered chan struct{} // closed when the peer knows of the end, or never can

	lostAt     time.Time // when the carrier was lost; zero while there is one
	lostReason string

	born            time.Time
	lastIn, lastOut time.Time     // when bytes last moved
	lastMessage     time.Time     // either way
	peerHeartbeat   time.Duration // the peer's promise; 0: none
	timer           *time.Timer
	timerAt         time.Time
	pings           map[uint64]chan struct{}
	nonce           uint64
}

// New makes a detached link.
func New(cfg Config) *Link {
	now := time.Now()
	l := &Link{
		cfg:         cfg,
		done:        make(chan struct{}),
		delivered:   make(chan struct{}),
		born:        now,
		lastIn:      now,
		lastOut:     now,
		lastMessage: now,
	}
	l.in.ready = make(chan struct{}, 1)
	l.out.room = make(chan struct{}, 1)
	l.out.turn = make(chan struct{}, 1)
	l.out.window, l.out.messages = InitialWindow, InitialMessages
	return l
}

// Done is closed when the session is over.
func (l *Link) Done() <-chan struct{} { return l.done }

// Delivered is closed when the session is over and need not be kept: the peer
// knows of the end, or it was not one that is resumed for.
func (l *Link) Delivered() <-chan struct{} { return l.delivered }

// Err is why the session is over, nil while it runs.
func (l *Link) Err() *frame.CloseError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// waited is the error of a method that waited until ctx was done: the session's end, if
// that is why.
func (l *Link) waited(ctx context.Context) error {
	if e := l.Err(); e != nil {
		return e
	}
	return ctx.Err()
}

// SetGrace changes Config.Grace: a client learns only from the server's open how
// long its session may wait to be resumed. It holds for a link that is waiting, too.
func (l *Link) SetGrace(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.Grace = d
	l.schedule(time.Now())
}

// Finish ends the session in order: all that was sent, then a close frame. It
// returns when these have left, the transport failed, or ctx is done (then the
// rest is dropped). A session that is over already stays as it ended.
func (l *Link) Finish(ctx context.Context, code frame.Code, reason string) error {
	l.mu.Lock()
	if l.err == nil {
		l.terminate(frame.Errorf(code, "%s", reason), finishLinger)
	}
	a := l.carrier
	l.willBlock()
	l.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.finished:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		a.fail(ctx.Err())
		l.mu.Unlock()
		return ctx.Err()
	}
}

// Fail ends the session at once: what was not sent is dropped, the peer is told
// the code if it still can be.
func (l *Link) Fail(e *frame.CloseError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(e)
}

func (l *Link) failLocked(e *frame.CloseError) {
	if l.err != nil {
		return
	}
	l.out.drop()
	if a := l.carrier; l.cfg.Grace <= 0 || a != nil && a.err == nil && !a.closeSent {
		l.told() // else who comes back shall hear of it
	}
	l.terminate(e, closeLinger)
}

// told marks the end as known to the peer, or as one it will never hear of.
// l.mu is held.
func (l *Link) told() {
	if !isClosed(l.delivered) {
		close(l.delivered)
	}
}

// Lost ends the session because its transport is gone; nothing more is written.
func (l *Link) Lost(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lostLocked(reason)
}

func (l *Link) lostLocked(reason string) {
	l.told() // or never will be
	if l.err == nil {
		l.out.drop()
		l.terminate(frame.Errorf(frame.CodeHeartbeat, "%s", reason), 0)
	}
	if l.carrier != nil {
		l.carrier.fail(l.err)
	}
}

// terminate sets err, wakes everybody, and starts the last write. l.mu is held.
func (l *Link) terminate(e *frame.CloseError, linger time.Duration) {
	if !e.Code.Valid() { // an app's mistake: no codec carries it, the peer would learn nothing
		e = frame.Errorf(frame.CodeInternal, "the session was closed with the code %d, which is none", uint16(e.Code))
	}
	l.err = e
	close(l.done)
	l.stopTimer()
	if l.in.react != nil {
		l.wake()
	}
	if l.cfg.Terminated != nil {
		go l.cfg.Terminated(e)
	}
	a := l.carrier
	if a == nil {
		return
	}
	a.lastWords(linger)
	l.kick()
	a.checkFinished()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
