package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"tandem/internal/servertest"
)

// An alloc is what one message costs in memory, as Go's benchmarks count it.
type alloc struct {
	name    string // of the package and the benchmark
	session bool   // the server's whole way; else both ends' flow
	nanos   float64
	bytes   int
	allocs  int
}

// benchLine is a line that go test -benchmem prints.
var benchLine = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op\s+(?:[0-9.]+ MB/s\s+)?(\d+) B/op\s+(\d+) allocs/op$`)

// countAllocs runs the benchmarks of a message's way through a session, in each codec.
func countAllocs(ctx context.Context, times string) ([]alloc, error) {
	root, err := servertest.Root()
	if err != nil {
		return nil, err
	}
	var all []alloc
	for _, pkg := range []string{"session", "session/flow"} {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkEcho$", "-benchmem", "-benchtime", times, "./"+pkg)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
		lines := benchLine.FindAllStringSubmatch(string(out), -1)
		if len(lines) == 0 {
			return nil, fmt.Errorf("%v: expected benchmarks in what it printed, got %s", cmd.Args, out)
		}
		for _, m := range lines {
			a := alloc{name: pkg + ": " + m[1], session: pkg == "session"}
			a.nanos, _ = strconv.ParseFloat(m[2], 64) // digits, by the pattern
			a.bytes, _ = strconv.Atoi(m[3])
			a.allocs, _ = strconv.Atoi(m[4])
			all = append(all, a)
		}
	}
	return all, nil
}
