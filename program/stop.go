package program

import (
	"log/slog"
	"syscall"
	"time"
)

// A step of stopping a program.
type step struct {
	after time.Duration // since the step before
	name  string
	do    func()
}

// stuckTime after SIGKILL a process that is still there hangs in the kernel.
const stuckTime = 5 * time.Second

// stopSteps is how a program is stopped whose session has ended. Each step
// comes only if the process still runs then:
//
//	0            stdin is closed, output is read and dropped
//	StdinGrace   SIGTERM to the process group, and SIGCONT: a stopped process gets no SIGTERM
//	TermGrace    SIGKILL to the process group
//	stuckTime    a log record; its place in the limits stays taken until the kernel lets go
//
// What is left of the group when the process itself has exited gets SIGKILL at once.
func (a *App) stopSteps(c *child, log *slog.Logger) []step {
	return []step{
		{0, "close stdin", func() { c.stdin.Close() }},
		{a.opt.StdinGrace, "SIGTERM", func() {
			c.signalGroup(syscall.SIGTERM)
			c.signalGroup(syscall.SIGCONT)
		}},
		{a.opt.TermGrace, "SIGKILL", func() { c.signalGroup(syscall.SIGKILL) }},
		{stuckTime, "wait", func() {
			log.Error("program does not end after SIGKILL: it hangs in a system call, such as on a lost network file system; its place in limits.children stays taken until then")
		}},
	}
}

// stop takes the steps until exited is closed, and returns the name of the last one taken.
func stop(steps []step, exited <-chan struct{}) (last string) {
	for _, s := range steps {
		t := time.NewTimer(s.after)
		select {
		case <-exited:
			t.Stop()
			return last
		case <-t.C:
		}
		s.do()
		last = s.name
	}
	<-exited
	return last
}
