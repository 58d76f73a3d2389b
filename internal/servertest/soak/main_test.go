package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// TestShort is scripts/soak with seconds for minutes: every route, every row.
func TestShort(t *testing.T) {
	o := options{idle: 4 * time.Second, heartbeat: time.Second}
	rows, err := soak(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	print(t.Output(), rows)
	seen := make(map[string]bool)
	for _, r := range rows {
		if r.err != nil {
			t.Error(r.err)
		}
		if r.open < o.idle {
			t.Errorf("%s, %s: open for %v only", r.route, r.codec, r.open)
		}
		seen[r.route+" "+r.config] = true
	}
	if len(seen) != 15 {
		t.Errorf("%d routes and configurations were tried, want 15: %v", len(seen), seen)
	}
}

// TestCut: a session that a time-out cuts is found.
func TestCut(t *testing.T) {
	td := servertest.StartTandem(t, "[endpoint.echo]\napp = \"echo\"\ngrace = \"0s\"\nheartbeat = \"1h\"\n")
	source := t.TempDir()
	root, err := servertest.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "nginx/tandem.conf"))
	if err != nil {
		t.Fatal(err)
	}
	cutting := strings.Replace(string(text), "client_body_timeout  1h", "client_body_timeout  1s", 1)
	if err := os.Mkdir(filepath.Join(source, "nginx"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "nginx/tandem.conf"), []byte(cutting), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "nginx/upstream.conf"), filepath.Join(source, "nginx/upstream.conf")); err != nil {
		t.Fatal(err)
	}
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket, Source: source})
	r := route{options: options{idle: 10 * time.Second, heartbeat: time.Hour}, name: "cut", url: nginx.FastCGI()}
	for _, c := range r.checks() {
		t.Run(c.codec, func(t *testing.T) {
			t.Parallel()
			var got row
			err := c.run(t.Context(), &got)
			if err == nil || !strings.Contains(err.Error(), "cut after") || got.open > 8*time.Second {
				t.Errorf("open for %v, error %v; want it cut", got.open, err)
			}
		})
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	servertest.Cleanup()
	os.Exit(code)
}
