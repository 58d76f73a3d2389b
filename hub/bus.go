package hub

import (
	"context"
	"time"
)

// A Bus carries events between the processes of one hub, on one machine or many,
// and keeps those of late. Package bustest says what is expected of one, in tests.
// It is safe for concurrent use, and opens and mends by itself what it needs: an error is no end of it, but
// for Close. Who makes a Bus closes it; then its methods return errors that wrap ErrUnavailable, and
// no follower is called.
type Bus interface {
	// Publish stores e and has it delivered to all followers, in this process and in
	// others. It sets e.Seq and e.Time, and returns once e is safe from the death of any
	// process of the hub. After an error, that of ctx too, e may be stored or not: who publishes
	// again under the same ID within DuplicateWindow does not store it twice. Then what was stored first stays as it is,
	// and e.Seq is its. Followers are given events of their own, not e.
	Publish(ctx context.Context, e *Event) error

	// Follow has f called with the events of a topic that are stored from now on, each
	// once, until stop is called; with Everything, those of all topics. What was stored just before may come
	// too. All followers of a Bus are called one at a time, in the order of Seq over all topics: when one is called, no event that
	// was stored before is still to come, to it or to another one. So who follows several topics can resume after the last event that
	// any of them brought. f must not block, nor call the bus.
	// stop may be called within f, and twice; once it has returned, no call begins that was not begun.
	Follow(topic string, f Follower) (stop func(), err error)

	// History passes stored events on, in the order of Seq, until yield returns false. What is stored
	// when it is called is all that it passes on, up to Span.LastSeq: who follows first, and then reads history,
	// misses nothing, and drops what the follower brings up to LastSeq. yield may block, and call the bus.
	History(ctx context.Context, q Query, yield func(*Event) bool) (Span, error)

	// Presence applies changes to the members that this Bus has, and passes the members of all on to list, unless that is nil,
	// until it returns false: in no order. A process has to call it every PresenceInterval,
	// if only with no change, and before it ends for those who leave then: members of a process that was
	// closed or died without are returned as lost, once, to one of the processes that call. A process that was only
	// taken for dead has its members back when it calls.
	Presence(ctx context.Context, changes []Change, list func(Member) bool) (lost []Member, err error)
}

const (
	// PresenceInterval is how often a process calls Presence. One that hasn't for three times as long may be
	// taken for dead.
	PresenceInterval = 10 * time.Second
	// DuplicateWindow is for how long at least a Bus knows the ID of an event that its history still has room for.
	DuplicateWindow = 2 * time.Minute
)

// Everything is the topic of those who follow all; it is no topic that can be published.
const Everything = "*"

// A Follower is told of events. lost says that before e there were events that can't be had any
// more: a gap. e is nil where a gap has no event behind it yet.
type Follower func(e *Event, lost bool)

// A Query says which stored events are asked for.
type Query struct {
	Topics []string // any of these; nil: of all topics
	// After asks for the events behind the one with this ID, of whichever topic that is.
	After string
	// Earliest asks for all from the oldest, where After is "" or isn't stored (any more). Without either nothing is
	// passed on.
	Earliest bool
}

// A Span says what History found.
type Span struct {
	// Complete: nothing behind After, or nothing at all where only Earliest is asked for, was lost to the history's
	// bounds, while it was read either. An After that isn't stored is not complete; where nothing is asked for all is.
	// It says nothing of a history that yield has ended.
	Complete bool
	// LastID and LastSeq are of the newest event of all topics at the time, which the bounds may spare; zero: none is stored.
	LastID  string
	LastSeq uint64
}

// A Member is one subscription of one subscriber, as others are shown it. One that comes
// again, with the same Subscriber, MatchType and Match, has a new Payload.
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
