package sqlitebus

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"

	"tandem/hub"
)

// writer has the connection that writes. Its goroutine starts with the first write. What waits while it commits goes
// into the next transaction together, so that many publishers share one commit. That is the back-pressure, too:
// a publisher waits for its own commit.
type writer struct {
	file file // the goroutine's

	mu      sync.Mutex
	queue   []*job
	news    chan struct{}
	running bool
}

// A job is one write: an event, or what do does.
type job struct {
	event     hub.Event
	do        func(*file) error // nil: store the event
	committed func()            // called when do is done for good
	done      chan error        // takes one
}

// A batch is at most batchJobs, and batchBytes but for its first job.
const (
	batchJobs  = 256
	batchBytes = 4 << 20
)

// write has j done, and waits for that or for ctx.
func (b *Bus) write(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.open(); err != nil {
		return err
	}
	w := &b.writer
	w.mu.Lock()
	if !w.running {
		w.news = make(chan struct{}, 1)
		if err := b.work(b.writeAll); err != nil {
			w.mu.Unlock()
			return err
		}
		w.running = true
	}
	w.queue = append(w.queue, j)
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		select {
		case err := <-j.done:
			return err
		default:
			return errClosed
		}
	}
}

func (w *writer) batch() []*job {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < min(len(w.queue), batchJobs) {
		if bytes += size(&w.queue[n].event); bytes > batchBytes && n > 0 {
			break
		}
		n++
	}
	batch := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return batch
}

// writeAll is the writer's goroutine.
func (b *Bus) writeAll() {
	w := &b.writer
	defer w.file.close()
	for {
		select {
		case <-w.news:
		case <-b.closing:
			return
		}
		for batch := w.batch(); len(batch) > 0 && b.open() == nil; batch = w.batch() {
			err := b.fault(b.commit(batch))
			if err == nil {
				b.wake.others(b)
				b.tail.look()
			}
			for _, j := range batch {
				if err == nil && j.committed != nil {
					j.committed()
				}
				j.done <- err
			}
			b.limitLog()
		}
	}
}

// commit does jobs in one transaction.
func (b *Bus) commit(batch []*job) (err error) {
	f := &b.writer.file
	if err := f.ready(b); err != nil {
		return err
	}
	if err := b.begin(f); err != nil {
		f.drop(err)
		return err
	}
	defer func() {
		if err != nil {
			// Some errors have rolled back already, and then this one is no news.
			_, _ = f.exec("ROLLBACK")
			f.drop(err)
		}
	}()
	end, err := f.end()
	if err != nil {
		return err
	}
	begin := end
	for _, j := range batch {
		if j.do != nil {
			err = j.do(f)
		} else {
			err = f.store(&j.event, &end, b.opt.now())
		}
		if err != nil {
			return err
		}
	}
	if err := b.prune(f, end, int64(end.seq-begin.seq), end.bytes-begin.bytes); err != nil {
		return err
	}
	_, err = f.exec("COMMIT")
	return err
}

// limitLog has SQLite begin its log anew. SQLite does that by itself, but only in a moment in which nobody reads or writes,
// and there may be none. Here others wait for the readers of that moment, who are short.
func (b *Bus) limitLog() {
	info, err := os.Stat(b.path + "-wal")
	if err != nil || info.Size() <= 2*maxLog || b.writer.file.conn == nil {
		return
	}
	f := &b.writer.file
	// It is tried again with the next commit.
	_ = f.conn.BusyTimeout(100 * time.Millisecond)
	_, _ = f.exec("PRAGMA wal_checkpoint(RESTART)")
	_ = f.conn.BusyTimeout(0)
}

// begin waits for the right to write.
func (b *Bus) begin(f *file) error {
	return b.insist(func() error {
		_, err := f.exec("BEGIN IMMEDIATE")
		return err
	})
}

// insist tries for as long as somebody else has a lock. Each has it for a fraction of a millisecond; SQLite's own
// waiting sleeps for up to 100.
func (b *Bus) insist(try func() error) error {
	deadline := time.Now().Add(b.opt.patience)
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 4*time.Millisecond) {
		err := try()
		if code(err) != sqlite3.BUSY || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-b.closing:
			return errClosed
		}
	}
}

// An end is where the next event goes.
type end struct {
	seq   uint64 // the newest event's, 0: none
	bytes int64  // start of the next event
}

func (f *file) end() (e end, err error) {
	var start, size int64
	_, err = f.row([]any{&e.seq, &start, &size}, "SELECT seq, start, size FROM events ORDER BY seq DESC LIMIT 1")
	e.bytes = start + size
	return e, err
}

// store adds e at end, or gives it the Seq and Time of the one that has its ID.
func (f *file) store(e *hub.Event, end *end, now time.Time) error {
	seq, n := end.seq+1, size(e)
	if end.seq == 0 {
		seq = uint64(now.UnixMicro())
	}
	stored, err := f.exec("INSERT INTO events (seq, time, start, size, id, topic, type, private, retry, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
		int64(seq), now.UnixMicro(), end.bytes, n, e.ID, e.Topic, e.Type, e.Private, int64(e.Retry), e.Data)
	if err != nil {
		return err
	}
	if stored == 1 {
		e.Seq, e.Time = seq, time.UnixMicro(now.UnixMicro())
		end.seq, end.bytes = seq, end.bytes+n
		return nil
	}
	var at int64
	found, err := f.row([]any{&e.Seq, &at}, "SELECT seq, time FROM events WHERE id = ?", e.ID)
	if err == nil && !found {
		err = errors.New("an event is neither stored nor there")
	}
	e.Time = time.UnixMicro(at)
	return err
}

// prune removes what is over a bound, the oldest first. It removes a bit more than was added, in events and
// in bytes: so the bound is kept, and no publisher waits long after the bounds have been made narrower, or all has
// become too old.
func (b *Bus) prune(f *file, end end, added, bytes int64) error {
	var upTo uint64
	number, most := int64(0), 2*bytes+pruneBytes
	oldest := b.oldest()
	err := f.rows(func(scan func(...any) error) (bool, error) {
		var seq uint64
		var at, start, size int64
		if err := scan(&seq, &at, &start, &size); err != nil {
			return false, err
		}
		switch {
		case seq == end.seq:
			return false, nil
		case at < oldest:
		case b.opt.MaxEvents > 0 && end.seq-seq >= uint64(b.opt.MaxEvents):
		case b.opt.MaxBytes > 0 && end.bytes-start > b.opt.MaxBytes:
		default:
			return false, nil
		}
		upTo = seq
		number++
		most -= size
		return number < 2*added+pruneEvents && most > 0, nil
	}, "SELECT seq, time, start, size FROM events ORDER BY seq")
	if err != nil || upTo == 0 {
		return err
	}
	_, err = f.exec("DELETE FROM events WHERE seq <= ?", int64(upTo))
	return err
}

// A transaction removes twice what it adds, and these.
const (
	pruneEvents = 4
	pruneBytes  = 64 << 10
)

// oldest is the time before which events are over the bound, in µs.
func (b *Bus) oldest() int64 {
	if b.opt.MaxAge < 0 {
		return 0
	}
	return b.opt.now().Add(-b.opt.MaxAge).UnixMicro()
}
