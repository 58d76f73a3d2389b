package cgi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tandem/internal/gateway"
)

// The test binary is also the CGI program: with TANDEM_CGI_TEST it serves the named
// handler and exits.
func TestMain(m *testing.M) {
	if name := os.Getenv("TANDEM_CGI_TEST"); name != "" {
		err := Serve(handlers[name], nil)
		if leak := goleak.Find(); leak != nil {
			fmt.Fprintln(os.Stderr, "leak:", leak)
		}
		if err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// note writes to stderr what a handler saw when it may have no response any more.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, "note: "+format+"\n", args...) }

var handlers = map[string]http.HandlerFunc{
	"echo": func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.Flush(); err != nil {
			note("flush: %v", err)
		}
		buf := make([]byte, 1024)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				fmt.Fprintf(w, "echo:%s\n", buf[:n])
				_ = rc.Flush()
			}
			if err != nil {
				fmt.Fprintf(w, "end:%v\n", err)
				return
			}
		}
	},
	"info": func(w http.ResponseWriter, r *http.Request) {
		info := gateway.Of(r)
		fmt.Fprintf(w, "%s %s %d %s %s\n", r.Method, r.URL, r.ContentLength, info.Interface, info.User)
		for k, v := range info.Vars {
			fmt.Fprintf(w, "%s=%s\n", k, v)
		}
	},
	// cause says why its context ended, and whether a read was unblocked then.
	"cause": func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		stop := context.AfterFunc(r.Context(), func() { _ = rc.SetReadDeadline(time.Now()) })
		defer stop()
		_ = rc.Flush() // from here on signals are caught
		fmt.Fprint(w, "waiting")
		_ = rc.Flush()
		_, err := io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		note("cause: %v", context.Cause(r.Context()))
		note("deadline: %v", errors.Is(err, os.ErrDeadlineExceeded))
		note("read: %v", err)
	},
	// half says when the body has ended, and then waits.
	"half": func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "read:%v\n", err)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		note("cause: %v", context.Cause(r.Context()))
	},
	"flood": func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				note("write: %v %v", err, errors.Is(err, ErrWrite))
				break
			}
		}
		<-r.Context().Done()
		note("cause: %v", errors.Is(context.Cause(r.Context()), ErrWrite) || errors.Is(context.Cause(r.Context()), ErrReaderGone))
	},
	"stuck": func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		// The first line of the body says that stdout isn't read.
		_, _ = r.Body.Read(make([]byte, 1))
		time.AfterFunc(10*time.Millisecond, func() { _ = rc.SetWriteDeadline(time.Now()) })
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				note("write: %v", errors.Is(err, os.ErrDeadlineExceeded))
				return
			}
		}
	},
	"panic": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Secret", "1")
		w.WriteHeader(http.StatusCreated)
		panic("boom")
	},
	"late panic": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "partial")
		panic("boom")
	},
	"abort":  func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	"silent": func(http.ResponseWriter, *http.Request) {},
	"status": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
	},
}

const patience = 10 * time.Second

// process is a CGI process and the web server's ends of its pipes.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	out    *bufio.Reader
	stderr *strings.Builder
}

// atOnce takes away the second that programs built with -race wait before they exit.
const atOnce = "GORACE=atexit_sleep_ms=0"

// start runs the handler in a process with a web server's environment.
func start(t *testing.T, handler string, env ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append([]string{"TANDEM_CGI_TEST=" + handler, "PATH=/usr/bin", "LD_X=1", "GATEWAY_INTERFACE=CGI/1.1", atOnce}, env...)
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "GOCOVERDIR=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	p := &process{t: t, cmd: cmd, stderr: &strings.Builder{}}
	cmd.Stderr = p.stderr
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.stdout, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(p.stdout)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A hang is a failure: the kill shows in the exit status.
	dog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		dog.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

func (p *process) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, s); err != nil {
		p.t.Errorf("stdin: %v", err)
	}
}

// until reads stdout up to and with want.
func (p *process) until(want string) string {
	p.t.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), want) {
		c, err := p.out.ReadByte()
		if err != nil {
			p.t.Fatalf("stdout ends after %q, before %q; stderr: %s", b.String(), want, p.stderr)
		}
		b.WriteByte(c)
	}
	return b.String()
}

// rest reads stdout to its end, and checks the exit status.
func (p *process) rest(status int) string {
	p.t.Helper()
	b, _ := io.ReadAll(p.out)
	p.wait(status)
	return string(b)
}

func (p *process) wait(status int) {
	p.t.Helper()
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState; got.ExitCode() != status {
		p.t.Errorf("%v, want exit status %d; stderr: %s", got, status, p.stderr)
	}
	if strings.Contains(p.stderr.String(), "leak:") {
		p.t.Errorf("stderr: %s", p.stderr)
	}
}

// notes fails the test unless stderr has all of these.
func (p *process) notes(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if !strings.Contains(p.stderr.String(), "note: "+w) {
			p.t.Errorf("no %q in stderr: %s", w, p.stderr)
		}
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }
