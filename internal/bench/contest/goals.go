package main

import (
	"fmt"

	"tandem/internal/bench"
)

// A goal is a figure that Tandem is to reach.
type goal struct {
	figure string
	most   bool // value may be at most the limit, else at least
	worst  bool // the worst round has to reach it, not the median
	limit  float64
	number string // how figures are shown
	value  func(*results) []float64
	note   func(*results) string // what else belongs to it; nil: nothing
	// optional says that it can't be measured everywhere, only with what scripts/setup bench
	// installs.
	optional bool
}

var (
	busy = bench.Load{Sessions: 50, Depth: 1}
	deep = bench.Load{Sessions: 50, Depth: 16}
	lone = bench.Load{Sessions: 1, Depth: 1}
)

// goals are in the order of how much a user gains by them.
func goals() []goal {
	compare := func(l bench.Load, these, those string, of func(rate) float64) func(*results) []float64 {
		return func(r *results) []float64 { return quotients(r.rate(l, these, of), r.rate(l, those, of)) }
	}
	batches := func(l bench.Load) func(*results) string {
		return func(r *results) string {
			return fmt.Sprintf("a request for each batch %.2f", ratios(r.rate(l, clientSplit, p50), r.rate(l, clientSingle, p50)).median)
		}
	}
	webOf := func(s sat) float64 { return s.web }
	backendOf := func(s sat) float64 { return s.backend }
	return []goal{
		{figure: "memory of Tandem for an idle session, second wave, KiB", most: true, limit: 12, number: "%.1f",
			value: func(r *results) []float64 { return r.sat(idleTandem, backendOf) },
			note: func(r *results) string {
				return fmt.Sprintf("Go WebSocket %.1f, Go TCP %.1f", spreadOf(r.sat(idleWebSocket, backendOf)).median, spreadOf(r.sat(idleTCP, backendOf)).median)
			}},
		{figure: "memory of nginx for it, KiB", most: true, limit: 16, number: "%.1f",
			value: func(r *results) []float64 { return r.sat(idleTandem, webOf) },
			note: func(r *results) string {
				return fmt.Sprintf("for a WebSocket %.1f", spreadOf(r.sat(idleWebSocket, webOf)).median)
			}},
		{figure: "ping-pong rate, 50 sessions, to Go WebSocket's, both through nginx", limit: 1.3, number: "%.2f", value: compare(busy, tandemBinary, goWebSocket, perSecond)},
		{figure: "its p99", most: true, limit: 1, number: "%.2f", value: compare(busy, tandemBinary, goWebSocket, p99)},
		{figure: "rate 16 deep, 50 sessions, to Go WebSocket's", limit: 2, number: "%.2f", value: compare(deep, tandemBinary, goWebSocket, perSecond)},
		{figure: "p50, 50 sessions, to Go TCP through nginx's stream module", most: true, limit: 1.1, number: "%.2f", optional: true, value: compare(busy, tandemBinary, rawTCP, p50)},
		{figure: "server CPU per message, 50 sessions, to nginx and Go WebSocket", most: true, limit: 0.85, number: "%.2f", value: compare(busy, tandemBinary, goWebSocket, cpu)},
		{figure: "rate with `cat`, 50 sessions, to websocketd's with `cat`, both through nginx", limit: 1.2, number: "%.2f", optional: true, value: compare(busy, tandemCat, websocketdCat, perSecond)},
		{figure: "memory for an idle session with `cat`, without `cat`'s own, to websocketd's", most: true, limit: 0.5, number: "%.2f", optional: true,
			value: func(r *results) []float64 {
				return quotients(r.sat(idleCat, backendOf), r.sat(idleWebsocketd, backendOf))
			},
			note: func(r *results) string {
				return fmt.Sprintf("%.1f KiB and %.1f KiB", spreadOf(r.sat(idleCat, backendOf)).median, spreadOf(r.sat(idleWebsocketd, backendOf)).median)
			}},
		{figure: "p50 by split, what is sent in one long request, to p50 by single, 1 session, package client, nginx", most: true, limit: 2, number: "%.2f", value: compare(lone, clientStreamed, clientSingle, p50), note: batches(lone)},
		{figure: "the same, 50 sessions", most: true, limit: 2, number: "%.2f", value: compare(busy, clientStreamed, clientSingle, p50), note: batches(busy)},
		{figure: "rate through lighttpd, 50 sessions, to that through nginx, package client", limit: 0.6, number: "%.2f", value: compare(busy, clientLighttpd, clientSingle, perSecond),
			note: func(r *results) string {
				return fmt.Sprintf("the load by hand, all of it in one request, %.2f", ratios(r.rate(busy, tandemLighttpd, perSecond), r.rate(busy, tandemBinary, perSecond)).median)
			}},
		{figure: "time to open a session, to a WebSocket handshake, both through nginx", most: true, limit: 1, number: "%.2f",
			value: func(r *results) []float64 { return r.startRatio(startSession, firstOf) }},
		{figure: "start of a CGI session through Apache, to a minimal Go CGI program's", most: true, limit: 1.3, number: "%.2f",
			value: func(r *results) []float64 { return r.startRatio(startApache, firstOf) }},
		{figure: "allocations per message, the codec with the most", most: true, limit: 1, number: "%.0f", value: (*results).mostAllocs},
		{figure: "CPU of the idle sessions, Tandem and nginx, % of a core", most: true, limit: 2, number: "%.2f",
			value: func(r *results) []float64 {
				return r.sat(idleTandem, func(s sat) float64 { return s.webCPU + s.backendCPU })
			},
			note: func(r *results) string {
				return fmt.Sprintf("Tandem alone %.2f", spreadOf(r.sat(idleTandem, func(s sat) float64 { return s.backendCPU })).median)
			}},
	}
}

