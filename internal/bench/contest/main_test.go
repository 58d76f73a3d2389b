package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/internal/bench"
)

// TestContest: everything runs, and every figure is there.
func TestContest(t *testing.T) {
	r, err := contest(t.Context(), testPlan, everything, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	r.report(&report)
	t.Log(report.String())
	if len(r.rates) != len(loads) || len(r.starts) != 3 || len(r.idle) != 3 {
		t.Errorf("%d loads, %d pairs, %d sitters, want %d, 3 and 3", len(r.rates), len(r.starts), len(r.idle), len(loads))
	}
	for _, all := range r.rates {
		if len(all.names) < 9 {
			t.Errorf("contestants %v, want at least nine", all.names)
		}
		for i, name := range all.names {
			for _, got := range all.of[i] {
				// CPU time is counted in hundredths of a second: it may be none.
				if got.perSecond <= 0 || got.p50 <= 0 || got.p99 < got.p50 || got.max < got.p99 {
					t.Errorf("%s, %v: %+v", name, all.load, got)
				}
			}
			if len(all.of[i]) != testPlan.rounds {
				t.Errorf("%s, %v: %d rounds, want %d", name, all.load, len(all.of[i]), testPlan.rounds)
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
			if len(all.of[i]) < testPlan.starts {
				t.Errorf("%s, %s: %d starts, want at least %d", all.name, name, len(all.of[i]), testPlan.starts)
			}
		}
	}
	for _, all := range r.idle {
		// Fifty sessions may fit into memory that was there before.
		if len(all.of) != testPlan.sits {
			t.Errorf("%s, idle: %d measurements, want %d", all.sitter.name, len(all.of), testPlan.sits)
		}
	}
	for _, g := range goals() {
		if len(g.value(r)) == 0 && !g.optional {
			t.Errorf("not measured: %s", g.figure)
		}
	}
	checkPlot(t, r)
	checkFanOut(t, r)
}

func checkFanOut(t *testing.T, r *results) {
	t.Helper()
	if len(r.fanOut.of) != len(testPlan.fanOut.subscribers) {
		t.Errorf("%d numbers of subscribers, want %d", len(r.fanOut.of), len(testPlan.fanOut.subscribers))
	}
	for _, all := range r.fanOut.of {
		for l := range fanLoads {
			for b, name := range all.names {
				if len(all.of[l][b]) != testPlan.fanOut.rounds || len(all.memory[b]) != testPlan.fanOut.rounds {
					t.Errorf("%s: %d rounds, want %d", name, len(all.of[l][b]), testPlan.fanOut.rounds)
				}
				for _, got := range all.of[l][b] {
					if got.perSecond <= 0 || got.events <= 0 || got.p50 <= 0 || got.p99 < got.p50 || got.max < got.p99 || got.lost+got.doubled > 0 {
						t.Errorf("%s, %d subscribers, %v: %+v", name, all.subscribers, fanLoads[l], got)
					}
				}
			}
		}
	}
	for _, g := range r.fanGoals() {
		if len(g.value(r)) == 0 && !g.optional {
			t.Errorf("not measured: %s", g.figure)
		}
	}
	var report strings.Builder
	r.reportFanOut(&report)
	t.Log(report.String())
	if got, want := strings.Count(report.String(), "| "+fanTandem+" |"), len(r.fanOut.of)*(len(fanLoads)+1); got != want {
		t.Errorf("%d rows of %s, want %d", got, fanTandem, want)
	}
}

func checkPlot(t *testing.T, r *results) {
	t.Helper()
	var svg bytes.Buffer
	r.plot(&svg)
	rects := 0
	for d := xml.NewDecoder(&svg); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			rects++
		}
	}
	if least := 2*len(r.rates[0].names) + len(r.idle); rects < least {
		t.Errorf("%d bars in the plot, want at least %d", rects, least)
	}
}

// TestGoalRow: a goal says whether it is met, by the median.
func TestGoalRow(t *testing.T) {
	values := []float64{1, 3, 2}
	for _, c := range []struct {
		most  bool
		limit float64
		want  string
	}{{true, 2, "≤ 2 | 2.0 (1.0–3.0) | yes"}, {true, 1.9, "| no |"}, {false, 2, "≥ 2 | 2.0 (1.0–3.0) | yes"}, {false, 2.1, "| no |"}} {
		g := goal{figure: "f", most: c.most, limit: c.limit, number: "%.1f", value: func(*results) []float64 { return values }}
		if got := g.row(nil); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s, want %q", c, got, c.want)
		}
	}
	for limit, want := range map[float64]string{2.9: "| no |", 3: "| yes |"} {
		g := goal{most: true, worst: true, limit: limit, number: "%.1f", value: func(*results) []float64 { return values }}
		if got := g.row(nil); !strings.Contains(got, want) {
			t.Errorf("the worst, at most %v: %s, want %q", limit, got, want)
		}
	}
}

// TestUpdate: the tables replace those in the document, and nothing else.
func TestUpdate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(file, []byte("before\n"+mainSection.begin+"old\n"+mainSection.end+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &results{rates: []rates{{load: bench.Load{Sessions: 1, Depth: 1}, names: []string{goWebSocket, "ours"}, of: [][]rate{
		{{perSecond: 100, p50: 3 * time.Microsecond}, {perSecond: 200}, {perSecond: 300}},
		{{perSecond: 150}, {perSecond: 200}, {perSecond: 150}},
	}}}}
	for range 2 {
		if err := mainSection.update(r, file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	if !strings.HasPrefix(text, "before\n"+mainSection.begin) || !strings.HasSuffix(text, mainSection.end+"after\n") || strings.Contains(text, "old") {
		t.Errorf("got %s", text)
	}
	for _, want := range []string{"| " + goWebSocket + " | 200 (100–300) | 1 |", "| ours | 150 (150–200) | 1.00 (0.50–1.50) |"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("expected %q once in %s", want, text)
		}
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := mainSection.update(r, file); err == nil {
		t.Error("a document without the marks: no error")
	}
}

// TestDocument: scripts/bench can put its tables into the document.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []section{mainSection, fanOutSection} {
		_, rest, ok := strings.Cut(string(text), s.begin)
		if !ok || !strings.Contains(rest, s.end) {
			t.Errorf("docs/benchmarks.md: expected %q and after it %q", s.begin, s.end)
		}
	}
}
