package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/internal/servertest"
)

const patience = 30 * time.Second

// A newcomer's first minute: scripts/try, then the curl command it prints.
func TestTry(t *testing.T) {
	for _, c := range []struct {
		server    string
		endpoints int
	}{
		{"", 1}, {"nginx", 1}, {"apache", 3}, {"lighttpd", 2},
	} {
		t.Run("server "+c.server, func(t *testing.T) {
			t.Parallel()
			try := start(t, c.server)
			if len(try.ready) != c.endpoints {
				t.Errorf("%d endpoints are ready, expected %d", len(try.ready), c.endpoints)
			}
			for _, r := range try.ready {
				curl, _, _ := strings.Cut(r.curl, "    # ")
				if !strings.Contains(curl, " "+r.url) {
					t.Errorf("%s isn't about %s", curl, r.url)
				}
				if strings.HasPrefix(curl, "curl") {
					typed(t, curl)
				} else {
					piped(t, curl)
				}
			}
			published(t, try.hub)
			try.interrupt(t)
		})
	}
}

// published publishes with the curl command, before and after the other command subscribes; and
// the hub's page is there.
func published(t *testing.T, hub endpoint) {
	t.Helper()
	if err := publish(hub.curl, hub.url); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+hub.connect+" -n 2")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := range 2 {
		if !lines.Scan() || lines.Text() != "It works" {
			t.Errorf("%s: event %d is %q, expected It works", hub.connect, i+1, lines.Text())
			break
		}
		if i == 0 {
			if err := publish(hub.curl, hub.url); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", hub.connect, err)
	}
	page, err := exec.Command("curl", "-s", "-H", "Accept: text/html", hub.url).Output()
	if err != nil || !strings.Contains(string(page), "Tandem: a hub") {
		t.Errorf("GET %s: %v, %.100q, expected the hub's page", hub.url, err, page)
	}
}

func publish(command, url string) error {
	if !strings.HasSuffix(command, " "+url) {
		return fmt.Errorf("%s isn't about %s", command, url)
	}
	out, err := exec.Command("bash", "-c", strings.Replace(command, "curl", "curl -sS", 1)).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "urn:uuid:") {
		return fmt.Errorf("%s: %v, %.200q, expected the event's id", command, err, out)
	}
	return nil
}

// typed plays somebody at the keyboard: says something, and sees it come back and
// then the time, which nobody asked for.
func typed(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+command)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer stop.Stop()
	fmt.Fprintln(in, "hello")
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "hello\n" {
		t.Errorf("%s: got %q, %v, expected hello", command, line, err)
	}
	if line, err := lines.ReadString('\n'); !clock.MatchString(line) {
		t.Errorf("%s: got %q, %v, expected the time", command, line, err)
	}
	cmd.Process.Signal(syscall.SIGINT) // Ctrl-C
	io.Copy(io.Discard, lines)
	cmd.Wait()
}

var clock = regexp.MustCompile(`^\d\d:\d\d:\d\d\n$`)

// piped runs a command that ends by itself: what its printf or echo sends comes back.
func piped(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", command)
	stop := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer stop.Stop()
	out, err := cmd.Output()
	var echoed []string
	for line := range strings.Lines(string(out)) {
		if !clock.MatchString(line) {
			echoed = append(echoed, strings.TrimSpace(line))
		}
	}
	want := "hello world"
	if strings.Contains(command, "line $i") {
		want = "line 1 line 2 line 3 line 4 line 5"
	}
	if got := strings.Join(echoed, " "); got != want || err != nil {
		t.Errorf("%s: got %q, %v, expected %q", command, got, err, want)
	}
}

type endpoint struct{ url, curl, connect string }

type running struct {
	cmd   *exec.Cmd
	temp  string
	ready []endpoint
	hub   endpoint
}

