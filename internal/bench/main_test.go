package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQuick is scripts/bench --quick: everything runs, and every figure is there.
func TestQuick(t *testing.T) {
	r, err := bench(t.Context(), quickPlan, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	r.report(t.Output())
	if len(r.rates) != len(loads) || len(r.starts) != 2 {
		t.Errorf("%d loads and %d pairs of CGI programs, want %d and 2", len(r.rates), len(r.starts), len(loads))
	}
	for _, all := range r.rates {
		if len(all.names) < 4 {
			t.Errorf("contestants %v, want at least four", all.names)
		}
		for i, name := range all.names {
			for _, got := range all.of[i] {
				// CPU time is counted in hundredths of a second: it may be none.
				if got.perSecond <= 0 || got.p50 <= 0 || got.p99 < got.p50 {
					t.Errorf("%s, %v: %+v", name, all.load, got)
				}
			}
			if len(all.of[i]) != quickPlan.rounds {
				t.Errorf("%s, %v: %d rounds, want %d", name, all.load, len(all.of[i]), quickPlan.rounds)
			}
		}
	}
	for _, all := range r.starts {
		for i, name := range all.names {
			for _, got := range all.of[i] {
				if got.first <= 0 || got.echo < got.first {
					t.Errorf("%s, %s: %+v", all.name, name, got)
				}
			}
			if len(all.of[i]) != quickPlan.starts {
				t.Errorf("%s, %s: %d starts, want %d", all.name, name, len(all.of[i]), quickPlan.starts)
			}
		}
	}
}

// TestUpdate: the tables replace those in the document, and nothing else.
func TestUpdate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(file, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &results{rates: []rates{{load: load{1, 1}, names: []string{"bare", "ours"}, of: [][]rate{
		{{perSecond: 100, p50: 3 * time.Microsecond}, {perSecond: 200}, {perSecond: 300}},
		{{perSecond: 150}, {perSecond: 200}, {perSecond: 150}},
	}}}}
	for range 2 {
		if err := r.update(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	if !strings.HasPrefix(text, "before\n"+beginMark) || !strings.HasSuffix(text, endMark+"after\n") || strings.Contains(text, "old") {
		t.Errorf("got %s", text)
	}
	for _, want := range []string{"| bare | 200 (100–300) | 1 |", "| ours | 150 (150–200) | 1.00 (0.50–1.50) |"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("expected %q once in %s", want, text)
		}
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.update(file); err == nil {
		t.Error("a document without the marks: no error")
	}
}

// TestDocument: scripts/bench can put its tables into the document.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), beginMark)
	if !ok || !strings.Contains(rest, endMark) {
		t.Errorf("docs/benchmarks.md: expected %q and after it %q", beginMark, endMark)
	}
}
