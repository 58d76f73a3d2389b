package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"tandem/internal/bench"
)

// A rate is one measurement of a contestant under a load.
type rate struct {
	perSecond     float64 // messages back at the client
	p50, p99, max time.Duration
	// CPU per message. The client's is where it has none to spare: what it takes is
	// missing elsewhere.
	web, backend, client time.Duration
}

func (c *contestant) measure(ctx context.Context, l bench.Load, warm, during time.Duration) (rate, error) {
	var web []int
	if c.web != 0 {
		web = bench.Family(c.web)
	}
	backend := []int{c.backend}
	e, err := bench.Echo(ctx, c.open, l, warm, during, nil, web, backend, []int{os.Getpid()})
	if err != nil {
		return rate{}, fmt.Errorf("%s: %w", c.name, err)
	}
	n := time.Duration(e.Messages)
	return rate{
		perSecond: e.PerSecond(),
		p50:       e.Times.Quantile(0.5),
		p99:       e.Times.Quantile(0.99),
		max:       e.Times.Max(),
		web:       e.CPU[0] / n,
		backend:   e.CPU[1] / n,
		client:    e.CPU[2] / n,
	}, nil
}

func perSecond(r rate) float64 { return r.perSecond }
func p50(r rate) float64       { return micros(r.p50) }
func p99(r rate) float64       { return micros(r.p99) }
func cpu(r rate) float64       { return micros(r.web + r.backend) }
