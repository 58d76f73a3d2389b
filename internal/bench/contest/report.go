package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// report writes the tables, in Markdown.
func (r *results) report(to io.Writer) {
	fmt.Fprintf(to, "%v\n", r.conditions)
	r.conditions.warn(to)
	fmt.Fprint(to, "\n## Goals\n")
	goalTable(to, goals(), r)
	fmt.Fprintf(to, "\n## Rates\n\nMessages/s as ratios to the %s's, medians:\n\n", goWebSocket)
	r.summary(to)
	for _, all := range r.rates {
		all.report(to)
	}
	r.reportIdle(to)
	for _, all := range r.starts {
		all.report(to)
	}
	if len(r.allocs) > 0 {
		fmt.Fprint(to, "\n## Allocations\n\nOne message in and one out, the client's part included, which allocates nothing:\n\n| benchmark | ns | bytes | allocations |\n|---|---|---|---|\n")
		for _, a := range r.allocs {
			fmt.Fprintf(to, "| %s | %.0f | %d | %d |\n", a.name, a.nanos, a.bytes, a.allocs)
		}
	}
}

func goalTable(to io.Writer, goals []goal, r *results) {
	fmt.Fprint(to, "\n| figure | goal | reached | met |\n|---|---|---|---|\n")
	for _, g := range goals {
		fmt.Fprint(to, g.row(r))
	}
}

func (all *rates) report(to io.Writer) {
	fmt.Fprintf(to, "\n### %s\n\n", all.load)
	fmt.Fprintln(to, "| | messages/s | ratio | p50 µs | p99 µs | max ms | CPU µs/message, web server + program | ratio | client's |")
	fmt.Fprintln(to, "|---|---|---|---|---|---|---|---|---|")
	for i, rs := range all.of {
		ratio := [2]string{"1", "1"}
		if i > 0 {
			ratio[0] = ratios(column(rs, perSecond), column(all.of[0], perSecond)).format("%.2f")
			ratio[1] = ratios(column(rs, cpu), column(all.of[0], cpu)).format("%.2f")
		}
		fmt.Fprintf(to, "| %s | %s | %s | %s | %s | %.1f | %.1f + %.1f | %s | %.1f |\n", all.names[i],
			spreadOf(column(rs, perSecond)).format("%.0f"), ratio[0],
			spreadOf(column(rs, p50)).format("%.0f"),
			spreadOf(column(rs, p99)).format("%.0f"),
			spreadOf(column(rs, func(r rate) float64 { return millis(r.max) })).max,
			spreadOf(column(rs, func(r rate) float64 { return micros(r.web) })).median,
			spreadOf(column(rs, func(r rate) float64 { return micros(r.backend) })).median, ratio[1],
			spreadOf(column(rs, func(r rate) float64 { return micros(r.client) })).median)
	}
}

func (r *results) reportIdle(to io.Writer) {
	if len(r.idle) == 0 {
		return
	}
	fmt.Fprint(to, "\n## Idle sessions\n\n| | sessions | program, KiB each | web server, KiB each | program, % of a core | web server, % of a core |\n|---|---|---|---|---|---|\n")
	for _, all := range r.idle {
		fmt.Fprintf(to, "| %s | %d | %s | %s", all.sitter.name, all.sitter.sessions,
			spreadOf(column(all.of, func(s sat) float64 { return s.backend })).format("%.1f"),
			spreadOf(column(all.of, func(s sat) float64 { return s.web })).format("%.1f"))
		if all.sitter.hold == 0 {
			fmt.Fprintln(to, " | | |")
			continue
		}
		fmt.Fprintf(to, " | %s | %s |\n", spreadOf(column(all.of, func(s sat) float64 { return s.backendCPU })).format("%.2f"),
			spreadOf(column(all.of, func(s sat) float64 { return s.webCPU })).format("%.2f"))
	}
}

func (all *starts) report(to io.Writer) {
	fmt.Fprintf(to, "\n### Start of a %s\n\n| | open, ms | ratio | message back, ms | ratio |\n|---|---|---|---|---|\n", all.name)
	for i, ss := range all.of {
		ratio := [2]string{"1", "1"}
		if i > 0 {
			ratio[0] = ratios(startGroups(ss, firstOf), startGroups(all.of[0], firstOf)).format("%.2f")
			ratio[1] = ratios(startGroups(ss, echoOf), startGroups(all.of[0], echoOf)).format("%.2f")
		}
		fmt.Fprintf(to, "| %s | %s | %s | %s | %s |\n", all.names[i],
			spreadOf(startGroups(ss, firstOf)).format("%.2f"), ratio[0], spreadOf(startGroups(ss, echoOf)).format("%.2f"), ratio[1])
	}
}

// summary writes one row for each contestant and one column for each load.
func (r *results) summary(to io.Writer) {
	if len(r.rates) == 0 {
		return
	}
	fmt.Fprint(to, "|")
	for _, all := range r.rates {
		fmt.Fprintf(to, " | %s", all.load)
	}
	fmt.Fprintf(to, " |\n|---|%s\n", strings.Repeat("---|", len(r.rates)))
	for _, name := range r.names() {
		if name == goWebSocket {
			continue
		}
		fmt.Fprintf(to, "| %s", name)
		for _, all := range r.rates {
			these, those := r.rate(all.load, name, perSecond), r.rate(all.load, goWebSocket, perSecond)
			if these == nil {
				fmt.Fprint(to, " | ")
				continue
			}
			fmt.Fprintf(to, " | %.2f", ratios(these, those).median)
		}
		fmt.Fprintln(to, " |")
	}
}

// names are those of all contestants: the first load has them all.
func (r *results) names() []string { return r.rates[0].names }

// A section is what is between two marks in docs/benchmarks.md.
type section struct {
	begin, end string
	report     func(*results, io.Writer)
}

var (
	mainSection   = section{"<!-- scripts/bench writes what follows -->\n", "<!-- to here -->\n", (*results).report}
	fanOutSection = section{"<!-- scripts/bench writes what follows, fan-out -->\n", "<!-- to here, fan-out -->\n", (*results).reportFanOut}
)

// update puts the section's tables into the file.
func (s *section) update(r *results, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), s.begin)
	_, after, ok2 := strings.Cut(rest, s.end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: expected the lines %q and %q, between which the tables go", file, strings.TrimSpace(s.begin), strings.TrimSpace(s.end))
	}
	var tables strings.Builder
	s.report(r, &tables)
	return os.WriteFile(file, []byte(before+s.begin+"\n"+tables.String()+"\n"+s.end+after), 0o644)
}
