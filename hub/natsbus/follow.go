package natsbus

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// feed is a topic in use, or Everything: one subscription, and all that follow it.
//
// The servers keep the live messages of a feed that is busy fetching, or whose followers are slow, in the
// subscription's queue; what doesn't fit is dropped, and fetched later.
type feed struct {
	b       *Bus
	topic   string
	stored  string // subject
	ready   chan struct{}
	readyOK error         // before ready is closed it is nobody's but init's
	gone    chan struct{} // closed once nobody follows

	sub       atomic.Pointer[nats.Subscription]
	followers atomic.Pointer[[]*follower] // replaced under Bus.mu

	mu sync.Mutex // held while followers are called
	// last is the sequence up to which followers had all events, or need none.
	last uint64
	lost bool // say so with the next event
	live bool // an event came since the last look
}

type follower struct {
	f       hub.Follower
	stopped atomic.Bool
}

// Follow calls f with the events of a topic; see hub.Bus.
func (b *Bus) Follow(topic string, f hub.Follower) (stop func(), err error) {
	if b.ctx.Err() != nil {
		return nil, b.unavailable(b.ctx, "a topic can't be followed", b.ctx.Err())
	}
	me := &follower{f: f}
	b.mu.Lock()
	fd := b.feeds[topic]
	if fd == nil {
		fd = &feed{b: b, topic: topic, stored: b.stored(topic), ready: make(chan struct{}), gone: make(chan struct{})}
		if topic == hub.Everything {
			fd.stored = b.allStored()
		}
		fd.followers.Store(new([]*follower))
		b.feeds[topic] = fd
		go fd.start()
	}
	list := append(slices.Clone(*fd.followers.Load()), me)
	fd.followers.Store(&list)
	b.mu.Unlock()

	<-fd.ready
	if fd.readyOK != nil {
		b.leave(fd, me)
		return nil, fd.readyOK
	}
	return func() { b.leave(fd, me) }, nil
}

// leave ends one follower, and the feed with the last.
func (b *Bus) leave(fd *feed, me *follower) {
	if me.stopped.Swap(true) {
		return
	}
	b.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(*fd.followers.Load()), func(f *follower) bool { return f == me })
	fd.followers.Store(&list)
	last := len(list) == 0
	if last {
		if b.feeds[fd.topic] == fd {
			delete(b.feeds, fd.topic)
		}
		close(fd.gone)
	}
	b.mu.Unlock()
	if sub := fd.sub.Load(); last && sub != nil {
		_ = sub.Unsubscribe()
	}
}

func (fd *feed) has(sub *nats.Subscription) bool { return fd.sub.Load() == sub }

// start subscribes and then asks the stream's leader for its last sequence: whatever is stored
// once it has answered is published to this subscription, of which its server knew before it was asked.
func (fd *feed) start() {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	defer close(fd.ready)
	b := fd.b
	subject := b.live(fd.topic)
	if fd.topic == hub.Everything {
		subject = b.allLive()
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.o.Timeout)
	defer cancel()
	sub, err := b.nc.Subscribe(subject, fd.message)
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
	fd.last = st.last
}

// fail has the next who follows start anew.
func (fd *feed) fail(ctx context.Context, err error) {
	b := fd.b
	if b.ctx.Err() != nil {
		err = b.unavailable(ctx, "a topic can't be followed", err)
	}
	fd.readyOK = err
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.feeds[fd.topic] == fd {
		delete(b.feeds, fd.topic)
	}
}

