package cgi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var post = []string{"REQUEST_METHOD=POST", "SERVER_PROTOCOL=HTTP/1.1", "REQUEST_URI=/app?q=1", "HTTP_HOST=example.org"}

func with(vars ...string) []string { return append(append([]string(nil), post...), vars...) }

// Messages pass both ways while the body is open, the server's header first.
func TestFullDuplex(t *testing.T) {
	for _, length := range []string{"", "-1", "1099511627776", "99999999999999999999", "many"} {
		t.Run("CONTENT_LENGTH="+length, func(t *testing.T) {
			p := start(t, "echo", with("CONTENT_LENGTH="+length)...)
			if h := p.until("\r\n\r\n"); !strings.HasPrefix(h, "Status: 200 OK\r\n") {
				t.Errorf("header %q", h)
			}
			p.send("one")
			p.until("echo:one\n")
			p.send("two")
			p.until("echo:two\n")
			p.stdin.Close()
			if out := p.rest(0); out != "end:EOF\n" {
				t.Errorf("got %q", out)
			}
		})
	}
}

func TestBodyOfKnownLength(t *testing.T) {
	for _, tt := range []struct {
		name, body, want string
		env              []string
		open             bool // stdin stays open: nothing beyond the length may be waited for
	}{
		{"exact", "abc", "echo:abc\nend:EOF\n", with("CONTENT_LENGTH=3"), true},
		{"longer", "abcdef", "echo:abc\nend:EOF\n", with("CONTENT_LENGTH=3"), true},
		{"shorter", "ab", "echo:ab\nend:unexpected EOF\n", with("CONTENT_LENGTH=3"), false},
		{"none", "", "end:EOF\n", with("CONTENT_LENGTH=0"), true},
		{"no CONTENT_LENGTH", "ab", "echo:ab\nend:EOF\n", post, false},
		{"GET", "", "end:EOF\n", []string{"REQUEST_METHOD=GET", "SERVER_PROTOCOL=HTTP/1.1", "CONTENT_LENGTH="}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, "echo", tt.env...)
			p.until("\r\n\r\n")
			if tt.body != "" {
				p.send(tt.body)
			}
			if !tt.open {
				p.stdin.Close()
			}
			if out := p.rest(0); out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	p := start(t, "info", with("REMOTE_USER=ada", "SSL_PROTOCOL=TLSv1.3", "REDIRECT_STATUS=200", "CONTENT_TYPE=text/plain", "HTTP_X=y", "LD_PRELOAD=", "HOME=/root")...)
	out := p.rest(0)
	for _, want := range []string{"POST http://example.org/app?q=1 -1 cgi ada\n", "\nSSL_PROTOCOL=TLSv1.3\n", "\nREDIRECT_STATUS=200\n", "\nREQUEST_URI=/app?q=1\n", "\nREMOTE_USER=ada\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	for _, not := range []string{"PATH=", "LD_", "HOME=", "HTTP_X", "TANDEM_CGI_TEST"} {
		if strings.Contains(out, "\n"+not) {
			t.Errorf("%s is in %q", not, out)
		}
	}
}

func TestSignals(t *testing.T) {
	for sig, name := range map[syscall.Signal]string{syscall.SIGTERM: "terminated", syscall.SIGINT: "interrupt", syscall.SIGHUP: "hangup"} {
		p := start(t, "cause", post...)
		p.until("waiting")
		p.signal(sig)
		p.wait(0)
		p.notes("cause: cgi: received signal: "+name, "deadline: true")
	}
}

// A process that only waits learns that its reader has gone.
func TestReaderGone(t *testing.T) {
	p := start(t, "cause", post...)
	p.until("waiting")
	p.stdout.Close()
	p.wait(0)
	p.notes("cause: "+ErrReaderGone.Error(), "deadline: true")
}

// Apache's mod_cgid gives one socket as stdin and stdout, and shuts its writing half
// after the body: that is the body's end, not the reader's.
func TestSocketAsStdinAndStdout(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "cgi"), os.NewFile(uintptr(fds[1]), "server")
	defer ours.Close()
	nc, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = with("TANDEM_CGI_TEST=half", "GATEWAY_INTERFACE=CGI/1.1", atOnce)
	var stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	_ = nc.(*net.UnixConn).CloseWrite()
	for r := bufio.NewReader(nc); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		if line == "read:<nil>\n" {
			break
		}
	}
	nc.Close()
	ours.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), ErrReaderGone.Error()) {
		t.Errorf("stderr: %s", stderr.String())
	}
}

