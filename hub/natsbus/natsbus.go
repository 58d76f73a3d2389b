// Package natsbus is the hub's Bus for many machines: NATS servers join its processes.
//
// [New] makes one; it connects in the background, for ever. [Bus.Check] tells at a start whether
// all is well. What is stored is a JetStream stream, which the first process makes and the others share:
//
//	NAME.event.TOPIC  stored, in the stream NAME
//	NAME.live.TOPIC   the same as the stream republishes it once stored
//
// A process in which somebody follows has one subscription, to all live subjects, however many its followers and their topics are;
// of what nobody follows it reads no more than the sequence. Core NATS may lose messages, or change their order: with a connection, with a
// route between servers, with the stream's leader. So followers are called with an event only once all that were stored before it, of any
// topic, came; else those in between are fetched from the stream's leader. A reconnection, a full queue, and a look every few seconds find what was
// lost at the end.
//
// So each process gets all of the hub's events: sites that have nothing to tell each other have a hub, and a Name, each.
//
// What holds. A publish that returned without error is stored by a majority of Replicas; NATS by default doesn't
// sync each write to disk, so a power cut of a majority can take the last ones (sync_interval: always). An ID is
// stored once within Options.DuplicateWindow, of which the servers keep all IDs in memory; after that a second
// publish of it is a second event. History and presence are what the stream's leader says, though large answers
// may come from its replicas. A leader that is cut off may answer for a few seconds as if nothing were newer.
//
// What a user of the servers has to be allowed: to publish to NAME.event.>, NAME.presence.>, $JS.API.INFO,
// $JS.API.STREAM.*.NAME, $JS.API.STREAM.MSG.GET.NAME, $JS.API.DIRECT.GET.NAME, and the same of NAME-presence; to subscribe to
// NAME.live.> and _INBOX.>. Nobody else should be: who may publish there needs no token of the hub. What else goes over [Bus.Conn] needs more.
//
// Servers: nats-server 2.10 or newer; history is read faster from 2.11 on.
package natsbus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options of a Bus.
type Options struct {
	// Servers are URLs, such as nats://host:4222 or tls://host, of one or more servers of one cluster. Default:
	// nats://127.0.0.1:4222.
	Servers []string
	// Name is the hub's: its streams and subjects begin with it. Letters, digits, - and _. Default "tandem".
	Name string
	// ConnectionName is what the servers' monitoring shows for this process. Default "tandem".
	ConnectionName string

	Credentials Credentials
	TLS         TLS

	// Replicas is how many servers store each event: 1, 3 or 5. Default 1.
	Replicas int
	// Memory has the servers keep the history in memory alone.
	Memory bool
	// MaxAge, MaxEvents and MaxBytes bound the history. 0: no bound.
	MaxAge    time.Duration
	MaxEvents int64
	MaxBytes  int64
	// DuplicateWindow is for how long an ID is stored only once. The servers keep each ID of that time in
	// memory. Default, and least, hub.DuplicateWindow; at most MaxAge.
	DuplicateWindow time.Duration

	// Timeout bounds each call, as its context does: an election of the stream's leader takes seconds. A call
	// without a connection is given up sooner. Default 10 s.
	Timeout time.Duration
	// Log gets connections lost and found, and what else administrators should know. Nil: slog.Default().
	Log *slog.Logger
}

// Bus is a hub.Bus. It is safe for concurrent use.
type Bus struct {
	o        Options
	log      *slog.Logger
	nc       *nats.Conn
	js       jetstream.JetStream
	events   *store
	there    *presence
	ids      *index
	lookEach time.Duration

	ctx   context.Context // done when closed
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu        sync.Mutex
	feed      *feed         // nil: nobody follows
	connected chan struct{} // closed, and a new one made, with each connection
}

var _ hub.Bus = (*Bus)(nil)

// lookEach is how often a Bus looks for events that were lost without a sign.
const lookEach = 5 * time.Second

// New makes a Bus. Errors are those of the options; that no server answers is none.
func New(o Options) (*Bus, error) { return newBus(o, lookEach, hub.PresenceInterval) }

func newBus(o Options, lookEach, interval time.Duration) (*Bus, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &Bus{o: o, log: o.Log, lookEach: lookEach, connected: make(chan struct{})}
	b.ctx, b.end = context.WithCancel(context.Background())
	b.events = &store{b: b, config: b.eventStream}
	b.there = newPresence(b, interval)
	b.ids = &index{b: b, lock: make(chan struct{}, 1), seqs: make(map[uint64]uint64)}
	if err := b.connect(); err != nil {
		b.end()
		return nil, err
	}
	b.tasks.Go(b.lookAfter)
	return b, nil
}

// Check tells whether the servers can be reached and hold, or let this process make, what the hub needs.
func (b *Bus) Check(ctx context.Context) error {
	return b.retry(ctx, "the stream can't be opened", b.events.open)
}

// Conn is the connection, for what else goes over it. Close closes it.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Close ends the connection. Members that this process has in the presence list are then lost, to others.
func (b *Bus) Close() error {
	b.there.leave()
	b.end()
	b.nc.Close()
	b.tasks.Wait()
	b.mu.Lock()
	fd := b.feed
	b.mu.Unlock()
	if fd != nil {
		fd.wait() // a call that has begun ends
	}
	return nil
}
