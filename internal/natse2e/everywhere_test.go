package natse2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

var topics = []string{"a", "b", "c", "d"}

// everyKind has readers at each host: of one topic and of several, streams and sessions.
func everyKind(t *testing.T, hosts []*host) []*reader {
	t.Helper()
	var all []*reader
	for i := range hosts {
		all = append(all,
			newReader(t, hosts, i, topics[:1], readStream),
			newReader(t, hosts, i, topics[1:3], readStream),
			newReader(t, hosts, i, topics, readStream),
			newReader(t, hosts, i, topics[1:2], readSession),
			newReader(t, hosts, i, topics, readSession))
	}
	return all
}

// stored is the IDs that a host has, in order, of all topics.
func stored(t *testing.T, hosts []*host, h, n int) []string {
	t.Helper()
	const earliest = "earliest"
	r := (&reader{hosts: hosts, topics: topics, began: make(chan struct{}), ids: []string{earliest}}).start(t, h, readStream)
	until(t, fmt.Sprintf("%d events are stored", n), func() bool { return len(r.state().ids) > n })
	return r.state().ids[1:]
}

// sameOrder waits until all readers have what is stored of their topics, and no more.
func sameOrder(t *testing.T, stored []string, topicOf func(id string) string, all []*reader) {
	t.Helper()
	for i, r := range all {
		want := slices.DeleteFunc(slices.Clone(stored), func(id string) bool { return !slices.Contains(r.topics, topicOf(id)) })
		if len(want) > 0 {
			until(t, "the last event", func() bool { return r.has(want[len(want)-1]) })
		}
		got := r.state()
		if strings.Join(got.ids, " ") != strings.Join(want, " ") {
			t.Errorf("reader %d of %q got %d events of %d, or others, or in another order%s", i, r.topics, len(got.ids), len(want), firstDifference(got.ids, want))
		}
		if got.gaps+got.missing > 0 {
			t.Errorf("reader %d of %q was told of %d gaps, and %d times that events behind its last are lost", i, r.topics, got.gaps, got.missing)
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf(": at %d got %q, want %q", i, got[i:min(i+5, len(got))], want[min(i, len(want)):min(i+5, len(want))])
		}
	}
	return ""
}

// What is published at any host is received at all of them, by streams and sessions, in one order.
func TestEverywhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hosts := newHosts(t, c, "everywhere", "")
	all := everyKind(t, hosts)
	const publishers, each = 6, 50
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				topic := topics[(p+i)%len(topics)]
				publish(t, hosts[p%len(hosts):], fmt.Sprintf("%s-%d-%d", topic, p, i), topic, "data")
			}
		})
	}
	wg.Wait()
	ids := stored(t, hosts, 1, publishers*each)
	if len(ids) != publishers*each {
		t.Errorf("%d events are stored, expected %d", len(ids), publishers*each)
	}
	sameOrder(t, ids, topicOf, all)
}

func topicOf(id string) string { return id[:1] }
