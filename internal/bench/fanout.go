package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// One publisher, many subscribers.

// An Audience are the subscribers of one topic.
type Audience interface {
	// Open opens subscriber i. Some are opened at once.
	Open(ctx context.Context, i int) error
	// Listen tells of what comes to all that are open, until Close. It returns at once.
	Listen(Listener)
	// Close ends all subscribers, and waits until no Listener is called any more.
	Close()
}

// A Listener is told of an audience. For one subscriber nothing is called twice at the same time.
type Listener interface {
	// Heard is called with the data of each event. worker is any number: who always have the same one don't
	// wait for others. at is when it was read.
	Heard(worker, i int, data []byte, at time.Time)
	// Failed is called when subscriber i has ended.
	Failed(i int, err error)
}

// A Publisher publishes one event and waits until it was taken.
type Publisher func(ctx context.Context, data string) error

// A FanOut is an audience that has been opened. One goroutine uses it.
type FanOut struct {
	audience Audience
	publish  Publisher
	size     int
	progress Progress

	began    time.Time
	next     uint64 // number of the next event; the first is 1
	first    uint64 // number of the first event that all get
	ears     []ear
	expected []atomic.Uint64 // number of each subscriber's next event; 0: it has had none
	joined   atomic.Int64    // those that had one
	lost     atomic.Int64
	doubled  atomic.Int64
	events   [ring]onWay
	news     chan struct{} // holds one: an event is with all, or somebody has joined
	errs     chan error    // holds one
}

// onWay is an event that may still be on its way.
type onWay struct {
	sent    atomic.Int64 // since began
	settled atomic.Int64 // subscribers that have it, or have a later one
}

// ring is how many events may be on their way.
const ring = 1 << 10

// MostAhead is the most that a FanOutLoad's Ahead may be.
const MostAhead = ring - 1

// An ear counts what some of the subscribers hear.
type ear struct {
	mu        sync.Mutex
	times     Histogram
	delivered int
	_         [64]byte // the next one's neighbour is another core's
}

// LeastSize is the least that an event's data may have: its number.
const LeastSize = 20

// OpenFanOut opens so many subscribers, some at once, and publishes until each has had an event. Events have data of size
// bytes. The caller must Close what it returns.
func OpenFanOut(ctx context.Context, a Audience, publish Publisher, subscribers, opening, size int, progress Progress) (*FanOut, Opened, error) {
	f := &FanOut{audience: a, publish: publish, size: max(size, LeastSize), progress: progress, began: time.Now(), next: 1,
		ears: make([]ear, runtime.GOMAXPROCS(0)), expected: make([]atomic.Uint64, subscribers), news: make(chan struct{}, 1), errs: make(chan error, 1)}
	opened, err := run(ctx, subscribers, opening, "opened", progress, func(i int) (time.Duration, error) {
		start := time.Now()
		err := a.Open(ctx, i)
		return time.Since(start), err
	})
	if err == nil {
		a.Listen(f)
		err = f.join(ctx)
	}
	if err != nil {
		f.Close()
		return nil, opened, err
	}
	return f, opened, nil
}

// Close ends all subscribers.
func (f *FanOut) Close() { f.audience.Close() }

// join publishes until all have heard something: a server may answer a subscriber before all of its processes know of it.
func (f *FanOut) join(ctx context.Context) error {
	everybody := int64(len(f.expected))
	for deadline := time.Now().Add(Patience); f.joined.Load() < everybody; {
		if err := f.send(ctx); err != nil {
			return err
		}
		f.first = f.next
		err := f.until(ctx, time.Second, func() bool { return f.joined.Load() == everybody })
		if err == nil || !errors.Is(err, errLate) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d subscribers have got no event in %v: expected that each gets those of the topic that is published", everybody-f.joined.Load(), everybody, Patience)
		}
	}
	return nil
}

// A FanOutLoad is how much is published.
type FanOutLoad struct {
	Rate         float64       // events a second; 0: as fast as they are delivered
	Ahead        int           // an event is published only when all have the one that is so many before it
	Warm, During time.Duration // the time before measuring, and the measurement
}

func (l FanOutLoad) String() string {
	if l.Rate == 0 {
		return "as fast as it goes"
	}
	return fmt.Sprintf("%v events a second", l.Rate)
}

// FannedOut is what a measurement came to.
type FannedOut struct {
	Events    int           // published
	Delivered int           // each event to each subscriber
	Took      time.Duration // from the first's publication until all had the last
	Times     Histogram     // from before an event was published until a subscriber had read it
	CPU       []time.Duration
	// Lost and Doubled are counted since the subscribers were opened. An event that comes after a later one is both.
	Lost, Doubled int
}

// PerSecond is the rate of deliveries.
func (r *FannedOut) PerSecond() float64 { return float64(r.Delivered) / r.Took.Seconds() }

