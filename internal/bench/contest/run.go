package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"tandem/client"
	"tandem/internal/bench"
)

// A plan is how much is measured.
type plan struct {
	all          bool // also what only scripts/setup bench installs
	rounds       int  // of all contestants under each load
	warm, during time.Duration
	starts       int // of each CGI program
	sits         int // of each sitter
	sessions     int // idle ones
	programs     int // idle ones, of which each has a program; of 100 most would be what no number of them changes
	settle, hold time.Duration
	allocs       string // -benchtime
	fanOut       fanOutPlan
}

var (
	fullPlan = plan{all: true, rounds: 9, warm: 100 * time.Millisecond, during: 400 * time.Millisecond, starts: 50,
		sits: 5, sessions: 5000, programs: 500, settle: 3 * time.Second, hold: 32 * time.Second, allocs: "1s",
		fanOut: fanOutPlan{subscribers: []int{1000, 10_000}, rounds: 5, warm: time.Second, during: 5 * time.Second}}
	quickPlan = plan{all: true, rounds: 3, warm: 50 * time.Millisecond, during: 150 * time.Millisecond, starts: 5,
		sits: 1, sessions: 2000, programs: 500, settle: time.Second, hold: 4 * time.Second, allocs: "1000x",
		fanOut: fanOutPlan{subscribers: []int{1000}, rounds: 2, warm: 200 * time.Millisecond, during: time.Second}}
	testPlan = plan{rounds: 1, warm: 10 * time.Millisecond, during: 50 * time.Millisecond, starts: 1,
		sits: 1, sessions: 50, programs: 5, settle: 10 * time.Millisecond, hold: 100 * time.Millisecond, allocs: "100x",
		fanOut: fanOutPlan{subscribers: []int{20, 30}, rounds: 1, warm: 10 * time.Millisecond, during: 100 * time.Millisecond}}
)

var (
	productLoads = []bench.Load{{Sessions: 50, Depth: 1}, {Sessions: 50, Depth: 16}, {Sessions: 1, Depth: 1}}
	loads        = []bench.Load{{Sessions: 50, Depth: 1}, {Sessions: 50, Depth: 16}, {Sessions: 1, Depth: 1}, {Sessions: 1, Depth: 16}}
)

// results are what one run measured.
type results struct {
	conditions conditions
	rates      []rates
	idle       []sats
	starts     []starts
	allocs     []alloc
	fanOut     *fanOut // nil: not measured
}

// rates are all measurements under one load, by contestant and round.
type rates struct {
	load  bench.Load
	names []string
	of    [][]rate
}

// sats are all measurements of one sitter.
type sats struct {
	sitter sitter
	of     []sat
}

// starts are all measurements of one pair, by program and round.
type starts struct {
	name  string
	names [2]string
	of    [2][]start
}

// A part is what may be measured alone.
type part string

const (
	everything part = ""
	onlyFanOut part = "fan-out"
)

// contest measures everything, or a part.
func contest(ctx context.Context, p plan, only part, progress io.Writer) (_ *results, err error) {
	if p.all {
		for _, missing := range missing() {
			fmt.Fprintf(progress, "bench: not installed, so left out: %s (scripts/setup --install bench)\n", missing)
		}
	}
	programs, err := build(ctx)
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	if err != nil {
		return nil, err
	}
	r := &results{conditions: currentConditions(p)}
	steps := []func(context.Context, string, plan, io.Writer) error{r.measureFanOut}
	if only == everything {
		steps = append(steps, r.measureBusy, r.measureIdle)
	}
	for _, step := range steps {
		if err := step(ctx, programs, p, progress); err != nil {
			return nil, err
		}
	}
	if only != everything {
		return r, nil
	}
	fmt.Fprintln(progress, "bench: allocations")
	r.allocs, err = countAllocs(ctx, p.allocs)
	r.conditions.took = time.Since(r.conditions.date)
	return r, err
}

