package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tandem/internal/servertest"
)

// TestMain makes this test binary the command tandem, which scripts and tests
// find in PATH.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"tandem": main})
}

// tests removes, after all, what servertest has built.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer servertest.Cleanup()
	return m.M.Run()
}

// raceExit has processes under the race detector end at once; by default each
// waits a second for reports.
const raceExit = "GORACE=atexit_sleep_ms=5"

// TestScript runs testdata/script: what the commands print and exit with.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// Of what the tests are started with, nothing may decide how tandem starts.
			e.Vars = append(e.Vars, raceExit, "TANDEM_CONFIG=", "GATEWAY_INTERFACE=", "LISTEN_PID=", "NOTIFY_SOCKET=")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status,
			"post":   post,
			"term":   term,
		},
	})
}

// status N COMMAND ARGS… runs a command that must end with status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		got = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, expected %s", got, args[0])
	}
}

// post SOCKET PATH BODY FILE waits for HTTP on a unix socket, posts the body as
// lines, and writes status and answer to FILE.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: post SOCKET PATH BODY FILE")
	}
	socket := ts.MkAbs(args[0])
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialWhenThere(ctx, socket)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://tandem"+args[1], "text/plain", strings.NewReader(strings.ReplaceAll(args[2], `\n`, "\n")))
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), fmt.Appendf(nil, "%d\n%s", resp.StatusCode, body), 0o600))
}

// term SIGNAL… sends signals to the background process that writes its id to
// the file pid, which a script makes with: exec sh -c 'echo $$ >pid; exec …' &
func term(ts *testscript.TestScript, neg bool, args []string) {
	var pid int
	_, err := fmt.Sscan(ts.ReadFile("pid"), &pid)
	ts.Check(err)
	for _, name := range args {
		sig, ok := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}[name]
		if !ok || pid <= 1 {
			ts.Fatalf("signal %s to %d", name, pid)
		}
		ts.Check(syscall.Kill(pid, sig))
	}
}

// dialWhenThere connects to a socket that a process that has just been started
// will listen on. There is no event to wait for.
func dialWhenThere(ctx context.Context, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tandem is the command under test with nothing of our own environment.
func tandem(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := exec.LookPath("tandem")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), raceExit}, env...)
	cmd.Dir = t.TempDir()
	return cmd
}

// A process whose file descriptor 0 is a listening socket serves FastCGI there,
// whatever else its environment says, and ends with status 0 at SIGTERM.
func TestFastCGIOnStdin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	config := filepath.Join(t.TempDir(), "c.toml")
	writeFile(t, config, "app = 'echo'\nhttp = '127.0.0.1:1'\n") // must not be opened
	cmd := tandem(t, []string{"GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=POST", "SERVER_PROTOCOL=HTTP/1.1"}, "-c", config)
	cmd.Stdin = f
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := fastCGI(t, path, map[string]string{"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1"}, "hello\n")
	if !strings.HasSuffix(got, "\r\n\r\nhello\n") {
		t.Errorf("got %q", got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the web server's socket was removed: %v", err)
	}
}

// FCGI_WEB_SERVER_ADDRS says who may connect to a socket that was passed.
func TestWebServerAddrs(t *testing.T) {
	for list, want := range map[string]string{"192.0.2.1": "", "192.0.2.1,127.0.0.1": "hello\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		config := filepath.Join(t.TempDir(), "c.toml")
		writeFile(t, config, "app = 'echo'\n")
		cmd := tandem(t, []string{"FCGI_WEB_SERVER_ADDRS=" + list, "TANDEM_CONFIG=" + config})
		cmd.Stdin = f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := fastCGI(t, l.Addr().String(), map[string]string{"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1"}, "hello\n")
		if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != want {
			t.Errorf("%s: got %q, expected %q", list, got, want)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// systemd's environment: sockets by name, READY and STOPPING.
func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	notify.SetReadDeadline(time.Now().Add(20 * time.Second))
	states := func(want string) {
		t.Helper()
		buf := make([]byte, 200)
		for {
			n, err := notify.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if string(buf[:n]) == want {
				return
			}
		}
	}
	var files []*os.File
	for _, name := range []string{"f", "h"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	config := filepath.Join(dir, "c.toml")
	writeFile(t, config, "app = 'echo'\n")
	exe, err := exec.LookPath("tandem")
	if err != nil {
		t.Fatal(err)
	}
	// LISTEN_PID is known only to the process itself.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0"`, exe)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), raceExit, "LISTEN_FDS=2", "LISTEN_FDNAMES=fastcgi:http",
		"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"), "WATCHDOG_USEC=20000", "TANDEM_CONFIG=" + config}
	cmd.ExtraFiles = files
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	states("READY=1")
	states("WATCHDOG=1")
	if got := fastCGI(t, filepath.Join(dir, "f"), map[string]string{"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1"}, "a\n"); !strings.HasSuffix(got, "\r\n\r\na\n") {
		t.Errorf("FastCGI: %q", got)
	}
	c, err := dialWhenThere(t.Context(), filepath.Join(dir, "h"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("HTTP: %q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	states("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// In journald's stream lines have a priority and no time.
func TestJournalStream(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	cmd := tandem(t, []string{"GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", "SERVER_PROTOCOL=HTTP/1.1",
		"TANDEM_CONFIG=/none.toml", fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)})
	cmd.Stderr = w
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	w.Close()
	log, _ := io.ReadAll(r)
	if !strings.HasPrefix(string(log), "<3>level=error msg=configuration ") || strings.Count(string(log), "\n") != 1 {
		t.Errorf("got %q", log)
	}
}

func writeFile(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fastCGI sends one request over a FastCGI connection and returns what came on
// STDOUT. It knows only what it needs of the specification's section 3.3.
func fastCGI(t *testing.T, address string, params map[string]string, body string) string {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	var out bytes.Buffer
	record := func(kind byte, content []byte) {
		out.Write([]byte{1, kind, 0, 1, byte(len(content) >> 8), byte(len(content)), 0, 0})
		out.Write(content)
	}
	var p []byte
	for k, v := range params {
		for _, n := range []int{len(k), len(v)} {
			p = append(p, 0x80|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		}
		p = append(append(p, k...), v...)
	}
	record(1, []byte{0, 1, 0, 0, 0, 0, 0, 0}) // BEGIN_REQUEST, responder
	record(4, p)                              // PARAMS
	record(4, nil)
	record(5, []byte(body)) // STDIN
	record(5, nil)
	c.Write(out.Bytes()) // one that is refused shows in what comes back
	var got bytes.Buffer
	in := bufio.NewReader(c)
	for {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return got.String()
		}
		content := make([]byte, int(head[4])<<8|int(head[5]))
		io.ReadFull(in, content)
		in.Discard(int(head[6]))
		switch head[1] {
		case 6: // STDOUT
			got.Write(content)
		case 3: // END_REQUEST
			return got.String()
		}
	}
}
