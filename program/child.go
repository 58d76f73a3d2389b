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
// Its life: start; the process exits and exited is closed, but it stays a
// zombie, which keeps its process group's number from being used again; killGroup ends
// what it left behind; reap.
type child struct {
	cmd            *exec.Cmd
	stdin          *os.File // Close is safe while a Write is blocked, and wakes it
	stdout, stderr *os.File
	exited         chan struct{}
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
	c := &child{
		cmd: cmd, stdin: pipes[0][1], stdout: pipes[1][0], stderr: pipes[2][0],
		exited: make(chan struct{}),
	}
	go c.awaitExit(pidfd)
	return c, nil
}

// awaitExit closes exited when the process has exited, and leaves it a zombie.
// The Go runtime's poller waits for it on the pidfd; without one (Linux before 5.3)
// each child costs a thread.
func (c *child) awaitExit(pidfd int) {
	defer close(c.exited)
	if pidfd >= 0 {
		// os.NewFile gives only non-blocking files to the poller. os.Process shares the
		// flag: its Wait would not wait any more, but reap comes after the exit.
		_ = unix.SetNonblock(pidfd, true)
		f := os.NewFile(uintptr(pidfd), "pidfd")
		defer f.Close()
		if conn, err := f.SyscallConn(); err == nil && conn.Read(exitSeen) == nil {
			return
		}
	}
	for {
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// exitSeen asks without waiting; SyscallConn.Read calls it again at each event.
func exitSeen(pidfd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n > 0 && err == nil
}

// signalGroup sends sig to the child's process group. Only before reap: the group's number is
// ours as long as its leader is not reaped.
func (c *child) signalGroup(sig syscall.Signal) {
	// The error can only be that nobody is left, or that they are not ours any
	// more (a set-user-ID program): nothing that could be done about either.
	_ = syscall.Kill(-c.cmd.Process.Pid, sig)
}

// reap takes the exit status: whether it was 0, and what it is in words. Call
// once, after exited.
func (c *child) reap() (success bool, status string) {
	err := c.cmd.Wait()
	if state := c.cmd.ProcessState; state != nil {
		return state.Success(), state.String()
	}
	return false, fmt.Sprintf("exit status unknown: %v", err) // somebody else has reaped it
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
