package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"tandem/internal/bench"
)

// A broadcaster is something that passes events on to many subscribers. Each measurement has servers of its own.
type broadcaster struct {
	name    string
	program string // the backend; empty: the web server is all
	// subscribe and publish are URLs for a topic; body makes that of a request to publish.
	subscribe, publish func(topic string) string
	header             http.Header
	body               func(topic, data string) string
}

// Names of broadcasters that goals speak of.
const (
	fanTandem = "Tandem, nginx"
	fanNchan  = "Nchan, in nginx"
)

func (p *plan) broadcasters() []broadcaster {
	form := make(http.Header)
	form.Set("Content-Type", "application/x-www-form-urlencoded")
	all := []broadcaster{{
		name: fanTandem, program: programTandem,
		subscribe: func(topic string) string { return "/tandem/hub?match=" + topic },
		publish:   func(string) string { return "/tandem/hub" },
		header:    form,
		body: func(topic, data string) string {
			return url.Values{"topic": {topic}, "data": {data}}.Encode()
		},
	}}
	if p.all && hasNchan() {
		all = append(all, broadcaster{
			name:      fanNchan,
			subscribe: func(topic string) string { return "/nchan/subscribe?id=" + topic },
			publish:   func(topic string) string { return "/nchan/publish?id=" + topic },
			header:    http.Header{"Content-Type": {"text/plain"}},
			body:      func(_, data string) string { return data },
		})
	}
	return all
}

// A fanOutPlan is how much of fan-out is measured.
type fanOutPlan struct {
	subscribers  []int
	rounds       int
	warm, during time.Duration
}

// eventSize is how many bytes of data an event has.
const eventSize = 100

// fanLoads are measured one after the other, with the same subscribers. An event waits until all have the last one: were more
// under way, they would be fewer with Nchan, which answers the publisher only when it has written to most subscribers,
// and latencies would not compare.
var fanLoads = []bench.FanOutLoad{{Rate: 20, Ahead: 1}, {Ahead: 1}}

// A fan is one measurement of a broadcaster under a load. CPU is for each delivery.
type fan struct {
	perSecond            float64 // deliveries
	events               float64 // published each second
	p50, p99, max        time.Duration
	web, backend, client time.Duration
	lost, doubled        int
}

// fans are all measurements with a number of subscribers, by broadcaster and round, and under each load.
type fans struct {
	subscribers int
	names       []string
	of          [][][]fan      // by load, broadcaster, round
	memory      [][][2]float64 // by broadcaster and round: KiB for each subscriber, of the web server and of the program
}

// fanOut is what was measured of fan-out.
type fanOut struct {
	conditions conditions
	of         []fans
}

func hasNchan() bool {
	_, err := os.Stat(nginxNchan)
	return err == nil
}

// subscribersOf is how many of n subscribers there can be: each takes a file of this process and of the program, and
// two of a web server's processes, which don't share them evenly.
func subscribersOf(n int) int {
	files := int(openFiles())
	return min(n, files-files/10, (files-files/10)*runtime.NumCPU()/2)
}

// measureFanOut measures all broadcasters in turns.
func (r *results) measureFanOut(ctx context.Context, programs string, p plan, progress io.Writer) error {
	r.fanOut = &fanOut{conditions: currentConditions(p)}
	broadcasters := p.broadcasters()
	for _, n := range p.fanOut.subscribers {
		all := fans{subscribers: subscribersOf(n), of: make([][][]fan, len(fanLoads)), memory: make([][][2]float64, len(broadcasters))}
		for l := range fanLoads {
			all.of[l] = make([][]fan, len(broadcasters))
		}
		for _, b := range broadcasters {
			all.names = append(all.names, b.name)
		}
		for round := range p.fanOut.rounds {
			for turn := range broadcasters {
				i := (round + turn) % len(broadcasters)
				b := &broadcasters[i]
				fmt.Fprintf(progress, "bench: %d subscribers of %s, round %d of %d\n", all.subscribers, b.name, round+1, p.fanOut.rounds)
				got, memory, err := b.measure(ctx, programs, all.subscribers, p.fanOut)
				if err != nil {
					return fmt.Errorf("%s, %d subscribers: %w", b.name, all.subscribers, err)
				}
				for l := range got {
					all.of[l][i] = append(all.of[l][i], got[l])
				}
				all.memory[i] = append(all.memory[i], memory)
			}
		}
		r.fanOut.of = append(r.fanOut.of, all)
	}
	r.fanOut.conditions.took = time.Since(r.fanOut.conditions.date)
	return nil
}

// measure measures b once under each load. Memory is read after the first.
func (b *broadcaster) measure(ctx context.Context, programs string, subscribers int, p fanOutPlan) (all []fan, memory [2]float64, err error) {
	var backends []string
	if b.program != "" {
		backends = append(backends, b.program)
	}
	h, err := newHouse(ctx, programs, backends...)
	defer func() { err = errors.Join(err, h.stop()) }()
	if err != nil {
		return nil, memory, err
	}
	groups := [][]int{bench.Family(h.nginx.proc.Pid()), nil, {os.Getpid()}}
	if b.program != "" {
		groups[1] = []int{h.backends[b.program].Pid()}
	}
	before := [2]int{bench.RSS(groups[0]), bench.RSS(groups[1])}
	topic := rand.Text()
	at, err := url.Parse("http://" + h.nginx.host + b.subscribe(topic))
	if err != nil {
		return nil, memory, err
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	publish := bench.Post(&http.Client{Transport: transport}, "http://"+h.nginx.host+b.publish(topic), b.header, func(data string) string { return b.body(topic, data) })
	f, _, err := bench.OpenFanOut(ctx, &bench.Streams{URL: at}, publish, subscribers, 50, eventSize, nil)
	if err != nil {
		return nil, memory, err
	}
	defer f.Close()
	for i, l := range fanLoads {
		l.Warm, l.During = p.warm, p.during
		got, err := f.Measure(ctx, l, groups...)
		if err != nil {
			return nil, memory, fmt.Errorf("%v: %w", l, err)
		}
		n := time.Duration(got.Delivered)
		all = append(all, fan{
			perSecond: got.PerSecond(), events: float64(got.Events) / got.Took.Seconds(),
			p50: got.Times.Quantile(0.5), p99: got.Times.Quantile(0.99), max: got.Times.Max(),
			web: got.CPU[0] / n, backend: got.CPU[1] / n, client: got.CPU[2] / n,
			lost: got.Lost, doubled: got.Doubled,
		})
		if i == 0 {
			for g := range memory {
				memory[g] = float64(bench.RSS(groups[g])-before[g]) / float64(subscribers) / 1024
			}
		}
	}
	return all, memory, nil
}

func fanPerSecond(f fan) float64 { return f.perSecond }
func fanP50(f fan) float64       { return millis(f.p50) }
func fanP99(f fan) float64       { return millis(f.p99) }
func fanWeb(f fan) float64       { return micros(f.web) }
func fanBackend(f fan) float64   { return micros(f.backend) }
func fanCPU(f fan) float64       { return micros(f.web + f.backend) }
func fanMissed(f fan) float64    { return float64(f.lost + f.doubled) }
