package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// cgiConfig writes the endpoints for a program that the web server starts at
// base, and returns the file's path.
func cgiConfig(t *testing.T, base string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tandem.toml")
	toml := strings.ReplaceAll(endpoints, `path = "/tandem`, `path = "`+base)
	if err := os.WriteFile(file, []byte(servertest.WithEngine(toml)), 0o644); err != nil {
		t.Fatal(err)
	}
	openToAll(t, file)
	return file
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
