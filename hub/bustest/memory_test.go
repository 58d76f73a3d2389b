package bustest

import (
	"testing"

	"tandem/hub"
)

// What stands in for a Bus in the tests of others is one.
func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T, maxEvents int) func() Instance {
		m := &Memory{Keep: maxEvents}
		return func() Instance { return &killed{m.Bus(), m, false} }
	}, 1)
}

// killed is a Bus that can be closed.
type killed struct {
	hub.Bus
	m    *Memory
	done bool
}

func (k *killed) Close() error {
	if !k.done {
		k.m.Kill(k.Bus)
	}
	k.done = true
	return nil
}
