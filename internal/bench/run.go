package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A plan is how much is measured.
type plan struct {
	rounds       int // of all contestants under each load
	warm, during time.Duration
	starts       int // of each CGI program
}

var (
	fullPlan  = plan{rounds: 15, warm: 100 * time.Millisecond, during: 400 * time.Millisecond, starts: 50}
	quickPlan = plan{rounds: 1, warm: 50 * time.Millisecond, during: 150 * time.Millisecond, starts: 3}
)

var loads = []load{{1, 1}, {50, 1}, {1, 16}, {50, 16}}

// results are what one run measured.
type results struct {
	conditions conditions
	rates      []rates
	starts     []starts
}

// rates are all measurements under one load, by contestant and round.
type rates struct {
	load  load
	names []string
	of    [][]rate
}

// starts are all measurements of one pair, by program and round.
type starts struct {
	name  string
	names [2]string
	of    [2][]start
}

// bench measures everything. In each round all contestants run once, one after the
// other, so that what disturbs the machine for a while disturbs them all.
func bench(ctx context.Context, p plan, progress io.Writer) (_ *results, err error) {
	h, err := newHouse(ctx)
	defer func() { err = errors.Join(err, h.stop()) }()
	if err != nil {
		return nil, err
	}
	r := &results{conditions: currentConditions(p)}
	contestants := h.contestants()
	for _, l := range loads {
		fmt.Fprintf(progress, "bench: %v\n", l)
		all := rates{load: l, of: make([][]rate, len(contestants))}
		for _, c := range contestants {
			all.names = append(all.names, c.name)
		}
		for round := range p.rounds {
			for turn := range contestants {
				i := (round + turn) % len(contestants) // nobody always comes after the same one
				got, err := contestants[i].measure(ctx, l, p.warm, p.during)
				if err != nil {
					return nil, err
				}
				all.of[i] = append(all.of[i], got)
			}
		}
		r.rates = append(r.rates, all)
	}
	for _, both := range h.pairs() {
		fmt.Fprintf(progress, "bench: start of a CGI program, %s\n", both.name)
		all := starts{name: both.name, names: [2]string{both.both[0].name, both.both[1].name}}
		for round := range p.starts + 1 {
			for i, s := range both.both {
				got, err := s.run(ctx)
				if err != nil {
					return nil, err
				}
				if round > 0 { // the first start reads the program from the disk
					all.of[i] = append(all.of[i], got)
				}
			}
		}
		r.starts = append(r.starts, all)
	}
	return r, nil
}
