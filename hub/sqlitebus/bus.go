// Package sqlitebus is the hub's Bus for one host: an SQLite file that several processes use at
// once, CGI processes and FastCGI daemons, as they come and go.
//
// [New] makes a Bus of a file, and opens nothing: what a call needs is opened by it, and again after an
// error, so a Bus recovers when the disk has room again, or when somebody has put a broken file away. An event is
// acknowledged when the file has it: kill -9 loses none. A loss of power loses
// none with [Options.Sync].
//
// Processes wake each other by datagrams to private unix sockets in a folder beside
// the file; one that missed them looks by itself every few seconds. So nobody need be
// resident, and no process is more than another.
//
// The file is in WAL mode, so it must be on a local disk, never on one of a network. Its history is
// bounded by age, number and bytes; what is over a bound goes a few events at a time, with publishes. Linux only.
package sqlitebus

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tandem/hub"
)

// Defaults of Options.
const (
	DefaultMaxAge    = 24 * time.Hour
	DefaultMaxEvents = 100_000
	DefaultMaxBytes  = 64 << 20
)

// Options of a Bus. All processes of one file should have the same. The zero value works.
type Options struct {
	// MaxAge, MaxEvents and MaxBytes bound the history; 0 is the default, negative no bound. Bytes are
	// of events with what SQLite needs for each; the file is up to half as large again, and its log (-wal) 4 MB, for moments
	// a few times that where many processes publish without a pause. The newest event is always kept.
	MaxAge    time.Duration
	MaxEvents int64
	MaxBytes  int64
	// Sync has each publish wait for the disk (fsync), so that a loss of power loses none. Without, a
	// loss of power may lose the last publishes, but never breaks the file.
	Sync bool
	// Dir is the folder of the sockets; it is made with mode 0700. Default: the file's path and "-wake".
	Dir string
	Log *slog.Logger // nil: slog.Default()

	now      func() time.Time // a test's clock
	pragma   string           // more settings of each connection
	patience time.Duration
	poll     time.Duration
}

const (
	// patience is how long a call waits for a lock that another process has. Each has it
	// for milliseconds, but for a stopped one, or a person's sqlite3.
	patience = 5 * time.Second
	// poll is how often a process with followers looks for what it was not woken for.
	poll = 2 * time.Second
)

// Bus is this process among those of one file. It is safe for concurrent use.
type Bus struct {
	path string
	name string // of this process: its socket's
	opt  Options

	writer   writer
	reader   reader
	tail     tail
	wake     wake
	presence presence

	closing  chan struct{}
	closed   sync.Once
	workers  sync.WaitGroup
	starting sync.Mutex // guards workers.Add against Close
}

var _ hub.Bus = (*Bus)(nil)

// New makes a Bus of the file at path. It opens nothing yet, so what is wrong with the file shows
// with the first call. The caller must Close it.
func New(path string, opts *Options) *Bus {
	b := &Bus{path: path, closing: make(chan struct{})}
	if opts != nil {
		b.opt = *opts
	}
	if abs, err := filepath.Abs(path); err == nil {
		b.path = abs
	}
	fill(&b.opt.MaxAge, DefaultMaxAge)
	fill(&b.opt.MaxEvents, DefaultMaxEvents)
	fill(&b.opt.MaxBytes, DefaultMaxBytes)
	fill(&b.opt.Dir, b.path+"-wake")
	fill(&b.opt.Log, slog.Default())
	fill(&b.opt.patience, patience)
	fill(&b.opt.poll, poll)
	if b.opt.now == nil {
		b.opt.now = time.Now
	}
	b.name = strings.ToLower(rand.Text()[:16]) + suffix
	b.reader.lock = make(chan struct{}, 1)
	b.presence.lock = make(chan struct{}, 1)
	b.tail.news = make(chan struct{}, 1)
	return b
}

func fill[T comparable](option *T, standard T) {
	if *option == *new(T) {
		*option = standard
	}
}

// Close ends this process's part. Calls in progress end with an error. It must not be called
// by a follower.
func (b *Bus) Close() error {
	b.closed.Do(func() {
		b.starting.Lock()
		close(b.closing)
		b.starting.Unlock()
		b.wake.silence(b)
		b.workers.Wait()
		b.wake.close()
		b.reader.lock <- struct{}{} // for good
		b.reader.file.close()
	})
	return nil
}

// work runs f as one of the goroutines that Close waits for. It is an error where Close
// was called.
func (b *Bus) work(f func()) error {
	b.starting.Lock()
	defer b.starting.Unlock()
	if err := b.open(); err != nil {
		return err
	}
	b.workers.Go(f)
	return nil
}

// open is an error once Close was called.
func (b *Bus) open() error {
	select {
	case <-b.closing:
		return errClosed
	default:
		return nil
	}
}

// Publish is hub.Bus's.
func (b *Bus) Publish(ctx context.Context, e *hub.Event) error {
	most := int64(maxEvent)
	if b.opt.MaxBytes > 0 {
		most = min(most, b.opt.MaxBytes)
	}
	if n := size(e); n > most {
		return fmt.Errorf("sqlitebus: %w: with what is stored beside its data it has %d bytes, expected at most %d", hub.ErrTooLarge, n, most)
	}
	j := &job{event: *e, done: make(chan error, 1)}
	if err := b.write(ctx, j); err != nil {
		return err
	}
	e.Seq, e.Time = j.event.Seq, j.event.Time
	return nil
}

// maxEvent is what a connection, which has 256 MB of memory, can surely store and read.
const maxEvent = 32 << 20

// size is what an event takes up in the file, about: its ID and topic are there twice, in
// indexes too.
func size(e *hub.Event) int64 {
	return int64(2*len(e.ID) + 2*len(e.Topic) + len(e.Type) + len(e.Data) + 64)
}