// message takes one that the stream republished. It is called by one goroutine per feed.
func (fd *feed) message(m *nats.Msg) {
	seq, err := number(m.Header, jetstream.SequenceHeader)
	if err != nil {
		return // nothing that the stream published
	}
	before, err := number(m.Header, jetstream.LastSequenceHeader)
	if err != nil {
		return
	}
	if fd.topic == hub.Everything {
		before = seq - 1
	}
	e, err := decode(m.Header, m.Data, seq)
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.over() || seq <= fd.last {
		return
	}
	for wait := 10 * time.Millisecond; before > fd.last; wait = min(2*wait, time.Second) {
		if fd.fetch(fd.b.ctx, before, true) == nil {
			break
		}
		select {
		case <-fd.gone:
			return
		case <-fd.b.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
	fd.live = true
	fd.last = max(fd.last, seq)
	fd.give(e, err)
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

// give calls the followers. fd.mu is held.
func (fd *feed) give(e *hub.Event, err error) {
	if err != nil {
		fd.b.log.Error("natsbus: an event can't be read", "topic", fd.topic, "error", err)
		fd.lost = true
		return
	}
	if e != nil && fd.topic != hub.Everything && e.Topic != fd.topic {
		return
	}
	lost := fd.lost
	fd.lost = false
	for _, f := range *fd.followers.Load() {
		if !f.stopped.Load() && fd.b.ctx.Err() == nil {
			f.f(e, lost)
		}
	}
}

// fetch gives what is stored behind fd.last, up to a sequence. With doubt, it is a gap if the stream has lost what
// might have been between. After an error it can be called again. fd.mu is held.
func (fd *feed) fetch(ctx context.Context, to uint64, doubt bool) error {
	c := &cursor{s: fd.b.events, subject: fd.stored, from: fd.last + 1}
	for fd.last < to {
		if err := c.fill(ctx); err != nil {
			return err
		}
		if doubt { // first what there is, then what there was before
			st, err := fd.b.events.state(ctx)
			if err != nil {
				return err
			}
			fd.lost = fd.lost || st.first > fd.last+1
		}
		if c.done {
			fd.last = to
			break
		}
		for _, m := range c.buf {
			if fd.over() {
				return nil
			}
			if m.seq > to {
				fd.last = to
				break
			}
			e, err := decode(m.header, m.data, m.seq)
			fd.last = m.seq
			fd.give(e, err)
		}
	}
	return nil
}

// look gives what the stream has up to a sequence, 0: its last, and the subscription never brought. A stream that was remade may have had
// events that nobody knows of.
func (fd *feed) look(to uint64, doubt, remade bool) error {
	<-fd.ready
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.over() || fd.readyOK != nil {
		return nil
	}
	fd.live = false
	fd.lost = fd.lost || remade
	if to == 0 {
		st, err := fd.b.events.state(fd.b.ctx)
		if err != nil {
			return err
		}
		to = st.last
	}
	if err := fd.fetch(fd.b.ctx, to, doubt); err != nil {
		return err
	}
	if fd.lost {
		fd.give(nil, nil)
	}
	return nil
}

// settled tells whether a feed has all up to a sequence, and quiet whether it has to be looked at, if not: one
// that gets events tells by itself.
func (fd *feed) settled(last uint64) (settled, quiet bool) {
	select {
	case <-fd.ready:
	default:
		return false, false
	}
	if !fd.mu.TryLock() {
		return false, false
	}
	defer fd.mu.Unlock()
	live := fd.live
	fd.live = false
	return fd.last >= last, !live
}

// lookAfter finds what was lost without a sign: after each connection with all feeds, and every few
// seconds with those that had no event meanwhile though the stream had one.
func (b *Bus) lookAfter() {
	tick := time.NewTicker(b.lookEach)
	defer tick.Stop()
	var created time.Time
	var seen uint64 // all feeds have all up to there
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
		feeds := slices.Collect(maps.Values(b.feeds))
		b.mu.Unlock()
		if len(feeds) == 0 {
			doubt = false // there is nobody to be told
			continue
		}
		st, err := b.events.state(b.ctx)
		if err != nil {
			doubt = true
			continue
		}
		remade := !created.IsZero() && st.created != created
		all := true
		if !doubt && !remade {
			if st.last == seen {
				continue
			}
			feeds = slices.DeleteFunc(feeds, func(fd *feed) bool {
				settled, quiet := fd.settled(st.last)
				all = all && (settled || quiet)
				return settled || !quiet
			})
		}
		if !b.lookAll(feeds, st.last, doubt, remade) {
			continue
		}
		doubt, created = false, st.created
		if all {
			seen = st.last
		}
		b.looked.Store(&st)
	}
}

// lookers is how many feeds are looked at at a time.
const lookers = 16

func (b *Bus) lookAll(feeds []*feed, to uint64, doubt, remade bool) (ok bool) {
	var failed atomic.Bool
	var wg sync.WaitGroup
	slots := make(chan struct{}, lookers)
	for _, fd := range feeds {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if fd.look(to, doubt, remade) != nil {
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	return !failed.Load()
}
