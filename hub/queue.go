package hub

import (
	"errors"
	"fmt"
)

// A Policy is what becomes of events that a subscriber is too slow for.
type Policy uint8

const (
	// Disconnect ends the subscriber; it can resume after the last event that it got.
	Disconnect Policy = iota
	// DropOldest drops what waits for longest; a Gap takes its place.
	DropOldest
	// KeepLatest keeps only the newest event of each topic of those that wait, slow or not: who reads slowly
	// gets fewer, and no Gap for it.
	KeepLatest
)

var policies = [...]string{"disconnect", "drop-oldest", "keep-latest"}

func (p Policy) String() string { return policies[p] }

// ParsePolicy is the inverse of String.
func ParsePolicy(s string) (Policy, error) {
	for i, name := range policies {
		if s == name {
			return Policy(i), nil
		}
	}
	return 0, fmt.Errorf("hub: policy %.40q: expected disconnect, drop-oldest or keep-latest", s)
}

var (
	// ErrTooSlow ends a subscriber whose queue is full.
	ErrTooSlow = errors.New("hub: the subscriber is too slow")
	// ErrClosed ends a subscriber whose hub was closed.
	ErrClosed = errors.New("hub: closed")
	// ErrFull ends a subscriber beyond Options.MaxSubscribers.
	ErrFull = errors.New("hub: it has as many subscribers as it may have")
)

// queue is what waits for one subscriber, oldest first. Its owner guards it.
type queue struct {
	list   []*Update
	head   int
	events int // without gaps, of which there is at most one before each event
	bytes  int
}

func (q *queue) empty() bool { return q.head == len(q.list) }

// gap tells whether a Gap is the newest.
func (q *queue) gap() bool { return !q.empty() && q.list[len(q.list)-1] == Gap }

func (q *queue) add(u *Update) {
	q.list = append(q.list, u)
	q.count(u, 1)
}

func (q *queue) count(u *Update, n int) {
	if u != Gap {
		q.events += n
		q.bytes += n * u.size()
	}
}

// fits tells whether u has room within the bounds. An event that is alone always has.
func (q *queue) fits(u *Update, events, bytes int) bool {
	return q.events == 0 || q.events < events && q.bytes+u.size() <= bytes
}

// take moves the oldest few to into. It reports how many of them are gaps.
func (q *queue) take(into []*Update) (_ []*Update, gaps int) {
	const most, mostBytes = 64, 64 << 10
	for n := 0; q.head < len(q.list) && len(into) < most && n < mostBytes; q.head++ {
		u := q.list[q.head]
		q.list[q.head] = nil
		n += u.size()
		q.count(u, -1)
		if u == Gap {
			gaps++
		}
		into = append(into, u)
	}
	q.compact()
	return into, gaps
}

// compact gives back room that is not used: most queues are empty most of the time.
func (q *queue) compact() {
	switch {
	case q.head == len(q.list):
		if cap(q.list) > 16 {
			q.list = nil
		}
		q.list, q.head = q.list[:0], 0
	case q.head > 64 && q.head > len(q.list)/2:
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
}

// latest removes an event of u's topic that waits, so that u takes its place.
func (q *queue) latest(u *Update) (removed bool) {
	for i := len(q.list) - 1; i >= q.head; i-- {
		if w := q.list[i]; w != Gap && w.policy == KeepLatest && w.Topic == u.Topic {
			q.count(w, -1)
			copy(q.list[i:], q.list[i+1:])
			q.list[len(q.list)-1] = nil
			q.list = q.list[:len(q.list)-1]
			return true
		}
	}
	return false
}

// shed drops droppable events, the oldest first, and leaves a Gap where they were. It makes
// more room than u needs, so that it isn't called for each event. It reports how many it dropped, by their policies.
func (q *queue) shed(u *Update, events, bytes int) (dropped [len(policies)]uint64) {
	kept := q.list[:q.head]
	for _, w := range q.list[q.head:] {
		if w != Gap && w.policy != Disconnect && !q.fits(u, events*3/4, bytes/4*3) {
			dropped[w.policy]++
			q.count(w, -1)
			w = Gap
		}
		if w != Gap || len(kept) == q.head || kept[len(kept)-1] != Gap {
			kept = append(kept, w)
		}
	}
	clear(q.list[len(kept):])
	q.list = kept
	return dropped
}
