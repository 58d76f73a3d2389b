package natsbus

import (
	"testing"

	"tandem/hub"
	"tandem/hub/bustest"
)

func TestBus(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	bustest.Run(t, func(t *testing.T, maxEvents int) func() bustest.Instance {
		o := Options{Servers: []string{n.url()}, Name: newName(), MaxEvents: int64(maxEvents)}
		return func() bustest.Instance { return open(t, o, lookEach, hub.PresenceInterval) }
	}, 1)
}

// The same with three servers that store all.
func TestBusCluster(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t)
	i := 0
	bustest.Run(t, func(t *testing.T, maxEvents int) func() bustest.Instance {
		o := Options{Name: newName(), MaxEvents: int64(maxEvents), Replicas: 3, Memory: true}
		return func() bustest.Instance {
			i++
			o.Servers = []string{nodes[i%3].url()}
			return open(t, o, lookEach, hub.PresenceInterval)
		}
	}, 2)
}
