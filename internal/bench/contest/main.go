// Contest compares Tandem with what a user would pick instead and with what can be had
// at best, on one machine and in one run: rates, latencies and CPU time, the memory of
// idle sessions, and starts. scripts/bench runs it; docs/benchmarks.md says how to
// read what comes out.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"tandem/internal/servertest"
)

const usage = `usage: scripts/bench [--quick]

Measures rates, latencies, CPU time and memory of Tandem and of others behind the same
web servers, and puts the tables and a plot into docs/; takes some 20 minutes. Nothing
else should run meanwhile. With --quick: two minutes, tables on the standard output alone.
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
	r, err := contest(ctx, p, os.Stderr)
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
	var plot bytes.Buffer
	r.plot(&plot)
	if err := os.WriteFile(filepath.Join(root, "docs/benchmarks.svg"), plot.Bytes(), 0o644); err != nil {
		return err
	}
	return r.update(filepath.Join(root, "docs/benchmarks.md"))
}
