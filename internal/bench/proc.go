package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ, which is 100 in Linux's ABI.
const tick = time.Second / 100

// CPUTime is what the processes have used so far, in user and kernel mode. One that
// is gone counts as nothing: its contestant fails by itself.
func CPUTime(pids []int) (t time.Duration) {
	for _, pid := range pids {
		if stat := procStat(pid); len(stat) > 12 {
			user, _ := strconv.Atoi(stat[11])
			system, _ := strconv.Atoi(stat[12])
			t += time.Duration(user+system) * tick
		}
	}
	return t
}

// RSS is how much memory the processes hold, in bytes (proc_pid_status(5)). Pages that
// they share are counted in each.
func RSS(pids []int) (bytes int) {
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(text)) {
			var kib int
			if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
				bytes += kib << 10
			}
		}
	}
	return bytes
}

// Family is the process and its children: nginx's workers.
func Family(pid int) []int {
	pids := []int{pid}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		child, _ := strconv.Atoi(filepath.Base(dir))
		if stat := procStat(child); len(stat) > 1 && stat[1] == strconv.Itoa(pid) {
			pids = append(pids, child)
		}
	}
	return pids
}

// procStat gives the fields of /proc/PID/stat from the state on, which is the first
// after the name and its parentheses (proc_pid_stat(5)).
func procStat(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}
