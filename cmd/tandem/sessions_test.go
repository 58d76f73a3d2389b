package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stubborn is a program that tells its process id and that only SIGKILL ends.
const stubborn = `["sh", "-c", "trap '' TERM HUP INT; echo $$; while :; do sleep 0.05; done"]`

// open starts tandem with one session, whose program's first line it returns.
func open(t *testing.T, config string) (cmd *exec.Cmd, child int, body *bufio.Reader) {
	t.Helper()
	cmd = tandem(t, nil, "serve", "-c", "c.toml")
	writeFile(t, filepath.Join(cmd.Dir, "c.toml"), config)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := dialWhenThere(t.Context(), filepath.Join(cmd.Dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	body = bufio.NewReader(resp.Body)
	line, err := body.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if child, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return cmd, child, body
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// SIGTERM ends open sessions: the program goes by its steps, the response
// ends, the socket is removed, the status is 0.
func TestStopWithOpenSession(t *testing.T) {
	cmd, child, body := open(t, "http = 'unix:s'\nstdin_grace = '100ms'\nterm_grace = '200ms'\ncommand = "+stubborn+"\n")
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := body.ReadByte(); err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("took %v, expected the graces' 300 ms and little more", took)
	}
	if !gone(child) {
		t.Error("the program is still there")
		syscall.Kill(child, syscall.SIGKILL)
	}
	if _, err := os.Lstat(filepath.Join(cmd.Dir, "s")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// While a stopping process waits for its sessions nobody can connect any
// more, and a second signal ends the wait.
func TestSecondSignal(t *testing.T) {
	cmd, child, _ := open(t, "http = 'unix:s'\nstdin_grace = '1h'\nterm_grace = '0s'\ncommand = "+stubborn+"\n")
	defer syscall.Kill(child, syscall.SIGKILL) // nobody is left to do it
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(cmd.Dir, "s"))
		if err != nil {
			break // it has begun
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("still accepting")
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(syscall.SIGINT) {
		t.Errorf("got %v, expected status 130", err)
	}
}

// Limits hold for all endpoints together.
func TestLimitsAreShared(t *testing.T) {
	cmd, _, _ := open(t, "http = 'unix:s'\n[limits]\nsessions = 1\n"+
		"[endpoint.a]\npath = '/'\ncommand = ['sh', '-c', 'echo $$; exec cat']\n[endpoint.b]\npath = '/b'\napp = 'echo'\n")
	c, err := net.Dial("unix", filepath.Join(cmd.Dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\na\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, expected 503: the other endpoint holds the only session", resp.StatusCode)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
