package natsbus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// feed is the subscription to what the stream republishes, and all who follow. It is there while somebody does.
//
// Sequences tell what it lacks: behind n comes n+1, whatever the topic. That is why it hears all topics: who only
// hears some can't tell a loss from an event of another topic, and would pass later events on before those lost.
//
// The servers keep the live messages of a feed that is busy fetching, or whose followers are slow, in the
// subscription's queue; what doesn't fit is dropped, and fetched later.
type feed struct {
	b     *Bus
	ready chan struct{}
	err   error         // before ready is closed it is nobody's but start's
	gone  chan struct{} // closed once nobody follows
	sub   atomic.Pointer[nats.Subscription]

	followers map[string][]*follower // by token; the slices are never changed. Guarded by Bus.mu

	mu      sync.Mutex // held while followers are called
	created time.Time  // of the stream
	last    uint64     // up to there followers had all events, or need none
	lost    bool       // say so before the next event
	live    bool       // an event came since the last look
}

type follower struct {
	topic   string
	f       hub.Follower
	stopped atomic.Bool
}

// everything is the token of those who follow all; it is no topic's.
const everything = "*"

func followedToken(topic string) string {
	if topic == hub.Everything {
		return everything
	}
	return token(topic)
}

// Follow calls f with the events of a topic; see hub.Bus.
func (b *Bus) Follow(topic string, f hub.Follower) (stop func(), err error) {
	if b.ctx.Err() != nil {
		return nil, b.unavailable(b.ctx, "a topic can't be followed", b.ctx.Err())
	}
	me := &follower{topic: topic, f: f}
	tok := followedToken(topic)
	b.mu.Lock()
	fd := b.feed
	if fd == nil {
		fd = &feed{b: b, ready: make(chan struct{}), gone: make(chan struct{}), followers: make(map[string][]*follower)}
		b.feed = fd
		go fd.start()
	}
	fd.followers[tok] = append(slices.Clip(fd.followers[tok]), me)
	b.mu.Unlock()

	<-fd.ready
	if fd.err != nil {
		b.leave(fd, tok, me)
		return nil, fd.err
	}
	return func() { b.leave(fd, tok, me) }, nil
}

// leave ends one follower, and the feed with the last.
func (b *Bus) leave(fd *feed, tok string, me *follower) {
	if me.stopped.Swap(true) {
		return
	}
	b.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(fd.followers[tok]), func(f *follower) bool { return f == me })
	if fd.followers[tok] = rest; len(rest) == 0 {
		delete(fd.followers, tok)
	}
	last := len(fd.followers) == 0
	if last {
		if b.feed == fd {
			b.feed = nil
		}
		close(fd.gone)
	}
	b.mu.Unlock()
	if sub := fd.sub.Load(); last && sub != nil {
		_ = sub.Unsubscribe()
	}
}

// start subscribes and then asks the stream's leader for its last sequence: whatever is stored
// once it has answered is published to this subscription, of which its server knew before it was asked.
func (fd *feed) start() {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	defer close(fd.ready)
	b := fd.b
	ctx, cancel := context.WithTimeout(b.ctx, b.o.Timeout)
	defer cancel()
	sub, err := b.nc.Subscribe(b.allLive(), fd.message)
	if err != nil {
		fd.fail(ctx, err)
		return
	}
	fd.sub.Store(sub)
	st, err := b.events.state(ctx)
	if err != nil {
		_ = sub.Unsubscribe()
		fd.fail(ctx, err)
		return
	}
	fd.last, fd.created = st.last, st.created
}

// fail has the next who follows start anew.
func (fd *feed) fail(ctx context.Context, err error) {
	b := fd.b
	if b.ctx.Err() != nil {
		err = b.unavailable(ctx, "a topic can't be followed", err)
	}
	fd.err = err
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.feed == fd {
		b.feed = nil
	}
}

// message takes one that the stream republished. It is called by one goroutine.
func (fd *feed) message(m *nats.Msg) {
	seq, err := number(m.Header, jetstream.SequenceHeader)
	if err != nil {
		return // nothing that the stream published
	}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if fd.over() || seq <= fd.last {
			return
		}
		if fd.last == seq-1 || fd.fetch(fd.b.ctx, seq-1) == nil {
			break
		}
		select {
		case <-fd.gone:
		case <-fd.b.ctx.Done():
		case <-time.After(wait):
		}
	}
	fd.live = true
	fd.last = seq
	tok := m.Subject[len(fd.b.allLive())-len(everything):]
	if !fd.lost && !fd.followed(tok) {
		return // as most may be: it isn't even decoded
	}
	e, err := decode(m.Header, m.Data, seq)
	if err != nil {
		fd.unreadable(m.Subject, err)
		return
	}
	fd.give(e)
}

