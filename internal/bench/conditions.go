package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// conditions are what the figures depend on beside the code.
type conditions struct {
	plan   plan
	date   time.Time
	cores  int
	cpu    string
	kernel string
	load   string // average of the last minute, at the beginning
	goes   string
	nginx  string
	apache string
}

func currentConditions(p plan) conditions {
	return conditions{
		plan:   p,
		date:   time.Now().UTC(),
		cores:  runtime.NumCPU(),
		cpu:    find("/proc/cpuinfo", `(?m)^model name\s*:\s*(.+)$`),
		kernel: find("/proc/sys/kernel/osrelease", `^([0-9.]+)`),
		load:   find("/proc/loadavg", `^(\S+)`),
		goes:   strings.TrimPrefix(runtime.Version(), "go"),
		nginx:  version("nginx/([0-9.]+)", "nginx", "-v"),
		apache: version("Apache/([0-9.]+)", "apache2", "-v"),
	}
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
	cmd := exec.Command(name, args...)
	for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/"} {
		if cmd.Err != nil {
			cmd = exec.Command(dir+name, args...)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return unknown
	}
	return match(pattern, string(out))
}

func (c conditions) String() string {
	return fmt.Sprintf("Measured on %s, %d cores (%s), Linux %s, load average %s before the run; Go %s, nginx %s, Apache %s. "+
		"Rates: %d rounds of %v each, after %v to get warm. Starts: %d of each program.",
		c.date.Format("2006-01-02"), c.cores, c.cpu, c.kernel, c.load, c.goes, c.nginx, c.apache,
		c.plan.rounds, c.plan.during, c.plan.warm, c.plan.starts)
}
