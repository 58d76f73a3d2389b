package metrics

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process writes what the system and Go tell of this process, under the names that Prometheus' own client has.
func (t *text) process(started time.Time) {
	t.one("process_start_time_seconds", gauge, "When the process began to serve, in seconds since 1970.", float64(started.UnixMilli())/1e3)
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		t.one("process_cpu_seconds_total", counter, "Processor time of this process, without its programs.", cpu.Seconds())
	}
	if n, ok := resident(); ok {
		t.one("process_resident_memory_bytes", gauge, "Memory of this process, without its programs.", float64(n))
	}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		t.one("process_open_fds", gauge, "Open file descriptors.", float64(len(list)-1)) // less the folder's own
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		t.one("process_max_fds", gauge, "File descriptors that may be open.", float64(files.Cur))
	}
	t.one("go_goroutines", gauge, "Goroutines.", float64(runtime.NumGoroutine()))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.one("go_memstats_heap_alloc_bytes", gauge, "Go's heap: what is in use, and garbage not yet found.", float64(mem.HeapAlloc))
	t.one("go_memstats_sys_bytes", gauge, "Memory that Go has of the system.", float64(mem.Sys))
	t.one("go_memstats_stack_inuse_bytes", gauge, "Stacks of goroutines.", float64(mem.StackInuse))
}

// resident is the memory that is in use, in bytes (proc_pid_statm(5)).
func resident() (int64, bool) {
	data, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
