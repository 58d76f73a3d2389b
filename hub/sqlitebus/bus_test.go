package sqlitebus

import (
	"path/filepath"
	"testing"

	"tandem/hub/bustest"
)

func TestBus(t *testing.T) {
	bustest.Run(t, func(t *testing.T, maxEvents int) func() bustest.Instance {
		path := filepath.Join(t.TempDir(), "hub.db")
		return func() bustest.Instance {
			b := New(path, &Options{MaxEvents: int64(maxEvents)})
			t.Cleanup(func() { b.Close() })
			return b
		}
	}, 1)
}
