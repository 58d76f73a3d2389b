package servertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Command is a program to start.
type Command struct {
	Args   []string
	Dir    string
	Env    []string            // beside the test's own environment
	User   *syscall.Credential // nil: the current user
	Output string              // file for stdout and stderr
	Files  []*os.File          // fds 3 and on
	Stdin  *os.File
}

// Process is a running program and its process group.
type Process struct {
	cmd    *exec.Cmd
	output string
	done   chan struct{}
	err    error // valid once done is closed
	sweep  sync.Once
}

// stopGrace is how long a program may take to end after SIGTERM.
const stopGrace = 10 * time.Second

// StartProcess starts c in a process group of its own, which dies with this
// process: the kernel kills the program when the thread that started it ends, so
// that thread is kept until then.
func StartProcess(c Command) (*Process, error) {
	out, err := os.Create(c.Output)
	if err != nil {
		return nil, fmt.Errorf("servertest: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = c.Files
	if c.Stdin != nil {
		cmd.Stdin = c.Stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Credential: c.User}
	p := &Process{cmd: cmd, output: c.Output, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("servertest: start %s: %w", c.Args[0], err)
	}
	return p, nil
}

// Pid is the program's process id, and its group's.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended: nil for exit status 0, else an *exec.ExitError.
// It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// LogFile is where the program prints to.
func (p *Process) LogFile() string { return p.output }

// Log is what the program printed so far.
func (p *Process) Log() string { return readLogs(p.output) }

// Signal sends sig to the program, not to its group.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the program and its whole group at once.
func (p *Process) Kill() {
	syscall.Kill(-p.Pid(), syscall.SIGKILL)
	<-p.done
}

// Stop sends SIGTERM, then waits. A program that is still there after ten seconds
// is killed, and that is an error, as is a program that died of another signal;
// whatever its group left behind is killed too.
func (p *Process) Stop() error {
	// ESRCH and os.ErrProcessDone say that it has ended already: no error here.
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		p.Kill()
		return fmt.Errorf("still running %v after SIGTERM, killed", stopGrace)
	}
	// Once: the group's number may belong to others later.
	p.sweep.Do(func() { syscall.Kill(-p.Pid(), syscall.SIGKILL) })
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() != syscall.SIGTERM && status.Signal() != syscall.SIGKILL {
			return fmt.Errorf("died: %w", p.err)
		}
	}
	return nil
}

func (s *Server) checkConfig(binary string, args []string, user *syscall.Credential) error {
	cmd := exec.Command(binary, args...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("servertest: %s refuses the configuration: %w\n%s", binary, err, out)
	}
	return nil
}
