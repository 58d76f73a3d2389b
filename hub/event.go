package hub

import (
	"errors"
	"time"
)

// An Event is one update of one topic. Once published it is never changed, and
// subscribers share it.
type Event struct {
	// ID is the event's name among all of the hub's: what a subscriber resumes after.
	// The publisher may give it; the hub makes one if not.
	ID    string
	Topic string
	Type  string // of Server-Sent Events; "" is "message"
	Data  string
	// Retry, in ms, is what Server-Sent Events ask of a subscriber that reconnects; 0: nothing.
	Retry   uint64
	Private bool

	// Seq and Time are the bus's: the place in the order that all subscribers see, which
	// grows with each event and is below 1<<53, and when it was stored, by the clock of whoever stored it.
	Seq  uint64
	Time time.Time
}

var (
	// ErrUnavailable is wrapped by what a Bus returns while it can't store or read: a full disk, a
	// locked or corrupt database, servers that are gone. The text says which, and what to do.
	ErrUnavailable = errors.New("the hub's storage is not available")
	// ErrTooLarge is wrapped where an event is more than the bus can store.
	ErrTooLarge = errors.New("the event is too large")
)