func (fd *feed) over() bool {
	select {
	case <-fd.gone:
		return true
	default:
		return fd.b.ctx.Err() != nil
	}
}

// wait returns once no call is being made.
func (fd *feed) wait() {
	fd.mu.Lock()
	defer fd.mu.Unlock()
}

func (fd *feed) followed(tok string) bool {
	fd.b.mu.Lock()
	defer fd.b.mu.Unlock()
	return len(fd.followers[tok]) > 0 || len(fd.followers[everything]) > 0
}

// topics are those that are followed; nil: all.
func (fd *feed) topics() []string {
	fd.b.mu.Lock()
	defer fd.b.mu.Unlock()
	if len(fd.followers[everything]) > 0 {
		return nil
	}
	list := make([]string, 0, len(fd.followers))
	for _, l := range fd.followers {
		list = append(list, l[0].topic)
	}
	return list
}

func (fd *feed) unreadable(subject string, err error) {
	fd.b.log.Error("natsbus: an event can't be read", "subject", subject, "error", err)
	fd.lost = true
}

// give tells all followers of what was lost, and those of e's topic of e, unless that is nil. fd.mu is held.
func (fd *feed) give(e *hub.Event) {
	var lists [][]*follower
	lost := fd.lost
	fd.lost = false
	fd.b.mu.Lock()
	if lost {
		for _, l := range fd.followers {
			lists = append(lists, l)
		}
	}
	gaps := len(lists)
	if e != nil {
		lists = append(lists, fd.followers[token(e.Topic)], fd.followers[everything])
	}
	fd.b.mu.Unlock()
	for i, l := range lists {
		for _, f := range l {
			switch {
			case f.stopped.Load() || fd.b.ctx.Err() != nil:
			case i < gaps:
				f.f(nil, true)
			case f.topic == e.Topic || f.topic == hub.Everything:
				f.f(e, false)
			}
		}
	}
}

// fetch gives what is stored behind fd.last, up to a sequence that was stored before fetch is called: who comes to
// follow meanwhile doesn't need it. After an error it can be called again. fd.mu is held.
func (fd *feed) fetch(ctx context.Context, to uint64) error {
	var topics []string
	if to-fd.last > batchMessages { // fewer are one answer
		topics = fd.topics()
	}
	r := reader{b: fd.b, to: to}
	r.yield = func(e *hub.Event) bool {
		if fd.over() {
			return false
		}
		fd.lost = fd.lost || r.pruned
		r.pruned = false
		fd.last = e.Seq
		fd.give(e)
		return true
	}
	r.open(topics, fd.last+1)
	err := r.run(ctx)
	fd.lost = fd.lost || r.pruned
	if err == nil {
		fd.last = to
	}
	return err
}

// look gives what the stream has and the subscription never brought.
func (fd *feed) look() error {
	<-fd.ready
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.over() || fd.err != nil {
		return nil
	}
	fd.live = false
	st, err := fd.b.events.state(fd.b.ctx)
	if err != nil {
		return err
	}
	if st.created != fd.created && st.last < fd.last {
		// A stream that begins anew. One that this package made goes on with larger sequences, and what it lacks is a gap like others.
		fd.last, fd.lost = st.last, true
	}
	fd.created = st.created
	if st.last > fd.last {
		if err := fd.fetch(fd.b.ctx, st.last); err != nil {
			return err
		}
	}
	if fd.lost {
		fd.give(nil)
	}
	return nil
}

// quiet tells whether a feed has to be looked at: one that gets events finds by itself what was lost between.
func (fd *feed) quiet() bool {
	if !fd.mu.TryLock() {
		return false
	}
	defer fd.mu.Unlock()
	live := fd.live
	fd.live = false
	return !live
}

// lookAfter finds what was lost behind the last event that came: after each connection, and every few
// seconds if nothing came meanwhile.
func (b *Bus) lookAfter() {
	tick := time.NewTicker(b.lookEach)
	defer tick.Stop()
	doubt := false
	for {
		reconnected := b.reconnected()
		select {
		case <-b.ctx.Done():
			return
		case <-reconnected:
			doubt = true
		case <-tick.C:
		}
		b.mu.Lock()
		fd := b.feed
		b.mu.Unlock()
		if fd == nil {
			doubt = false // there is nobody to be told
			continue
		}
		if doubt || fd.quiet() {
			doubt = fd.look() != nil
		}
	}
}
