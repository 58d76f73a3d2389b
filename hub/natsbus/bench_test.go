package natsbus

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go/jetstream"
)

func benchBus(b *testing.B, servers []string, replicas int) *Bus {
	b.Helper()
	return open(b, Options{Servers: servers, Name: newName(), Replicas: replicas, Log: slog.New(slog.DiscardHandler), Timeout: patience}, time.Hour, time.Hour)
}

var hundred = strings.Repeat("x", 100)

// BenchmarkPublish is how long an acknowledged publish of 100 bytes takes, with so many at a time, on one server and
// on three, with file storage.
func BenchmarkPublish(b *testing.B) {
	one := []string{newNode(b, nil).url()}
	var three []string
	for _, n := range newCluster(b) {
		three = append(three, n.url())
	}
	for _, replicas := range []int{1, 3} {
		for _, at := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("servers=%d/at=%d", replicas, at), func(b *testing.B) {
				servers := one
				if replicas == 3 {
					servers = three
				}
				bus := benchBus(b, servers, replicas)
				if err := bus.Check(b.Context()); err != nil {
					b.Fatal(err)
				}
				var n atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range at {
					wg.Go(func() {
						for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
							if err := bus.Publish(b.Context(), &hub.Event{ID: fmt.Sprint(i), Topic: fmt.Sprint(i % 10), Data: hundred}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
			})
		}
	}
}

// BenchmarkLatency is from the call of Publish to that of a follower in another Bus.
func BenchmarkLatency(b *testing.B) {
	bus, other := benchBus(b, []string{newNode(b, nil).url()}, 1), (*Bus)(nil)
	other = open(b, bus.o, time.Hour, time.Hour)
	came := make(chan time.Time, 1)
	stop, err := other.Follow("a", func(*hub.Event, bool) { came <- time.Now() })
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	var all []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		if err := bus.Publish(b.Context(), &hub.Event{ID: fmt.Sprint(i), Topic: "a", Data: hundred}); err != nil {
			b.Fatal(err)
		}
		all = append(all, (<-came).Sub(begin))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkHistory reads 100,000 events: all, those behind the 10th newest, and by a new process an ID that isn't stored.
func BenchmarkHistory(b *testing.B) {
	n := newNode(b, nil)
	bus := benchBus(b, []string{n.url()}, 1)
	if err := bus.Check(b.Context()); err != nil {
		b.Fatal(err)
	}
	const total = 100000
	for i := range total {
		m, err := bus.encode(&hub.Event{ID: fmt.Sprint(i), Topic: fmt.Sprint(i % 10), Data: hundred})
		if err == nil {
			_, err = bus.js.PublishMsgAsync(m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	<-bus.js.PublishAsyncComplete()
	read := func(b *testing.B, bus *Bus, q hub.Query) {
		n := 0
		if _, err := bus.History(b.Context(), q, func(*hub.Event) bool { n++; return true }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "events")
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			read(b, bus, hub.Query{Earliest: true})
		}
	})
	b.Run("resume", func(b *testing.B) {
		for b.Loop() {
			read(b, bus, hub.Query{After: fmt.Sprint(total - 101), Topics: []string{"1"}})
		}
	})
	b.Run("unknown ID", func(b *testing.B) {
		for b.Loop() {
			fresh := open(b, bus.o, time.Hour, time.Hour)
			read(b, fresh, hub.Query{After: "nothing"})
			fresh.Close()
		}
	})
}

// BenchmarkFollow is how long it takes to follow a topic in a process where others follow.
func BenchmarkFollow(b *testing.B) {
	bus := benchBus(b, []string{newNode(b, nil).url()}, 1)
	follow(b, bus, "first")
	for i := 0; b.Loop(); i++ {
		if _, err := bus.Follow(fmt.Sprint("topic", i), func(*hub.Event, bool) {}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFeed is what the process does for an event of 100 bytes, whose topic is followed or not, behind what nats.go
// does.
func BenchmarkFeed(b *testing.B) {
	bus := benchBus(b, []string{newNode(b, nil).url()}, 1)
	n := 0
	if _, err := bus.Follow("followed", func(*hub.Event, bool) { n++ }); err != nil {
		b.Fatal(err)
	}
	for _, topic := range []string{"followed", "another"} {
		b.Run(topic, func(b *testing.B) {
			m, err := bus.encode(&hub.Event{ID: "urn:uuid:8a2bc2ca-6fb6-4b4f-9a0c-3c4b1a0f6b1e", Topic: topic, Data: hundred})
			if err != nil {
				b.Fatal(err)
			}
			m.Subject = strings.TrimSuffix(bus.allLive(), everything) + topic
			for b.Loop() {
				m.Header.Set(jetstream.SequenceHeader, fmt.Sprint(bus.feed.last+1))
				bus.feed.message(m)
			}
		})
	}
}
