package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// report writes the tables, in Markdown.
func (r *results) report(to io.Writer) {
	fmt.Fprintf(to, "%v\n", r.conditions)
	if len(r.rates) > 0 {
		fmt.Fprint(to, "\nIn short, the ratio of messages/s to the bare line echo's, medians:\n\n")
		r.summary(to)
	}
	for _, all := range r.rates {
		fmt.Fprintf(to, "\n### %s\n\n", all.load)
		fmt.Fprintln(to, "| | messages/s | ratio | p50 µs | p99 µs | CPU µs/message, nginx + program | ratio |")
		fmt.Fprintln(to, "|---|---|---|---|---|---|---|")
		cpu := func(r rate) float64 { return micros(r.web + r.backend) }
		for i, rs := range all.of {
			ratio := [2]string{"1", "1"}
			if i > 0 {
				ratio[0] = ratios(column(rs, perSecond), column(all.of[0], perSecond)).format("%.2f")
				ratio[1] = ratios(column(rs, cpu), column(all.of[0], cpu)).format("%.2f")
			}
			fmt.Fprintf(to, "| %s | %s | %s | %s | %s | %.1f + %.1f | %s |\n", all.names[i],
				spreadOf(column(rs, perSecond)).format("%.0f"), ratio[0],
				spreadOf(column(rs, func(r rate) float64 { return micros(r.p50) })).format("%.0f"),
				spreadOf(column(rs, func(r rate) float64 { return micros(r.p99) })).format("%.0f"),
				spreadOf(column(rs, func(r rate) float64 { return micros(r.web) })).median,
				spreadOf(column(rs, func(r rate) float64 { return micros(r.backend) })).median, ratio[1])
		}
	}
	for _, all := range r.starts {
		fmt.Fprintf(to, "\n### Start of a CGI program, %s\n\n", all.name)
		fmt.Fprintln(to, "| | first byte, ms | ratio | message back, ms | ratio |")
		fmt.Fprintln(to, "|---|---|---|---|---|")
		var first, echo [2][]float64
		for i, ss := range all.of {
			for _, s := range ss {
				first[i] = append(first[i], millis(s.first))
				echo[i] = append(echo[i], millis(s.echo))
			}
			ratio := [2]string{"1", "1"}
			if i > 0 {
				ratio[0] = ratios(first[i], first[0]).format("%.2f")
				ratio[1] = ratios(echo[i], echo[0]).format("%.2f")
			}
			fmt.Fprintf(to, "| %s | %s | %s | %s | %s |\n", all.names[i],
				spreadOf(first[i]).format("%.2f"), ratio[0], spreadOf(echo[i]).format("%.2f"), ratio[1])
		}
	}
}

// summary writes one row for each contestant and one column for each load.
func (r *results) summary(to io.Writer) {
	fmt.Fprint(to, "|")
	for _, all := range r.rates {
		fmt.Fprintf(to, " | %s", all.load)
	}
	fmt.Fprintf(to, " |\n|---|%s\n", strings.Repeat("---|", len(r.rates)))
	for i, name := range r.rates[0].names {
		if i == 0 {
			continue
		}
		fmt.Fprintf(to, "| %s", name)
		for _, all := range r.rates {
			fmt.Fprintf(to, " | %.2f", ratios(column(all.of[i], perSecond), column(all.of[0], perSecond)).median)
		}
		fmt.Fprintln(to, " |")
	}
}

// format shows the median, and the smallest and the largest.
func (s spread) format(number string) string {
	return fmt.Sprintf("%s (%s–%s)", fmt.Sprintf(number, s.median), fmt.Sprintf(number, s.min), fmt.Sprintf(number, s.max))
}

func perSecond(r rate) float64 { return r.perSecond }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// The marks in docs/benchmarks.md between which the tables are.
const (
	beginMark = "<!-- scripts/bench writes what follows -->\n"
	endMark   = "<!-- to here -->\n"
)

// update puts the tables into the file.
func (r *results) update(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s: expected the lines %q and %q, between which the tables go", file, strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	var tables strings.Builder
	r.report(&tables)
	return os.WriteFile(file, []byte(before+beginMark+"\n"+tables.String()+"\n"+endMark+after), 0o644)
}