// SIGPIPE doesn't end the process: the write's error does the request.
func TestWriteToClosedStdout(t *testing.T) {
	p := start(t, "flood", post...)
	p.until("\r\n\r\n")
	p.stdout.Close()
	p.wait(0)
	p.notes("write: "+ErrWrite.Error(), "cause: true")
}

func TestWriteDeadlineUnblocksWrite(t *testing.T) {
	p := start(t, "stuck", post...)
	p.send("x")
	// Nothing reads stdout until the process has ended.
	p.wait(0)
	p.notes("write: true")
}

func TestPanics(t *testing.T) {
	for _, tt := range []struct {
		handler, prefix, stderr string
	}{
		{"panic", "Status: 500 Internal Server Error\r\n", "serve.go"},
		{"late panic", "Status: 200 OK\r\n", "boom"},
		{"abort", "Status: 500 ", ""},
	} {
		p := start(t, tt.handler, post...)
		out := p.rest(0)
		if !strings.HasPrefix(out, tt.prefix) || strings.Contains(out, "Secret") {
			t.Errorf("%s: got %q", tt.handler, out)
		}
		if s := p.stderr.String(); !strings.Contains(s, tt.stderr) || tt.stderr == "" && s != "" {
			t.Errorf("%s: stderr %q", tt.handler, s)
		}
	}
}

func TestStatus(t *testing.T) {
	for handler, want := range map[string]string{"silent": "Status: 200 OK\r\n", "status": "Status: 418 I'm a teapot\r\n"} {
		if out := start(t, handler, post...).rest(0); !strings.HasPrefix(out, want) {
			t.Errorf("%s: got %q", handler, out)
		}
	}
}

// The body is left as it is: neither drained nor waited for.
func TestBodyLeftUnread(t *testing.T) {
	p := start(t, "silent", with("CONTENT_LENGTH=1000000")...)
	io.WriteString(p.stdin, "x") // it may have gone already
	p.rest(0)
}

func TestBadEnvironment(t *testing.T) {
	for name, env := range map[string][]string{
		"REQUEST_METHOD is missing": {"SERVER_PROTOCOL=HTTP/1.1"},
		"bad SERVER_PROTOCOL":       {"REQUEST_METHOD=GET", "SERVER_PROTOCOL=FTP"},
		"REQUEST_URI":               {"REQUEST_METHOD=GET", "SERVER_PROTOCOL=HTTP/1.1", "REQUEST_URI=/%zz"},
	} {
		p := start(t, "echo", env...)
		out := p.rest(3)
		if !strings.HasPrefix(out, "Status: 400 Bad Request\r\n") || !strings.Contains(out, "application/problem+json") || !strings.Contains(out, name) {
			t.Errorf("%s: got %q", name, out)
		}
		if n := strings.Count(p.stderr.String(), "\n"); n != 1 {
			t.Errorf("%s: %d lines in the log: %s", name, n, p.stderr)
		}
	}
}

// Where stdin is a file and stdout one too, all that can't block works as well.
func TestFiles(t *testing.T) {
	in, err := os.CreateTemp(t.TempDir(), "in")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.WriteString("from a file"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = with("TANDEM_CGI_TEST=echo", "GATEWAY_INTERFACE=CGI/1.1", atOnce, "CONTENT_LENGTH=11")
	cmd.Stdin, cmd.Stdout = in, out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out.Name())
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\necho:from a file\nend:EOF\n") {
		t.Errorf("got %q, %v", got, err)
	}
}

// Apache's mod_cgid has one socket for stdin and stdout: what is unread when the
// process exits must not reset it.
func TestUnreadBodyOnOneSocket(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	body := strings.Repeat("x", 10000)
	if _, err := io.WriteString(ours, body); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = with("TANDEM_CGI_TEST=status", "GATEWAY_INTERFACE=CGI/1.1", atOnce, fmt.Sprint("CONTENT_LENGTH=", len(body)))
	cmd.Stdin, cmd.Stdout = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	out, err := io.ReadAll(ours)
	if !strings.HasPrefix(string(out), "Status: 418") || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
