package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// replacePaths makes the endpoints' paths those below /cgi-bin/tandem.
func replacePaths(toml string) string {
	return strings.ReplaceAll(toml, `path = "/tandem`, `path = "/cgi-bin/tandem`)
}

// openToAll lets a web server that runs as another user read file.
func openToAll(t *testing.T, file string) {
	t.Helper()
	for dir := filepath.Dir(file); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// within is a context that bounds one step of a test: a step that hangs fails.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
