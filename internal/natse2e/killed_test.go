package natse2e

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The NATS server that leads the hub's stream, and then a host, are killed amid publishes, 10,000 of them with TANDEM_SLOW=1, and come back:
// nothing acknowledged is lost or stored twice, and the readers of the killed host go on elsewhere, all in one order.
func TestKilled(t *testing.T) {
	t.Parallel()
	total := 2000
	if os.Getenv("TANDEM_SLOW") != "" {
		total = 10000
	}
	c := newCluster(t)
	hosts := newHosts(t, c, "killed", "")
	all := everyKind(t, hosts)

	const publishers = 16
	data := strings.Repeat("x", 100)
	var mu sync.Mutex
	acknowledged, again := 0, 0
	longest := time.Duration(0)
	steps := map[int]func(){}
	var node *node
	steps[total/5] = func() {
		node = c.leader(t, "killed")
		node.kill()
		t.Logf("at %d %s is killed, the stream's leader", total/5, node.Name)
	}
	steps[total*2/5] = func() { hosts[0].kill(); t.Logf("at %d a host is killed", total*2/5) }
	steps[total*3/5] = func() { node.start(t) }
	steps[total*4/5] = func() { hosts[0].start(t) }
	begin := time.Now()
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			turn := append(append([]*host(nil), hosts[p%3:]...), hosts[:p%3]...)
			for i := p; i < total; i += publishers {
				topic := topics[i/publishers%len(topics)]
				began := time.Now()
				failed := publish(t, turn, fmt.Sprintf("%s-%d", topic, i), topic, data)
				mu.Lock()
				longest = max(longest, time.Since(began))
				again += failed
				acknowledged++
				step := steps[acknowledged]
				mu.Unlock()
				if step != nil {
					step()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d publishes in %v, %d attempts were not confirmed and made again, the longest took %v", total, time.Since(begin).Round(time.Millisecond), again, longest.Round(time.Millisecond))
	ids := stored(t, hosts, 1, total)
	seen := make(map[string]bool)
	for _, id := range ids {
		if seen[id] {
			t.Errorf("%s is stored twice", id)
		}
		seen[id] = true
	}
	if len(seen) != total {
		t.Errorf("%d are stored of %d that were acknowledged", len(seen), total)
	}
	sameOrder(t, ids, topicOf, all)
	moved := 0
	for _, r := range all {
		moved += r.state().times - 1
	}
	if moved < len(all)/len(hosts) {
		t.Errorf("%d readers went on elsewhere, expected those of the killed host", moved)
	}
	t.Logf("%d readers of %d went on elsewhere", moved, len(all))
}