// start runs scripts/try as a user would, in a folder that isn't the repository's.
func start(t *testing.T, server string, args ...string) *running {
	t.Helper()
	root, err := servertest.Root()
	if err != nil {
		t.Fatal(err)
	}
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	// Short, for sockets' paths, and open, for Apache's user.
	temp, err := os.MkdirTemp("", "try")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--port", fmt.Sprint(port)}, args...)
	if server != "" {
		args = append([]string{server}, args...)
	}
	r := &running{cmd: exec.Command(filepath.Join(root, "scripts", "try"), args...), temp: temp}
	r.cmd.Dir = temp
	// go build's own temporary files must not be in temp when we look what is left.
	r.cmd.Env = append(os.Environ(), "TMPDIR="+temp, "GOTMPDIR="+t.TempDir(), "CI=false")
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		r.cmd.Wait()
	})
	stop := time.AfterFunc(2*time.Minute, func() { r.cmd.Process.Kill() })
	defer stop.Stop()
	lines := bufio.NewScanner(out)
	var text []string
	for lines.Scan() {
		text = append(text, strings.TrimSpace(lines.Text()))
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			break
		}
	}
	for i, line := range text {
		if url, ok := strings.CutPrefix(line, "ready "); ok && i+2 < len(text) {
			r.ready = append(r.ready, endpoint{url, text[i+1], text[i+2]})
		}
		if url, ok := strings.CutPrefix(line, "hub "); ok && i+2 < len(text) {
			r.hub = endpoint{url, text[i+1], text[i+2]}
		}
	}
	if len(r.ready) == 0 {
		t.Fatalf("scripts/try %v is not ready; it said:\n%s", args, strings.Join(text, "\n"))
	}
	return r
}

// interrupt is Ctrl-C: everything goes.
func (r *running) interrupt(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(patience, func() { r.cmd.Process.Kill() })
	defer stop.Stop()
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("scripts/try after Ctrl-C: %v", err)
	}
	left, err := os.ReadDir(r.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("scripts/try left %s behind", e.Name())
	}
}

func TestUserProgram(t *testing.T) {
	t.Parallel()
	try := start(t, "", "--", "sh", "-c", `while read -r line; do echo "<$line> $1"; done`, "sh", `a "quoted" \ $HTTP`)
	out, err := exec.Command("bash", "-c", "printf 'x\\n' | curl -sN -T- "+try.ready[0].url).Output()
	if want := `<x> a "quoted" \ $HTTP` + "\n"; string(out) != want || err != nil {
		t.Errorf("got %q, %v, expected %q", out, err, want)
	}
	try.interrupt(t)
}

// Whatever ends it early, nothing stays on disk.
func TestEarlyEnd(t *testing.T) {
	root, err := servertest.Root()
	if err != nil {
		t.Fatal(err)
	}
	for args, status := range map[string]int{"--help": 0, "--bogus": exitUsage, "--app nosuch": exitUsage, "-- ./nosuch": 1} {
		temp := t.TempDir()
		cmd := exec.Command(filepath.Join(root, "scripts", "try"), strings.Fields(args)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp, "GOTMPDIR="+t.TempDir(), "CI=false")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("scripts/try %s: status %d, expected %d:\n%s", args, got, status, out)
		}
		left, err := os.ReadDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("scripts/try %s left %v behind", args, left)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		err  string
	}{
		{"iis", "unknown server iis"},
		{"--port", "wants a value"},
		{"--port x", "expected a number"},
		{"--port=70000", "expected a number"},
		{"--bogus", "unknown option"},
		{"nginx apache", "unexpected argument apache"},
		{"--app echo -- cat", "exclude each other"},
		{"nginx --", "a program is expected"},
		{"nginx", "run scripts/try"},
		{"nginx --port=1 --app echo --source s --bin b", ""},
		{"--source s --bin b apache -- cat --port", ""},
	} {
		_, err := parse(strings.Fields(c.args))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, expected %q", c.args, err, c.err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := options{port: ln.Addr().(*net.TCPAddr).Port}
	if _, err := o.choosePort(); err == nil || !strings.Contains(err.Error(), "--port") {
		t.Errorf("port taken: %v, expected an error that names --port", err)
	}
}
