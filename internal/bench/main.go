// Bench compares Tandem with what can be had without it, on one machine and in one
// run: its rates through nginx with those of a bare line echo on net/http/fcgi, and
// its start as a CGI program with that of a minimal one on net/http/cgi. scripts/bench
// runs it; docs/benchmarks.md says how to read what comes out.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"tandem/internal/servertest"
)

const usage = `usage: scripts/bench [--quick]

Measures rates, latencies and CPU time through nginx, and the start of CGI programs,
and puts the tables into docs/benchmarks.md; takes about five minutes. Nothing else
should run meanwhile. With --quick: a fraction of a second for each figure, tables on
the standard output alone.
`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	quick := len(os.Args) == 2 && os.Args[1] == "--quick"
	if len(os.Args) > 1 && !quick {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(64)
	}
	if err := run(ctx, quick); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		defer os.Exit(1) // runs last
	}
}

func run(ctx context.Context, quick bool) error {
	p := fullPlan
	if quick {
		p = quickPlan
	}
	r, err := bench(ctx, p, os.Stderr)
	if err != nil {
		return err
	}
	r.report(os.Stdout)
	if quick {
		return nil
	}
	root, err := servertest.Root()
	return errors.Join(err, r.update(filepath.Join(root, "docs/benchmarks.md")))
}
