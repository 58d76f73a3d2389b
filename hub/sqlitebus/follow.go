package sqlitebus

import (
	"context"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tandem/hub"
)

// tail passes new events on to this process's followers. Its goroutine starts with the first of them, and looks into
// the file when it is woken: by this process's writer, by the others' datagrams, and every few
// seconds.
type tail struct {
	news chan struct{} // holds one

	mu        sync.Mutex
	running   bool
	followers map[string][]*follower // slices are never changed

	// The goroutine's.
	seq    uint64      // the last that was passed on
	info   fs.FileInfo // of the file as it was opened then
	failed bool        // that was logged
}

type follower struct {
	tell    hub.Follower
	stopped atomic.Bool
}

// look has the goroutine look.
func (t *tail) look() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// Follow is hub.Bus's.
func (b *Bus) Follow(topic string, f hub.Follower) (stop func(), err error) {
	t := &b.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := b.open(); err != nil {
		return nil, err
	}
	if !t.running {
		if err := b.startTail(); err != nil {
			return nil, err
		}
		t.running = true
		t.followers = make(map[string][]*follower)
	}
	fl := &follower{tell: f}
	t.followers[topic] = append(slices.Clip(t.followers[topic]), fl)
	return func() {
		if fl.stopped.Swap(true) {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		rest := slices.DeleteFunc(slices.Clone(t.followers[topic]), func(other *follower) bool { return other == fl })
		if t.followers[topic] = rest; len(rest) == 0 {
			delete(t.followers, topic)
		}
	}, nil
}

// startTail first has others wake this process, then looks where the file ends: so nothing that is stored from
// then on is missed.
func (b *Bus) startTail() error {
	if err := b.wake.listen(b); err != nil {
		return b.fault(err)
	}
	if err := b.read(context.Background(), func(f *file) error {
		e, err := f.end()
		b.tail.seq, b.tail.info = e.seq, f.info
		return err
	}); err != nil {
		return err
	}
	return b.work(b.follow)
}

// follow is the tail's goroutine.
func (b *Bus) follow() {
	t := &b.tail
	poll := time.NewTicker(b.opt.poll)
	defer poll.Stop()
	for {
		select {
		case <-t.news:
		case <-poll.C:
			b.wake.check(b)
		case <-b.closing:
			return
		}
		err := b.passOn()
		switch failed := err != nil && b.open() == nil; {
		case failed && !t.failed:
			b.opt.Log.Error("the hub's followers get nothing, until this is mended", "error", err)
		case !failed && t.failed:
			b.opt.Log.Info("the hub's followers get events again")
		}
		t.failed = err != nil
	}
}

// passOn tells followers what is new, a page at a time: while one reads, SQLite's log grows.
func (b *Bus) passOn() error {
	t := &b.tail
	for more := true; more; {
		var page []*item
		if err := b.read(context.Background(), func(f *file) error {
			if err := t.reopened(f); err != nil {
				return err
			}
			page, more = nil, false
			bytes := 0
			return f.rows(func(scan func(...any) error) (bool, error) {
				e, err := scanItem(scan)
				if err != nil {
					return false, err
				}
				page = append(page, e)
				bytes += len(e.Data)
				more = len(page) == pageEvents || bytes >= pageBytes
				return !more, nil
			}, columns+"WHERE seq > ? ORDER BY seq", int64(t.seq))
		}); err != nil {
			return err
		}
		for _, e := range page {
			if e.Seq != t.seq+1 && (t.seq > 0 || e.start > 0) {
				t.each(nil, func(fl *follower) { fl.tell(nil, true) })
			}
			t.seq = e.Seq
			t.each(&e.Event, func(fl *follower) { fl.tell(&e.Event, false) })
			if err := b.open(); err != nil {
				return err
			}
		}
	}
	return nil
}

// reopened sees to it that events come where f is another file now, or an older state of it that somebody has
// brought back.
func (t *tail) reopened(f *file) error {
	if f.info == t.info {
		return nil
	}
	e, err := f.end()
	if err != nil {
		return err
	}
	t.info = f.info
	if e.seq < t.seq {
		t.seq = e.seq
		t.each(nil, func(fl *follower) { fl.tell(nil, true) })
	}
	return nil
}

// each calls tell for those who follow e, or for all.
func (t *tail) each(e *hub.Event, tell func(*follower)) {
	t.mu.Lock()
	var lists [][]*follower
	if e == nil {
		for _, l := range t.followers {
			lists = append(lists, l)
		}
	} else {
		lists = [][]*follower{t.followers[e.Topic], t.followers[hub.Everything]}
	}
	t.mu.Unlock()
	for _, l := range lists {
		for _, fl := range l {
			if !fl.stopped.Load() {
				tell(fl)
			}
		}
	}
}