// missing are the things that scripts/setup bench installs.
func missing() (names []string) {
	if !installed(programWebsocketd) {
		names = append(names, programWebsocketd)
	}
	if !hasStream() {
		names = append(names, "nginx's stream module")
	}
	if !hasNchan() {
		names = append(names, "Nchan")
	}
	return names
}

func hasStream() bool {
	_, err := os.Stat(nginxStream)
	return err == nil
}

// measureBusy measures rates and starts.
func (r *results) measureBusy(ctx context.Context, programs string, p plan, progress io.Writer) (err error) {
	backends := []string{programTandem, programBare, programWebSocket, programTCP}
	if p.all && installed(programWebsocketd) {
		backends = append(backends, programWebsocketd)
	}
	h, err := newHouse(ctx, programs, backends...)
	defer func() { err = errors.Join(err, h.stop()) }()
	if err == nil {
		err = h.startOthers(ctx, programs)
	}
	if err != nil {
		return err
	}
	var contestants []*contestant
	for _, c := range h.contestants() {
		if !p.all && !c.quick {
			continue
		}
		ok, err := c.offered(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if ok {
			contestants = append(contestants, c)
		} else {
			fmt.Fprintf(progress, "bench: package client doesn't offer it, so left out: %s\n", c.name)
		}
	}
	for _, l := range loads {
		all, err := measureRates(ctx, contestants, l, p, progress)
		if err != nil {
			return err
		}
		r.rates = append(r.rates, all)
	}
	for _, both := range h.pairs(programs) {
		all, err := both.measure(ctx, p, progress)
		if err != nil {
			return err
		}
		r.starts = append(r.starts, all)
	}
	return nil
}

// measureRates runs, in each round, all contestants once, one after the other, so that
// what disturbs the machine for a while disturbs them all.
func measureRates(ctx context.Context, contestants []*contestant, l bench.Load, p plan, progress io.Writer) (rates, error) {
	all := rates{load: l}
	var taking []*contestant
	for _, c := range contestants {
		if c.takes(l) {
			taking = append(taking, c)
			all.names = append(all.names, c.name)
		}
	}
	all.of = make([][]rate, len(taking))
	for round := range p.rounds {
		fmt.Fprintf(progress, "bench: %v, round %d of %d\n", l, round+1, p.rounds)
		for turn := range taking {
			i := (round + turn) % len(taking) // nobody always comes after the same one
			got, err := taking[i].measure(ctx, l, p.warm, p.during)
			if err != nil {
				return all, err
			}
			all.of[i] = append(all.of[i], got)
		}
	}
	return all, nil
}

// measure starts both programs in turns.
func (both *pair) measure(ctx context.Context, p plan, progress io.Writer) (starts, error) {
	fmt.Fprintf(progress, "bench: start of a %s\n", both.name)
	all := starts{name: both.name, names: [2]string{both.both[0].name, both.both[1].name}}
	for round := range p.starts*both.times + 1 {
		for turn := range both.both {
			i := (round + turn) % len(both.both)
			s := both.both[i]
			got, err := s.run(ctx)
			if err != nil {
				return all, fmt.Errorf("%s, %s: %w", both.name, s.name, err)
			}
			if round > 0 { // the first start reads the program from the disk
				all.of[i] = append(all.of[i], got)
			}
		}
	}
	return all, nil
}

// measureIdle measures what idle sessions cost, in turns.
func (r *results) measureIdle(ctx context.Context, programs string, p plan, progress io.Writer) error {
	sitters := p.sitters()
	for _, s := range sitters {
		r.idle = append(r.idle, sats{sitter: s})
	}
	for round := range p.sits {
		for i, s := range sitters {
			fmt.Fprintf(progress, "bench: %d idle sessions of %s, round %d of %d\n", s.sessions, s.name, round+1, p.sits)
			got, err := s.sit(ctx, programs, p)
			if err != nil {
				return err
			}
			r.idle[i].of = append(r.idle[i].of, got)
		}
	}
	return nil
}

// isUsage tells whether err says that package client can't do what was asked.
func isUsage(err error) bool {
	var usage *client.UsageError
	return errors.As(err, &usage)
}

// installed tells whether a program that only comparisons need is there.
func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