// Measure publishes for a while, waits until all have everything, and measures from then on until that is so again. CPU is the
// time that each of these groups of processes used meanwhile. An event that somebody hasn't got, nor a later one, is
// an error after a while.
func (f *FanOut) Measure(ctx context.Context, l FanOutLoad, pids ...[]int) (*FannedOut, error) {
	if l.Ahead < 1 || l.Ahead > MostAhead {
		return nil, fmt.Errorf("events ahead: expected 1 to %d, got %d", MostAhead, l.Ahead)
	}
	defer f.tell()()
	if _, err := f.publishFor(ctx, l, l.Warm); err != nil {
		return nil, err
	}
	for i := range f.ears {
		e := &f.ears[i]
		e.mu.Lock()
		e.times, e.delivered = Histogram{}, 0
		e.mu.Unlock()
	}
	r := &FannedOut{CPU: make([]time.Duration, len(pids))}
	for i, group := range pids {
		r.CPU[i] = -CPUTime(group)
	}
	start := time.Now()
	var err error
	if r.Events, err = f.publishFor(ctx, l, l.During); err != nil {
		return nil, err
	}
	r.Took = time.Since(start)
	for i, group := range pids {
		r.CPU[i] += CPUTime(group)
	}
	for i := range f.ears {
		e := &f.ears[i]
		e.mu.Lock()
		r.Times.Merge(&e.times)
		r.Delivered += e.delivered
		e.mu.Unlock()
	}
	r.Lost, r.Doubled = int(f.lost.Load()), int(f.doubled.Load())
	return r, nil
}

// tell reports how far it is, once a second, until the function that it returns is called.
func (f *FanOut) tell() (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n := 0
				for i := range f.ears {
					e := &f.ears[i]
					e.mu.Lock()
					n += e.delivered
					e.mu.Unlock()
				}
				f.progress.tell("events delivered", n, 0)
			case <-over:
				return
			}
		}
	}()
	return func() { close(over); <-done }
}

// publishFor publishes for d, at least once, and waits until all have all. n is how many events that was.
func (f *FanOut) publishFor(ctx context.Context, l FanOutLoad, d time.Duration) (n int, err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for start := time.Now(); n == 0 || time.Since(start) < d; n++ {
		if l.Rate > 0 {
			due := time.Duration(float64(n) / l.Rate * float64(time.Second))
			if n > 0 && due >= d {
				break
			}
			timer.Reset(due - time.Since(start))
			select {
			case <-timer.C:
			case err := <-f.errs:
				return n, err
			case <-ctx.Done():
				return n, context.Cause(ctx)
			}
		}
		if f.next > uint64(l.Ahead) {
			if err := f.settle(ctx, f.next-uint64(l.Ahead)); err != nil {
				return n, err
			}
		}
		if err := f.send(ctx); err != nil {
			return n, err
		}
	}
	return n, f.settle(ctx, f.next-1)
}

// send publishes the next event.
func (f *FanOut) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	e := &f.events[f.next%ring]
	e.settled.Store(0)
	data := strconv.FormatUint(f.next, 10) + " "
	data += strings.Repeat("x", max(0, f.size-len(data)))
	e.sent.Store(int64(time.Since(f.began)))
	f.next++
	if err := f.publish(ctx, data); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// settle waits until all have event n.
func (f *FanOut) settle(ctx context.Context, n uint64) error {
	if n < f.first {
		return nil
	}
	e := &f.events[n%ring]
	everybody := int64(len(f.expected))
	err := f.until(ctx, Patience, func() bool { return e.settled.Load() >= everybody })
	if errors.Is(err, errLate) {
		return fmt.Errorf("%d of %d subscribers have not got event %d after %v", everybody-e.settled.Load(), everybody, n, Patience)
	}
	return err
}

var errLate = errors.New("too late")

// until waits for something that news tells of, at most for so long.
func (f *FanOut) until(ctx context.Context, most time.Duration, done func() bool) error {
	if done() {
		return nil
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		select {
		case <-f.news:
			if done() {
				return nil
			}
		case err := <-f.errs:
			return err
		case <-timer.C:
			return errLate
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *FanOut) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Failed is a Listener's.
func (f *FanOut) Failed(i int, err error) {
	select {
	case f.errs <- fmt.Errorf("subscriber %d: %w", i+1, err):
	default:
	}
}

// Heard is a Listener's.
func (f *FanOut) Heard(worker, i int, data []byte, at time.Time) {
	n, ok := eventNumber(data)
	if !ok {
		f.Failed(i, fmt.Errorf("expected data that begins with the number of an event, got %.100q", data))
		return
	}
	next := f.expected[i].Load()
	if n < next {
		f.doubled.Add(1)
		return
	}
	f.expected[i].Store(n + 1)
	ear := &f.ears[worker%len(f.ears)]
	ear.mu.Lock()
	ear.delivered++
	ear.times.Add(at.Sub(f.began) - time.Duration(f.events[n%ring].sent.Load()))
	ear.mu.Unlock()
	everybody := int64(len(f.expected))
	if next == 0 {
		next = n
		if f.joined.Add(1) == everybody {
			f.wake()
		}
	}
	if n > next {
		f.lost.Add(int64(n - next))
	}
	for ; next <= n; next++ {
		if f.events[next%ring].settled.Add(1) == everybody {
			f.wake()
		}
	}
}

// eventNumber reads what an event's data begins with.
func eventNumber(p []byte) (n uint64, ok bool) {
	for i, c := range p {
		if c < '0' || c > '9' {
			return n, i > 0 && i < LeastSize && n > 0
		}
		n = n*10 + uint64(c-'0')
	}
	return 0, false
}
