package hub_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/hub"
	"tandem/hub/bustest"
)

var seed = flag.Uint64("hub.seed", 0, "of the model test; 0: another one each time")

// TestModel: publishers, and subscribers of all policies in two processes that read slowly, leave and resume after the last
// event they got. Each has all events of its topics in the order of each, or was told of a gap.
func TestModel(t *testing.T) {
	n := *seed
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("-hub.seed=%d", n)
	rnd := rand.New(rand.NewPCG(n, 0))
	const topics, events = 6, 1500
	m := &bustest.Memory{Keep: 700}
	policies := []hub.Rule{{matcher(hub.Exact, "t1"), hub.DropOldest}, {matcher(hub.Exact, "t2"), hub.KeepLatest}, {matcher(hub.Exact, "t3"), hub.DropOldest}}
	var hubs []*hub.Hub
	for range 2 {
		hubs = append(hubs, newHub(t, m.Bus(), hub.Options{QueueEvents: 40, Slow: policies, Presence: true}))
	}
	var readers sync.WaitGroup
	done := make(chan struct{})
	for i := range 12 {
		r := &modelReader{t: t, name: fmt.Sprintf("reader %d", i), h: hubs[i%2], done: done,
			rnd: rand.New(rand.NewPCG(n, uint64(i)+1)), last: map[string]int{}, topics: map[string]bool{}}
		for j := range topics {
			if rnd.IntN(2) == 0 || j == i%topics {
				r.topics[fmt.Sprintf("t%d", j)] = true
			}
		}
		readers.Go(r.run)
	}
	var publishers sync.WaitGroup
	var counters [topics]struct {
		sync.Mutex
		n int
	}
	for i := range 3 {
		rnd := rand.New(rand.NewPCG(n, uint64(i)+100))
		publishers.Go(func() {
			for range events {
				c := rnd.IntN(topics)
				counters[c].Lock() // numbers are published in order
				counters[c].n++
				e := &hub.Event{Topic: fmt.Sprintf("t%d", c), Data: fmt.Sprint(counters[c].n)}
				err := hubs[rnd.IntN(2)].Publish(context.Background(), e)
				counters[c].Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishers.Wait()
	waited := make(chan struct{})
	go func() {
		readers.Wait()
		close(waited)
	}()
	// The end of each topic, again and again: to who is slow one may be dropped, too.
	for again, late := time.NewTicker(20*time.Millisecond), time.After(60*time.Second); ; {
		for i := range topics {
			publish(t, hubs[0], fmt.Sprintf("t%d", i), "end")
		}
		select {
		case <-again.C:
			continue
		case <-waited:
		case <-late:
			close(done)
			readers.Wait()
			t.Fatal("not all readers came to an end")
		}
		return
	}
}

type modelReader struct {
	t      *testing.T
	name   string
	h      *hub.Hub
	rnd    *rand.Rand
	topics map[string]bool
	done   chan struct{}

	mu     sync.Mutex
	last   map[string]int // the newest number of each topic
	ended  int            // topics that are through
	lastID string
	gaps   map[string]bool
	finish chan struct{}
}

// run connects again and again until it has the end of all topics.
func (r *modelReader) run() {
	r.finish = make(chan struct{})
	r.gaps = map[string]bool{}
	var list []hub.Matcher
	for topic := range r.topics {
		list = append(list, matcher(hub.Exact, topic))
	}
	if r.rnd.IntN(2) == 0 {
		list = append(list, matcher(hub.URITemplate, "{nothing}/like/{this}"))
	}
	for {
		slow := time.Duration(r.rnd.IntN(3)) * time.Millisecond
		over := make(chan error, 1)
		gone := false
		s := r.h.NewSubscriber(hub.SubscriberOptions{
			Name: r.name,
			Write: func(us []*hub.Update) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				if gone {
					return nil
				}
				for _, u := range us {
					r.take(u)
				}
				if slow > 0 {
					time.Sleep(slow) // a reader that is slow
				}
				return nil
			},
			End: func(err error) { over <- err },
		})
		r.mu.Lock()
		after := r.lastID
		r.mu.Unlock()
		err := s.Subscribe(context.Background(), &hub.Subscription{Matchers: list, After: after, Earliest: true,
			Start: func(recovered bool) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				if !recovered {
					r.lost()
				}
				return nil
			}})
		cut := time.After(time.Duration(1+r.rnd.IntN(40)) * time.Millisecond)
		if err == nil {
			select {
			case <-cut:
			case <-over:
			case <-r.finish:
			case <-r.done:
			}
		} else if err != hub.ErrTooSlow {
			r.t.Errorf("%s: %v", r.name, err)
		}
		r.mu.Lock()
		gone = true
		r.mu.Unlock()
		s.Close()
		select {
		case <-r.finish:
			return
		case <-r.done:
			r.mu.Lock()
			r.t.Errorf("%s has %v, ended %d of %d", r.name, r.last, r.ended, len(r.topics))
			r.mu.Unlock()
			return
		default:
		}
	}
}

// lost: each topic may miss something before its next event.
func (r *modelReader) lost() {
	for topic := range r.topics {
		r.gaps[topic] = true
	}
}

func (r *modelReader) take(u *hub.Update) {
	if u == hub.Gap {
		r.lost()
		return
	}
	if !r.topics[u.Topic] {
		r.t.Errorf("%s got an event of %s", r.name, u.Topic)
	}
	r.lastID = u.ID
	last := r.last[u.Topic]
	if u.Data == "end" {
		if r.last[u.Topic] >= 0 {
			r.last[u.Topic] = -1
			if r.ended++; r.ended == len(r.topics) {
				close(r.finish)
			}
		}
		return
	}
	n, _ := strconv.Atoi(u.Data)
	switch {
	case n <= last || last < 0:
		r.t.Errorf("%s got %d of %s after %d", r.name, n, u.Topic, last)
	case n > last+1 && !r.gaps[u.Topic] && !strings.HasPrefix(u.Topic, "t2"): // of t2 only the latest are kept
		r.t.Errorf("%s got %d of %s after %d, and was told of no gap", r.name, n, u.Topic, last)
	}
	r.last[u.Topic] = n
	r.gaps[u.Topic] = false
}
