package natse2e

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// unavailable expects that a publish fails, quickly and as it should.
func unavailable(t *testing.T, h *host) {
	t.Helper()
	began := time.Now()
	err := h.publish("a-lost", "a", "")
	took := time.Since(began)
	var answer *notPublished
	if !errors.As(err, &answer) || answer.status != http.StatusServiceUnavailable || answer.kind != "application/problem+json" || !strings.Contains(answer.text, "try again") {
		t.Errorf("a publish without NATS: %v", err)
	}
	if took > 8*time.Second { // 4 s where the connection was lost just now
		t.Errorf("the answer took %v", took)
	}
	t.Logf("without NATS: %v after %v", err, took.Round(time.Millisecond))
}

// All NATS servers are gone: publishing says so, and who subscribes stays and goes on when they are back. Where they have lost
// all that they had, a gap is told.
func TestGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hosts := newHosts(t, c, "gone", "")
	all := []*reader{
		newReader(t, hosts, 0, topics[:1], readStream), newReader(t, hosts, 0, topics, readSession),
		newReader(t, hosts, 1, topics, readStream),
	}
	publish(t, hosts, "a-1", "a", "")
	for _, r := range all {
		until(t, "a-1", func() bool { return r.has("a-1") })
	}
	want := []string{"a-1"}
	for _, wiped := range []bool{false, true} {
		for _, n := range c {
			n.kill()
			if wiped {
				if err := os.RemoveAll(n.Dir); err != nil {
					t.Fatal(err)
				}
			}
		}
		unavailable(t, hosts[0])
		before := all[0].state().comments
		until(t, "the stream lives", func() bool { return all[0].state().comments > before+1 })
		for _, n := range c {
			n.start(t)
		}
		id := "a-2"
		if wiped {
			id = "a-3"
		}
		began := time.Now()
		publish(t, hosts, id, "a", "")
		t.Logf("published %v after the servers' start", time.Since(began).Round(time.Millisecond))
		want = append(want, id)
		for i, r := range all {
			until(t, id, func() bool { return r.has(id) })
			got := r.state()
			if !slices.Equal(got.ids, want) || got.times != 1 || got.gaps > 0 != wiped {
				t.Errorf("reader %d, wiped %v: got %q, subscribed %d times, %d gaps; expected %q", i, wiped, got.ids, got.times, got.gaps, want)
			}
		}
	}
}

// A host that starts without NATS says so in its log, answers 503, and works once NATS is there.
func TestStart(t *testing.T) {
	t.Parallel()
	n := newNode(t, "alone")
	h := newHost(t, []string{n.url()}, "start", "")
	unavailable(t, h)
	for _, text := range []string{"the hub can't work", n.url(), "expected a NATS server there"} {
		until(t, "the log has "+text, func() bool { return strings.Contains(h.log(), text) })
	}
	n.start(t)
	publish(t, []*host{h}, "a-1", "a", "")
	until(t, "the log says that it works", func() bool { return strings.Contains(h.log(), "the hub's servers are ready") })
}
