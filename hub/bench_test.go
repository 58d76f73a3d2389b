package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tandem/hub"
	"tandem/hub/bustest"
)

// cpu is what this process has used of the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFanOut publishes 100 bytes to many subscribers, who take them for nothing, or by writing them to a
// unix socket that somebody reads. CPU in ns, of this process, for each delivery.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		for _, kind := range []string{"exact", "pattern"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				list := exact("x")
				if kind == "pattern" {
					list = []hub.Matcher{matcher(hub.URITemplate, "{x}")}
				}
				fanOut(b, n, list, func(u *hub.Update) error { _ = u.SSE(); return nil })
			})
		}
		b.Run(fmt.Sprintf("socket/%d", n), func(b *testing.B) {
			pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				b.Fatal(err)
			}
			var reading sync.WaitGroup
			reading.Go(func() {
				for buf := make([]byte, 1<<20); ; {
					if n, _ := syscall.Read(pair[1], buf); n <= 0 {
						return
					}
				}
			})
			fanOut(b, n, exact("x"), func(u *hub.Update) error {
				_, err := syscall.Write(pair[0], u.SSE())
				return err
			})
			syscall.Close(pair[0])
			reading.Wait()
			syscall.Close(pair[1])
		})
	}
}

func fanOut(b *testing.B, n int, list []hub.Matcher, write func(*hub.Update) error) {
	h := newHub(b, new(bustest.Memory).Bus(), hub.Options{QueueEvents: 1 << 20, QueueBytes: 1 << 30})
	var got atomic.Int64
	all := make(chan struct{}, 1)
	for range n {
		s := h.NewSubscriber(hub.SubscriberOptions{Write: func(us []*hub.Update) error {
			for _, u := range us {
				if err := write(u); err != nil {
					return err
				}
			}
			if got.Add(int64(len(us)))%int64(n) == 0 {
				select {
				case all <- struct{}{}:
				default:
				}
			}
			return nil
		}})
		defer s.Close()
		if err := s.Subscribe(context.Background(), &hub.Subscription{Matchers: list}); err != nil {
			b.Fatal(err)
		}
	}
	data := strings.Repeat("x", 100)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	for b.Loop() {
		publish(b, h, "x", data)
		<-all
	}
	b.StopTimer()
	deliveries := float64(b.N) * float64(n)
	b.ReportMetric(float64(cpu()-start)/deliveries, "cpu-ns/delivery")
	b.ReportMetric(float64(b.Elapsed())/deliveries, "ns/delivery")
}
