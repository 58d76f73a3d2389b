package main

import (
	"fmt"
	"io"

	"tandem/internal/bench"
)

// fan is a figure of a broadcaster in each round, with the i-th number of subscribers and under a load; nil: it did not
// take part.
func (r *results) fan(i, load int, name string, of func(fan) float64) []float64 {
	if r.fanOut == nil || i >= len(r.fanOut.of) {
		return nil
	}
	all := r.fanOut.of[i]
	for b, n := range all.names {
		if n == name {
			return column(all.of[load][b], of)
		}
	}
	return nil
}

// everyFan is a figure of a broadcaster in all rounds, with any number of subscribers and under any load.
func (r *results) everyFan(name string, of func(fan) float64) (values []float64) {
	if r.fanOut == nil {
		return nil
	}
	for i := range r.fanOut.of {
		for l := range fanLoads {
			values = append(values, r.fan(i, l, name, of)...)
		}
	}
	return values
}

// fanGoals are those for each number of subscribers.
func (r *results) fanGoals() []goal {
	all := []goal{{figure: "events lost or doubled by Tandem, most of a measurement", most: true, worst: true, number: "%.0f",
		value: func(r *results) []float64 { return r.everyFan(fanTandem, fanMissed) }}}
	for i := range r.fanOut.of {
		for l, load := range fanLoads {
			where := fmt.Sprintf(", %d subscribers, %v", r.fanOut.of[i].subscribers, load)
			figure := func(of func(fan) float64) func(*results) []float64 {
				return func(r *results) []float64 { return r.fan(i, l, fanTandem, of) }
			}
			ratio := func(of func(fan) float64) func(*results) []float64 {
				return func(r *results) []float64 { return quotients(r.fan(i, l, fanTandem, of), r.fan(i, l, fanNchan, of)) }
			}
			all = append(all,
				goal{figure: "CPU of Tandem for a delivery, µs" + where, most: true, limit: 6, number: "%.1f", value: figure(fanBackend)},
				goal{figure: "with nginx's share", most: true, limit: 19.7, number: "%.1f", value: figure(fanCPU),
					note: func(r *results) string {
						nchan := r.fan(i, l, fanNchan, fanCPU)
						if nchan == nil {
							return "Nchan not measured"
						}
						return fmt.Sprintf("nginx with Nchan %.1f", spreadOf(nchan).median)
					}},
				goal{figure: "p50, to Nchan's", most: true, limit: 1, number: "%.2f", optional: true, value: ratio(fanP50)},
				goal{figure: "p99, to Nchan's", most: true, limit: 1, number: "%.2f", optional: true, value: ratio(fanP99)})
		}
	}
	return all
}

// reportFanOut writes the tables of fan-out, in Markdown.
func (r *results) reportFanOut(to io.Writer) {
	if r.fanOut == nil {
		return
	}
	c := r.fanOut.conditions
	fmt.Fprintf(to, "%s %d rounds, each with servers of their own, of %v under each load, after %v to get warm; events of %d bytes.\n",
		c.basics(), c.plan.fanOut.rounds, c.plan.fanOut.during, c.plan.fanOut.warm, eventSize)
	c.warn(to)
	goalTable(to, r.fanGoals(), r)
	for i := range r.fanOut.of {
		all := &r.fanOut.of[i]
		for l, load := range fanLoads {
			all.report(to, l, load)
		}
		all.reportMemory(to)
	}
}

func (all *fans) report(to io.Writer, l int, load bench.FanOutLoad) {
	fmt.Fprintf(to, "\n### Fan-out to %d subscribers, %v\n\n", all.subscribers, load)
	fmt.Fprintln(to, "| | deliveries/s | events/s | p50 ms | p99 ms | max ms | CPU µs/delivery, web server + program | client's | lost, doubled |")
	fmt.Fprintln(to, "|---|---|---|---|---|---|---|---|---|")
	for b, fs := range all.of[l] {
		fmt.Fprintf(to, "| %s | %s | %.1f | %s | %s | %.0f | %s + %s | %.1f | %.0f, %.0f |\n", all.names[b],
			spreadOf(column(fs, fanPerSecond)).format("%.0f"),
			spreadOf(column(fs, func(f fan) float64 { return f.events })).median,
			spreadOf(column(fs, fanP50)).format("%.1f"),
			spreadOf(column(fs, fanP99)).format("%.1f"),
			spreadOf(column(fs, func(f fan) float64 { return millis(f.max) })).max,
			spreadOf(column(fs, fanWeb)).format("%.1f"),
			spreadOf(column(fs, fanBackend)).format("%.1f"),
			spreadOf(column(fs, func(f fan) float64 { return micros(f.client) })).median,
			spreadOf(column(fs, func(f fan) float64 { return float64(f.lost) })).max,
			spreadOf(column(fs, func(f fan) float64 { return float64(f.doubled) })).max)
	}
}

func (all *fans) reportMemory(to io.Writer) {
	fmt.Fprintf(to, "\n### Memory for each of %d subscribers\n\n| | web server, KiB | program, KiB |\n|---|---|---|\n", all.subscribers)
	for b, ms := range all.memory {
		fmt.Fprintf(to, "| %s | %s | %s |\n", all.names[b],
			spreadOf(column(ms, func(m [2]float64) float64 { return m[0] })).format("%.1f"),
			spreadOf(column(ms, func(m [2]float64) float64 { return m[1] })).format("%.1f"))
	}
}
