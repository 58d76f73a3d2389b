package program

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A child is a started program and our ends of its three pipes.
//
// Its life: start; the process exits, which onExit tells, but it stays a zombie, which
// keeps its process group's number from being used again; signalGroup ends what it left
// behind; reap; close.
type child struct {
	process        *os.Process
	pidfd          int      // -1: there is none (Linux before 5.3)
	stdin          *os.File // Close is safe while a Write is blocked, and wakes it
	rawStdin       syscall.RawConn
	stdout, stderr *os.File
}

// keepInherited sees to it that the files which this process itself inherited (a web
// server's, a shell's) don't go on to children. Files that Go opens never do.
// On Linux before 5.11 the call fails, and such files do get there.
var keepInherited = sync.OnceFunc(func() {
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
})

// start runs the program, without a shell, with pipes as its fds 0 to 2 and in
// a process group of its own, so that stopping it reaches what it started.
//
// Pdeathsig is not used: it fires when the thread that forked ends, not the
// process, so a goroutine that ends locked to its thread would kill children of others. A
// Tandem that is killed closes the pipes, which is the end of input to every program
// that reads; systemd's KillMode ends the rest.
func start(path string, args []string, dir string, env []string) (*child, error) {
	keepInherited()
	var pipes [3][2]*os.File // reading and writing end, by the child's fd
	closeAll := func() {
		for _, p := range pipes {
			for _, f := range p {
				if f != nil {
					f.Close()
				}
			}
		}
	}
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll()
			return nil, err
		}
		pipes[i] = [2]*os.File{r, w}
	}
	// os/exec only makes goroutines for what is not an *os.File, and its own
	// pipes are closed by Wait, with what is still in them: so pipes of ours.
	pidfd := -1
	cmd := &exec.Cmd{
		Path: path, Args: args, Dir: dir, Env: env,
		Stdin: pipes[0][0], Stdout: pipes[1][1], Stderr: pipes[2][1],
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd},
	}
	if err := cmd.Start(); err != nil {
		closeAll()
		return nil, err
	}
	pipes[0][0].Close()
	pipes[1][1].Close()
	pipes[2][1].Close()
	// Not cmd: it keeps the environment.
	c := &child{process: cmd.Process, pidfd: pidfd, stdin: pipes[0][1], stdout: pipes[1][0], stderr: pipes[2][0]}
	c.rawStdin, _ = c.stdin.SyscallConn() // fails for no file that is open
	return c, nil
}

// close closes what is open of c.
func (c *child) close() {
	c.stdin.Close()
	c.stdout.Close()
	c.stderr.Close()
	if c.pidfd >= 0 {
		watching.forget(c.pidfd)
		unix.Close(c.pidfd)
	}
}

// onExit has call called, in a goroutine of its own, when the process has exited; it
// stays a zombie. A pidfd is readable then; where it can't be watched, each child costs
// a thread.
func (c *child) onExit(call func()) {
	if c.pidfd >= 0 && watching.once(c.pidfd, call) == nil {
		return
	}
	go func() {
		for unix.Waitid(unix.P_PID, c.process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		call()
	}()
}

// onStderr has call called, in a goroutine of its own, when something comes on stderr, or
// its end; at once where that can't be watched. forget must be called before close; call may
// still come then.
func (c *child) onStderr(call func()) (forget func()) {
	fd := descriptor(c.stderr)
	if watching.once(fd, call) != nil {
		go call()
	}
	return func() { watching.forget(fd) }
}

// descriptor is f.Fd(), which would make f blocking.
func descriptor(f *os.File) int {
	fd := -1
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// signalGroup sends sig to the child's process group. Only before reap: the group's number is
// ours as long as its leader is not reaped.
func (c *child) signalGroup(sig syscall.Signal) {
	// The error can only be that nobody is left, or that they are not ours any
	// more (a set-user-ID program): nothing that could be done about either.
	_ = syscall.Kill(-c.process.Pid, sig)
}

// reap takes the exit status: whether it was 0, and what it is in words. Call
// once, after the exit.
func (c *child) reap() (success bool, status string) {
	state, err := c.process.Wait()
	if err != nil { // somebody else has reaped it
		return false, fmt.Sprintf("exit status unknown: %v", err)
	}
	return state.Success(), state.String()
}

// startAdvice says what to do about a program that could not be started.
func startAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "the program, the interpreter that its #! line names, or its dir is not there: install it, or correct the path"
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("user id %d may not execute it or enter its dir: chmod +x it, and look at the folders above it and at noexec mounts", os.Getuid())
	case errors.Is(err, syscall.ENOEXEC):
		return "it is neither a binary for this machine nor begins with #!: put its interpreter into its first line, or first into command"
	case errors.Is(err, syscall.E2BIG):
		return "arguments and environment are too large: a header field or variable of this request is over 128 KiB; lower the web server's limit on headers"
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return "no more processes or memory: raise the unit's TasksMax or the user's limit (ulimit -u), or lower limits.children"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "no more file descriptors: raise LimitNOFILE or ulimit -n, or lower limits.children"
	}
	return "try it by hand as the same user, from the same dir"
}
