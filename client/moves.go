package client

import (
	"context"
	"errors"
	"slices"
	"time"
)

// When a session leaves its way for a worse one, and looks whether a better one
// works again.
const (
	shortLife = 10 * time.Second // an attach that is lost sooner tells against its way
	strikes   = 3                // that so often in a row is enough
	upFirst   = 5 * time.Minute  // until a better way is tried again, doubled each time it fails, up to
	upMost    = time.Hour
)

// A ladder is the ways that a session may take, and where it stands. Only the
// Conn's run moves it.
type ladder struct {
	advice  advice
	ways    []way // best first
	at      int
	strikes int
	trial   bool // ways[at] is tried out
	from    int  // on trial: where it stood before
	upAt    time.Time
	upAfter time.Duration
}

var (
	errUp     = errors.New("a better transport is tried again")
	errOneWay = errors.New("nothing came back in time: one direction is held back")
)

// newLadder makes a ladder on which w is taken. Where w has another declared length
// than the way it was made from, it takes that one's place.
func newLadder(a advice, ways []way, w way) *ladder {
	l := &ladder{advice: a, ways: slices.Clone(ways), upAfter: upFirst, upAt: time.Now().Add(upFirst)}
	l.at = slices.IndexFunc(l.ways, func(o way) bool {
		return o.Transport == w.Transport && (o.Declared > 0) == (w.Declared > 0) && (o.Declared < 0) == (w.Declared < 0)
	})
	if l.at < 0 {
		l.at = len(l.ways)
		l.ways = append(l.ways, way{})
	}
	l.ways[l.at] = w
	return l
}

// lost takes in that an attach of the present way is over, and chooses the way of
// the next one. opened is how long ago the server opened it, 0 if it never did.
// moved tells whether that is another way.
func (l *ladder) lost(fail error, opened time.Duration) (moved bool) {
	before := l.at
	refused := refusedByServer(fail)
	switch {
	case errors.Is(fail, errDetached), errors.Is(fail, errUp):
		l.strikes = 0
	case l.trial:
		if opened == 0 && !refused && !errors.Is(fail, errHeldBack) {
			break // there is no network, perhaps
		}
		l.fall(refused)
	case refused, errors.Is(fail, errOneWay):
		l.fall(refused)
	case opened > shortLife && !errors.Is(fail, errGivenUp):
		l.strikes = 0
	case opened > 0, errors.Is(fail, errHeldBack):
		if l.strikes++; l.strikes >= strikes {
			l.fall(false)
		}
	}
	if l.at == before && !l.trial && l.at > 0 && time.Now().After(l.upAt) {
		l.climb()
	}
	return l.at != before
}

// fall moves down: to the next transport, or where the way itself was refused to
// the next way. From a trial it goes back.
func (l *ladder) fall(refused bool) {
	l.strikes = 0
	if l.trial && l.from > l.at {
		l.at, l.trial = l.from, false
		return
	}
	present := l.ways[l.at]
	for i := l.at + 1; i < len(l.ways); i++ {
		if refused || l.ways[i].Transport != present.Transport || present.apart() {
			l.trial, l.from, l.at = false, l.at, i
			l.upAt = time.Now().Add(l.upAfter)
			return
		}
	}
}

// climb tries the best way again.
func (l *ladder) climb() {
	l.trial, l.from, l.at, l.strikes = true, l.at, 0, 0
	l.upAfter = min(2*l.upAfter, upMost)
	l.upAt = time.Now().Add(l.upAfter)
}

// due tells whether it is time to try a better way.
func (l *ladder) due() bool { return l.at > 0 && time.Now().After(l.upAt) }

// prove has the attach be lost, unless messages pass both ways. Then the way is
// remembered.
func (a *attach) prove() {
	c := a.conn
	best := c.ladder.Load().at == 0
	go func() {
		ctx, cancel := context.WithTimeout(a.ctx, c.dialer.options.OpenTimeout)
		defer cancel()
		select {
		case <-a.opened:
		case <-ctx.Done():
			return // watch sees to that
		}
		switch _, err := c.link.Ping(ctx); {
		case err == nil:
			a.works.Store(true)
			c.remember(a.way, best)
		case a.ctx.Err() == nil && ctx.Err() != nil:
			a.cancel(errOneWay)
		}
	}()
}
