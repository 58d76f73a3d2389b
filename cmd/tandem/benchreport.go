package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"tandem/internal/bench"
)

// benchReport is what tandem bench prints. Times are in microseconds.
type benchReport struct {
	Mode      string `json:"mode"`
	URL       string `json:"url"`
	Transport string `json:"transport"`
	Proto     string `json:"proto"`
	Server    string `json:"server,omitempty"`
	Codec     string `json:"codec,omitempty"`
	Client    string `json:"client"`
	Sessions  int    `json:"sessions"`
	Depth     int    `json:"depth,omitempty"`
	Size      int    `json:"size,omitempty"`

	Seconds   float64       `json:"seconds,omitempty"`
	Messages  int           `json:"messages,omitempty"`
	PerSecond float64       `json:"per_second,omitempty"`
	Latency   *benchLatency `json:"latency_us,omitempty"`
	FanOut    *benchFanned  `json:"fan_out,omitempty"`
	Open      *benchOpened  `json:"open,omitempty"`

	Held      float64        `json:"held_seconds,omitempty"`
	Lost      int            `json:"lost"`
	Processes []benchProcess `json:"processes,omitempty"`
	waves     []*benchOpened
}

// benchFanned is what only fan-out has. Messages are deliveries there.
type benchFanned struct {
	Topic     string  `json:"topic"`
	Rate      float64 `json:"wanted_events_per_second,omitempty"`
	Ahead     int     `json:"ahead"`
	Events    int     `json:"events"`
	PerSecond float64 `json:"events_per_second"`
	Doubled   int     `json:"doubled"`
}

type benchLatency struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

type benchOpened struct {
	PerSecond float64       `json:"per_second"`
	Latency   *benchLatency `json:"time_us"`
}

// benchProcess is a process of --pid, with its children.
type benchProcess struct {
	PID        int     `json:"pid"`
	CPUSeconds float64 `json:"cpu_seconds"`
	// Idle alone: memory before the first wave and in each, and what a session of the
	// last wave added.
	RSS        []int   `json:"rss_bytes,omitempty"`
	PerSession float64 `json:"rss_bytes_per_session,omitempty"`
}

func (t *target) report(mode string, sessions int) *benchReport {
	r := &benchReport{Mode: mode, URL: t.URL, Transport: t.path.Transport, Proto: t.path.Proto, Server: t.path.Server,
		Codec: t.Codec, Client: t.Client, Sessions: sessions}
	for _, pid := range t.PID {
		r.Processes = append(r.Processes, benchProcess{PID: pid})
	}
	return r
}

// counted takes what a measurement of messages came to.
func (r *benchReport) counted(messages int, took time.Duration, times *bench.Histogram, cpu []time.Duration) {
	r.Messages, r.Seconds = messages, took.Seconds()
	r.PerSecond = float64(messages) / r.Seconds
	r.Latency = latency(times)
	for i, t := range cpu {
		r.Processes[i].CPUSeconds = t.Seconds()
	}
}

// idle takes what a measurement of idle sessions came to.
func (r *benchReport) idle(got *bench.Idled) {
	for i := range got.Waves {
		r.waves = append(r.waves, opened(&got.Waves[i].Opened))
	}
	last := len(got.Waves) - 1
	r.Open, r.Held, r.Lost = r.waves[last], got.Held.Seconds(), got.Lost
	for i := range r.Processes {
		p := &r.Processes[i]
		p.CPUSeconds = got.CPU[i].Seconds()
		p.RSS = append(p.RSS, got.Before[i])
		for _, w := range got.Waves {
			p.RSS = append(p.RSS, w.RSS[i])
		}
		p.PerSession = got.PerSession(last, i, r.Sessions)
	}
}

// show prints the report.
func (r *benchReport) show(asJSON bool) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	r.print(os.Stdout)
	return nil
}

func latency(h *bench.Histogram) *benchLatency {
	if h.Count() == 0 {
		return nil
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	return &benchLatency{h.Count(), us(h.Mean()), us(h.Quantile(0.5)), us(h.Quantile(0.9)), us(h.Quantile(0.99)), us(h.Quantile(0.999)), us(h.Max())}
}

func (l *benchLatency) print(to io.Writer, what string) {
	if l != nil {
		fmt.Fprintf(to, "%-10s p50 %.0f µs, p90 %.0f µs, p99 %.0f µs, p99.9 %.0f µs, max %.0f µs\n", what, l.P50, l.P90, l.P99, l.P999, l.Max)
	}
}

func (f *benchFanned) print(to io.Writer, r *benchReport) {
	fmt.Fprintf(to, "%-10s %d subscribers by %s of topic %s\n", r.Mode, r.Sessions, r.Transport, f.Topic)
	how := "as fast as they are delivered"
	if f.Rate > 0 {
		how = fmt.Sprintf("%v a second wanted", f.Rate)
	}
	fmt.Fprintf(to, "%-10s %d of %d bytes, %s, at most %d under way: %.1f events/s\n", "published", f.Events, r.Size, how, f.Ahead, f.PerSecond)
	fmt.Fprintf(to, "%-10s %d lost, %d doubled\n", "deliveries", r.Lost, f.Doubled)
}

// print writes the report for people.
func (r *benchReport) print(to io.Writer) {
	server := ""
	if r.Server != "" {
		server = ", " + r.Server
	}
	if r.FanOut != nil {
		r.FanOut.print(to, r)
	} else {
		fmt.Fprintf(to, "%-10s %d sessions, %s over %s%s, codec %s, client %s\n", r.Mode, r.Sessions, r.Transport, r.Proto, server, r.Codec, r.Client)
	}
	if r.Depth > 0 {
		fmt.Fprintf(to, "%-10s %d bytes, %d under way in each session\n", "messages", r.Size, r.Depth)
	}
	if r.Seconds > 0 {
		fmt.Fprintf(to, "%-10s %.0f messages/s (%d in %.1f s)\n", "rate", r.PerSecond, r.Messages, r.Seconds)
		r.Latency.print(to, "latency")
		if r.Mode == "echo" {
			fmt.Fprintf(to, "%-10s closed loop: while the server pauses nothing new is sent, so pauses count as few slow messages\n", "")
		}
	}
	waves := r.waves
	if waves == nil && r.Open != nil {
		waves = append(waves, r.Open)
	}
	for _, w := range waves {
		fmt.Fprintf(to, "%-10s %.0f sessions/s\n", "opened", w.PerSecond)
		w.Latency.print(to, "open")
	}
	if r.Mode == "idle" {
		fmt.Fprintf(to, "%-10s %.1f s, %d sessions lost\n", "held", r.Held, r.Lost)
	}
	for _, p := range r.Processes {
		fmt.Fprintf(to, "%-10s %d and children:", "process", p.PID)
		switch {
		case r.Mode == "idle":
			for i, n := range p.RSS {
				name := "before"
				if i > 0 {
					name = fmt.Sprintf("wave %d", i)
				}
				fmt.Fprintf(to, " %s %.1f MB,", name, float64(n)/1e6)
			}
			fmt.Fprintf(to, " %.1f KiB per session in the last wave", p.PerSession/1024)
			if r.Held > 0 {
				fmt.Fprintf(to, "; CPU %.2f %% of a core while held", 100*p.CPUSeconds/r.Held)
			}
		case r.Messages > 0:
			fmt.Fprintf(to, " CPU %.2f s, %.1f µs a message", p.CPUSeconds, p.CPUSeconds*1e6/float64(r.Messages))
		}
		fmt.Fprintln(to)
	}
}
