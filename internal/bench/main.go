// Bench compares Tandem with what can be had without it, on one machine and in one
// run: its rates through nginx with those of a bare line echo on net/http/fcgi, and
// its start as a CGI program with that of a minimal one on net/http/cgi. scripts/bench
// runs it; docs/benchmarks.md says how to read what comes out.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"tandem/internal/servertest"
)

const usage = `usage: scripts/bench [--quick]

Measures rates, latencies and CPU time through nginx, and the start of CGI programs,
and puts the tables into docs/benchmarks.md; takes four minutes. Nothing else
should run meanwhile. With --quick: a fraction of a second for each figure, tables on
the standard output alone.
`

// Exit statuses, as sysexits.h has them.
const exitUsage = 64

func main() { os.Exit(run()) }

func run() int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	// --bin is scripts/bench's: the folder that holds this program, and goes with it.
	args := os.Args[1:]
	if len(args) >= 2 && args[0] == "--bin" {
		defer os.RemoveAll(args[1])
		args = args[2:]
	}
	quick := len(args) == 1 && args[0] == "--quick"
	if len(args) > 0 && !quick {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	if err := write(ctx, quick); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// write measures and writes the tables where they belong.
func write(ctx context.Context, quick bool) error {
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
	if err != nil {
		return err
	}
	return r.update(filepath.Join(root, "docs/benchmarks.md"))
}
