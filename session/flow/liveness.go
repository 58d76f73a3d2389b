package flow

import (
	"context"
	"fmt"
	"time"

	"tandem/session/frame"
)

// schedule sets the link's one timer to the next time at which something is to
// be done. It is set late rather than often: traffic only moves lastIn and
// lastOut, and the timer, when it fires, finds that it was early. l.mu is held.
func (l *Link) schedule(now time.Time) {
	if l.err != nil {
		return
	}
	next := l.next()
	if next.IsZero() || !l.timerAt.IsZero() && !next.Before(l.timerAt) {
		return
	}
	l.timerAt = next
	if l.timer == nil {
		l.timer = time.AfterFunc(next.Sub(now), l.tick)
	} else {
		l.timer.Reset(next.Sub(now))
	}
}

func (l *Link) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// next is the earliest of all deadlines, zero if there is none. l.mu is held.
func (l *Link) next() (t time.Time) {
	for _, d := range []time.Time{l.beatAt(), l.silentAt(), l.graceAt(), l.idleAt(), l.expiresAt()} {
		if !d.IsZero() && (t.IsZero() || d.Before(t)) {
			t = d
		}
	}
	return t
}

// beatAt is when this end has to write something to keep its promise.
func (l *Link) beatAt() time.Time {
	a := l.carrier
	if l.cfg.Heartbeat <= 0 || a == nil || !a.codec.Framed() || a.ended || a.poll {
		return time.Time{}
	}
	return l.lastOut.Add(l.cfg.Heartbeat)
}

// silentAt is when the peer has been silent for 2.5 of its heartbeats.
func (l *Link) silentAt() time.Time {
	if l.peerHeartbeat <= 0 || l.in.ended || l.carrier == nil {
		return time.Time{}
	}
	return l.lastIn.Add(l.peerHeartbeat * 5 / 2)
}

// graceAt is when nobody has resumed the session for long enough.
func (l *Link) graceAt() time.Time {
	if l.lostAt.IsZero() {
		return time.Time{}
	}
	return l.lostAt.Add(l.cfg.Grace)
}

func (l *Link) idleAt() time.Time {
	if l.cfg.MaxIdle <= 0 {
		return time.Time{}
	}
	return l.lastMessage.Add(l.cfg.MaxIdle)
}

func (l *Link) expiresAt() time.Time {
	if l.cfg.MaxLife <= 0 {
		return time.Time{}
	}
	return l.born.Add(l.cfg.MaxLife)
}

func (l *Link) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	now := time.Now()
	l.timerAt = time.Time{}
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case due(l.graceAt()):
		l.lostLocked(fmt.Sprintf("%s, and nobody resumed the session for %v", l.lostReason, l.cfg.Grace))
		return
	case due(l.silentAt()):
		l.carrier.lost(fmt.Sprintf("nothing came for %v, the peer's heartbeat is %v", now.Sub(l.lastIn).Round(time.Millisecond), l.peerHeartbeat))
		return
	case due(l.idleAt()):
		l.failLocked(frame.Errorf(frame.CodeExpired, "no message for %v (max_idle)", l.cfg.MaxIdle))
		return
	case due(l.expiresAt()):
		l.failLocked(frame.Errorf(frame.CodeExpired, "the session is %v old (max_life)", l.cfg.MaxLife))
		return
	}
	if due(l.beatAt()) {
		l.lastOut = now // one empty frame an interval is enough, even if it can't leave yet
		l.control(frame.Frame{Type: frame.TypeEmpty})
		l.kick()
	}
	l.schedule(now)
}

// Ping measures a round trip through both ends' links. It needs a framed codec.
func (l *Link) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	pong := make(chan struct{})
	l.mu.Lock()
	l.nonce++
	nonce := l.nonce
	if l.pings == nil {
		l.pings = make(map[uint64]chan struct{})
	}
	l.pings[nonce] = pong
	l.control(frame.Frame{Type: frame.TypePing, Nonce: nonce})
	l.write()
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.pings, nonce)
		l.mu.Unlock()
	}()
	select {
	case <-pong:
		return time.Since(start), nil
	case <-l.done:
		return 0, l.Err()
	case <-ctx.Done():
		return 0, l.waited(ctx)
	}
}
