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

const usage = `usage: scripts/bench [--quick] [--only fan-out]

Measures rates, latencies, CPU time and memory of Tandem and of others behind the same
web servers, and puts the tables and a plot into docs/; takes some 25 minutes. Nothing
else should run meanwhile. With --quick: two minutes, tables on the standard output alone.
With --only fan-out: only what is about many subscribers of one topic.
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
	quick, only := false, everything
	for ; len(args) > 0; args = args[1:] {
		switch {
		case args[0] == "--quick":
			quick = true
		case args[0] == "--only" && len(args) > 1 && part(args[1]) == onlyFanOut:
			only = onlyFanOut
			args = args[1:]
		default:
			fmt.Fprint(os.Stderr, usage)
			return exitUsage
		}
	}
	if err := write(ctx, quick, only); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// write measures and writes the tables where they belong.
func write(ctx context.Context, quick bool, only part) error {
	p := fullPlan
	if quick {
		p = quickPlan
	}
	r, err := contest(ctx, p, only, os.Stderr)
	if err != nil {
		return err
	}
	sections := []section{fanOutSection}
	if only == everything {
		sections = []section{mainSection, fanOutSection}
	}
	for _, s := range sections {
		s.report(r, os.Stdout)
	}
	if quick {
		return nil
	}
	root, err := servertest.Root()
	if err != nil {
		return err
	}
	for _, s := range sections {
		if err := s.update(r, filepath.Join(root, "docs/benchmarks.md")); err != nil {
			return err
		}
	}
	if only != everything {
		return nil
	}
	var plot bytes.Buffer
	r.plot(&plot)
	return os.WriteFile(filepath.Join(root, "docs/benchmarks.svg"), plot.Bytes(), 0o644)
}
