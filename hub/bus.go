package hub

import "context"

// A Bus carries events between the processes of one hub, on one machine or many,
// and keeps those of late. Package bustest says what is expected of one, in tests.
// Who opens a Bus closes it.
type Bus interface {
	// Publish stores e and has it delivered to all followers, in this process and in
	// others. It sets e.Seq and e.Time, and returns once e is safe from the death of any
	// process of the hub. After an error e may be stored or not: who publishes
	// again under the same ID does not store it twice.
	Publish(ctx context.Context, e *Event) error

	// Follow has f called with the events of a topic that are stored from now on, in the order of Seq, each
	// once, until stop is called; with Everything, those of all topics. Calls for one
	// topic come one at a time. f must not block, nor call the bus.
	// stop may be called within f; once it has returned, no call begins that was not begun.
	Follow(topic string, f Follower) (stop func(), err error)

	// History passes stored events on, in the order of Seq, until yield returns false. What is stored
	// when it is called is all that it promises: who follows first, and then reads history, misses nothing
	// and drops what comes with a Seq that it has had.
	History(ctx context.Context, q Query, yield func(*Event) bool) (Span, error)

	// Presence applies changes to the list of who is there, and returns it as it is
	// then. A process has to call it at least every PresenceInterval, if only with no
	// change, or its members are gone: these are returned as lost, to one of the
	// processes that call, once.
	Presence(ctx context.Context, changes []Change) (present, lost []Member, err error)
}

// Everything is the topic of those who follow all; it is no topic that can be published.
const Everything = "*"

// A Follower is told of events. lost says that before e there were events that can't be had any
// more: a gap. e is nil where a gap has no event behind it yet.
type Follower func(e *Event, lost bool)

// A Query says which stored events are asked for.
type Query struct {
	Topics []string // any of these; nil: of all topics
	After  string   // events behind the one with this ID; "": Earliest or none
	// Earliest: from the oldest that is stored. So it is also where After isn't stored any more.
	Earliest bool
}

// A Span says what History found.
type Span struct {
	// Complete: nothing behind After, or nothing at all with Earliest, was lost to the history's bounds.
	Complete bool
	// LastID and LastSeq are of the newest event of all topics at the time; zero: none is stored.
	LastID  string
	LastSeq uint64
}

// A Member is one subscription of one subscriber, as others are shown it.
type Member struct {
	Subscriber string // the subscriber's id
	MatchType  string // "Exact" or "URLPattern"
	Match      string
	Payload    string // JSON, what its token or its app says of it; "" is none
}

// A Change says that a member came or went.
type Change struct {
	Member
	Gone bool
}
