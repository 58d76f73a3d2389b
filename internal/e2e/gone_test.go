package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A process as /proc tells it. start tells it from a later one of the same number.
type process struct {
	pid, ppid int
	state     byte
	start     string
	comm      string
}

// readProcess returns false where there is no such process.
func readProcess(pid int) (process, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// The name is in parentheses and may hold anything.
	name, rest, ok := strings.Cut(string(text), " (")
	end := strings.LastIndexByte(rest, ')')
	if !ok || end < 0 || strconv.Itoa(pid) != name {
		return process{}, false
	}
	fields := strings.Fields(rest[end+1:])
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, false
	}
	return process{pid: pid, ppid: ppid, state: fields[0][0], start: fields[19], comm: rest[:end]}, true
}

// gone tells whether p runs no more. A zombie counts for gone only where its parent
// is not one of ours: an orphan's body is init's to fetch.
func (p process) gone() bool {
	now, ok := readProcess(p.pid)
	return !ok || now.start != p.start || now.state == 'Z' && now.ppid != p.ppid
}

// awaitGone waits until all processes are gone and returns how long that took from
// since. No event tells of a process that isn't our child, so it polls. Any
// goroutine may call it.
func awaitGone(t *testing.T, since time.Time, processes ...process) time.Duration {
	t.Helper()
	const patience = 15 * time.Second
	for _, p := range processes {
		for !p.gone() {
			if time.Since(since) > patience {
				t.Errorf("process %d (%s) is still there %v after the end", p.pid, p.comm, patience)
				return time.Since(since)
			}
			time.Sleep(2 * time.Millisecond) // between two looks
		}
	}
	return time.Since(since)
}

// fds is the number of a process's open files.
func fds(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// rss is a process's resident memory in KiB.
func rss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("no VmRSS of process %d", pid)
	return 0
}

// children lists the processes whose parent is this one.
func children(t *testing.T, parent int) (found []process) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok && p.ppid == parent {
			found = append(found, p)
		}
	}
	return found
}
