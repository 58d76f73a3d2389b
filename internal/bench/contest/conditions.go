package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// conditions are what the figures depend on beside the code.
type conditions struct {
	plan     plan
	date     time.Time
	took     time.Duration
	cores    int
	cpu      string
	kernel   string
	load     string // average of the last minute, at the beginning
	commit   string
	versions []string
}

func currentConditions(p plan) conditions {
	c := conditions{
		plan:   p,
		date:   time.Now().UTC(),
		cores:  runtime.NumCPU(),
		cpu:    find("/proc/cpuinfo", `(?m)^model name\s*:\s*(.+)$`),
		kernel: find("/proc/sys/kernel/osrelease", `^([0-9.]+)`),
		load:   find("/proc/loadavg", `^(\S+)`),
		commit: version(`^([0-9a-f]{7,}\S*)`, "git", "describe", "--always", "--dirty", "--exclude=*"),
	}
	for _, v := range []struct {
		name, pattern string
		command       []string
	}{
		{"nginx", `nginx/([0-9.]+)`, []string{"nginx", "-v"}},
		{"Apache", `Apache/([0-9.]+)`, []string{"apache2", "-v"}},
		{"lighttpd", `lighttpd/([0-9.]+)`, []string{"lighttpd", "-v"}},
		{"websocketd", `(?m)^Version: ([0-9.]+)`, []string{"dpkg", "-s", "websocketd"}}, // its own --version doesn't tell
		{"Nchan", `(?m)^Version: (?:\d+:)?([0-9.]+)`, []string{"dpkg", "-s", "libnginx-mod-nchan"}},
		{"coder/websocket", `v([0-9.]+)`, []string{"go", "list", "-m", "github.com/coder/websocket"}},
	} {
		c.versions = append(c.versions, v.name+" "+version(v.pattern, v.command[0], v.command[1:]...))
	}
	return c
}

const unknown = "unknown"

func find(file, pattern string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return unknown
	}
	return match(pattern, string(text))
}

func match(pattern, text string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return unknown
}

// version asks a program that may be outside of the user's PATH.
func version(pattern, name string, args ...string) string {
	out, err := exec.Command(lookSbin(name), args...).CombinedOutput()
	if err != nil {
		return unknown
	}
	return match(pattern, string(out))
}

// noisy tells whether others worked on the machine just before.
func (c conditions) noisy() bool {
	load, err := strconv.ParseFloat(c.load, 64)
	return err == nil && load > 1
}

// warn says that others worked on the machine, if they did.
func (c conditions) warn(to io.Writer) {
	if c.noisy() {
		fmt.Fprint(to, "\n**The machine was not quiet**: these figures say little, and less the smaller a difference is.\n")
	}
}

// basics are those of every measurement.
func (c conditions) basics() string {
	return fmt.Sprintf("Measured on %s in %v, commit %s, %d cores (%s), Linux %s, load average %s before the run; Go %s, %s.",
		c.date.Format("2006-01-02"), c.took.Round(time.Second), c.commit, c.cores, c.cpu, c.kernel, c.load, strings.TrimPrefix(runtime.Version(), "go"), strings.Join(c.versions, ", "))
}

func (c conditions) String() string {
	return fmt.Sprintf("%s Rates: %d rounds of %v each, after %v to get warm. Idle sessions: %d rounds. Starts: %d of each CGI program.",
		c.basics(), c.plan.rounds, c.plan.during, c.plan.warm, c.plan.sits, c.plan.starts)
}