// row is the goal's in a table.
func (g *goal) row(r *results) string {
	sign, values := "≥", g.value(r)
	if g.most {
		sign = "≤"
	}
	reached, met := "not measured", ""
	if len(values) > 0 {
		s := spreadOf(values)
		reached, met = s.format(g.number), "no"
		got := s.median
		if g.worst && g.most {
			got = s.max
		} else if g.worst {
			got = s.min
		}
		if got >= g.limit && !g.most || got <= g.limit && g.most {
			met = "yes"
		}
		if g.note != nil {
			reached += "; " + g.note(r)
		}
	}
	return fmt.Sprintf("| %s | %s %v | %s | %s |\n", g.figure, sign, g.limit, reached, met)
}

// rate is a figure of a contestant under a load, in each round; nil: it did not take part.
func (r *results) rate(l bench.Load, name string, of func(rate) float64) []float64 {
	for _, all := range r.rates {
		for i, n := range all.names {
			if all.load == l && n == name {
				return column(all.of[i], of)
			}
		}
	}
	return nil
}

// sat is a figure of a sitter in each round.
func (r *results) sat(name string, of func(sat) float64) []float64 {
	for _, all := range r.idle {
		if all.sitter.name == name {
			return column(all.of, of)
		}
	}
	return nil
}

func (r *results) startRatio(name string, of func(start) float64) []float64 {
	for _, all := range r.starts {
		if all.name == name {
			return quotients(startGroups(all.of[1], of), startGroups(all.of[0], of))
		}
	}
	return nil
}

// startGroups makes rounds of starts.
func startGroups(all []start, of func(start) float64) []float64 { return groups(column(all, of), 10) }

func firstOf(s start) float64 { return millis(s.first) }
func echoOf(s start) float64  { return millis(s.echo) }

// mostAllocs is what a message's whole way costs: the benchmark's echo is one message in
// and one out.
func (r *results) mostAllocs() []float64 {
	var most []float64
	for _, a := range r.allocs {
		if a.session && (most == nil || float64(a.allocs) > most[0]) {
			most = []float64{float64(a.allocs)}
		}
	}
	return most
}
