package sqlitebus

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tandem/hub"
)

var body = strings.Repeat("x", 100)

// BenchmarkPublish is of one process, with 1 and with 8 publishers at once.
func BenchmarkPublish(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, n := range []int{1, 8} {
			b.Run(fmt.Sprintf("sync=%v/publishers=%d", sync, n), func(b *testing.B) {
				bus := newBus(b, newPath(b), Options{Sync: sync})
				publish(b, bus, "start", "t", "")
				var next atomic.Int64
				began := time.Now()
				b.ResetTimer()
				done := make(chan time.Duration, n)
				for range n {
					go func() {
						var worst time.Duration
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								done <- worst
								return
							}
							at := time.Now()
							publish(b, bus, fmt.Sprint("urn:uuid:", i*7919%1_000_003, "-", i), fmt.Sprint("https://example.com/books/", i%100), body)
							worst = max(worst, time.Since(at))
						}
					}()
				}
				var worst time.Duration
				for range n {
					worst = max(worst, <-done)
				}
				b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "events/s")
				b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
			})
		}
	}
}

// BenchmarkFollow is from the call of Publish to a follower of another process: its pipe is in it.
func BenchmarkFollow(b *testing.B) {
	report := func(b *testing.B, took []time.Duration) {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	}
	b.Run("processes", func(b *testing.B) {
		path := newPath(b)
		p := start(b, path, "both", "p")
		p.line(b)
		bus := newBus(b, path, Options{})
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			publish(b, bus, fmt.Sprint("e", len(took)), "t", body)
			p.line(b)
			took = append(took, time.Since(began))
		}
		report(b, took)
	})
	b.Run("instances", func(b *testing.B) {
		path := newPath(b)
		live := follow(b, newBus(b, path, Options{}), "t")
		bus := newBus(b, path, Options{})
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			publish(b, bus, fmt.Sprint("e", len(took)), "t", body)
			<-live
			took = append(took, time.Since(began))
		}
		report(b, took)
	})
}

// BenchmarkHistory is of 1,000 events, all and of one topic of ten.
func BenchmarkHistory(b *testing.B) {
	bus := newBus(b, newPath(b), Options{})
	for i := range 10_000 {
		if err := bus.Publish(context.Background(), &hub.Event{ID: fmt.Sprint("e", i), Topic: fmt.Sprint("t", i%10), Data: body}); err != nil {
			b.Fatal(err)
		}
	}
	for name, q := range map[string]hub.Query{"all": {After: "e8999"}, "topic": {Topics: []string{"t3"}, Earliest: true}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if events, _ := history(b, bus, q); len(events) != 1000 {
					b.Fatal(len(events))
				}
			}
		})
	}
}

// BenchmarkOnce is a process that publishes once: what New and Publish take, and with Close, by its own clock.
func BenchmarkOnce(b *testing.B) {
	for _, alone := range []bool{true, false} {
		b.Run(fmt.Sprintf("alone=%v", alone), func(b *testing.B) {
			path := newPath(b)
			bus := newBus(b, path, Options{})
			publish(b, bus, "start", "t", "")
			if alone {
				bus.Close()
			}
			var published, closed []int
			for b.Loop() {
				p := start(b, path, "once", fmt.Sprint("e", len(published)))
				var x, y int
				if _, err := fmt.Sscan(p.line(b), &x, &y); err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, p.stdout)
				p.end(b)
				published, closed = append(published, x), append(closed, y)
			}
			slices.Sort(published)
			slices.Sort(closed)
			b.ReportMetric(float64(published[len(published)/2]), "publish-p50-µs")
			b.ReportMetric(float64(closed[len(closed)/2]), "with-close-p50-µs")
		})
	}
}
