package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// Received is what a measurement of [Receive] came to.
type Received struct {
	Messages int
	Bytes    int64
	Took     time.Duration
	Times    Histogram // from the time that a message carries until it came; of those that do
	CPU      []time.Duration
}

// PerSecond is the rate of messages, all sessions together.
func (r *Received) PerSecond() float64 { return float64(r.Messages) / r.Took.Seconds() }

// Receive opens sessions of package client that send nothing, and measures what comes
// for a while: an app that sends by itself, or to all. A message may begin with the
// Unix time of its sending; clocks of two machines are rarely equal.
func Receive(ctx context.Context, url string, o *client.Options, sessions int, during time.Duration, progress Progress, pids ...[]int) (*Received, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make([]*client.Conn, sessions)
	if _, err := run(ctx, sessions, min(sessions, closing), "opened", progress, func(i int) (_ time.Duration, err error) {
		ctx, cancel := context.WithTimeout(ctx, Patience)
		defer cancel()
		conns[i], err = client.Dial(ctx, url, o)
		return 0, err
	}); err != nil {
		for _, c := range conns {
			if c != nil {
				c.CloseNow()
			}
		}
		return nil, err
	}
	r := &Received{CPU: make([]time.Duration, len(pids))}
	for i, group := range pids {
		r.CPU[i] = -CPUTime(group)
	}
	start := time.Now()
	var count, size atomic.Int64
	var all sync.WaitGroup
	times := make([]Histogram, sessions)
	errs := make(chan error, sessions)
	for i, c := range conns {
		all.Go(func() {
			for {
				m, err := c.Receive(ctx)
				if err != nil {
					if ctx.Err() == nil && !errors.Is(err, io.EOF) {
						errs <- fmt.Errorf("session %d: %w", i+1, err)
					}
					return
				}
				if t, ok := sentAt(m.Data); ok {
					times[i].Add(time.Since(t))
				}
				count.Add(1)
				size.Add(int64(len(m.Data)))
			}
		})
	}
	err := wait(ctx, during, errs, func() { progress.tell("messages", int(count.Load()), 0) })
	r.Messages, r.Bytes, r.Took = int(count.Load()), size.Load(), time.Since(start)
	for i, group := range pids {
		r.CPU[i] += CPUTime(group)
	}
	cancel()
	all.Wait()
	for i, c := range conns {
		r.Times.Merge(&times[i])
		all.Go(func() { c.Close(frame.CodeNormal, "") })
	}
	all.Wait()
	return r, err
}

// sentAt reads the Unix time that a message begins with: digits, in seconds,
// milliseconds, microseconds or nanoseconds, by their number.
func sentAt(p []byte) (time.Time, bool) {
	n := 0
	for n < len(p) && p[n] >= '0' && p[n] <= '9' {
		n++
	}
	unit := map[int]time.Duration{10: time.Second, 13: time.Millisecond, 16: time.Microsecond, 19: time.Nanosecond}[n]
	v, err := strconv.ParseInt(string(p[:n]), 10, 64)
	if unit == 0 || err != nil {
		return time.Time{}, false
	}
	return time.Unix(0, v*int64(unit)), true
}
