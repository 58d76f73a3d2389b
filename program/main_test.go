package program

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"tandem/session/frame"
)

const roleVariable = "TANDEM_TEST_ROLE"

// TestMain is the test, or one of the children: the test binary re-executed.
// After the tests no goroutine and no child process may be left.
func TestMain(m *testing.M) {
	if r := os.Getenv(roleVariable); r != "" {
		role, arg, _ := strings.Cut(r, " ")
		os.Exit(roles[role](arg))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			fmt.Fprintf(os.Stderr, "a child is left behind: wait4: %d, %v\n", pid, err)
			status = 1
		}
		os.Exit(status)
	}))
}

// roles are what children do; the result is the exit status.
var roles = map[string]func(arg string) int{
	// environ writes its environment.
	"environ": func(string) int {
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
		return 0
	},
	// files writes its open files, and whether each is blocking.
	"files": func(string) int {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			return 1
		}
		for _, fd := range fds {
			n, _ := strconv.Atoi(filepath.Base(fd))
			to, err := os.Readlink(fd)
			if err != nil || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") {
				continue // the Go runtime's own, or closed again
			}
			flags, _ := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
			kind, _, _ := strings.Cut(to, ":")
			fmt.Println(n, kind, "nonblocking", flags&unix.O_NONBLOCK != 0)
		}
		return 0
	},
	// group writes its pid and process group.
	"group": func(string) int {
		fmt.Println(os.Getpid(), unix.Getpgrp())
		return 0
	},
	"dir": func(string) int {
		dir, _ := os.Getwd()
		fmt.Println(dir)
		return 0
	},
	"exit": func(arg string) int {
		status, _ := strconv.Atoi(arg)
		return status
	},
	"kill": func(string) int {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	// print writes arg, without a newline.
	"print": func(arg string) int {
		fmt.Print(arg)
		return 0
	},
	// print-crash writes arg and fails.
	"print-crash": func(arg string) int {
		fmt.Print(arg)
		return 3
	},
	"print-stderr": func(arg string) int {
		fmt.Fprint(os.Stderr, arg)
		return 0
	},
	// count writes the numbers below arg, a line each.
	"count": func(arg string) int {
		n, _ := strconv.Atoi(arg)
		w := bufio.NewWriter(os.Stdout)
		defer w.Flush()
		for i := range n {
			fmt.Fprintln(w, i)
		}
		return 0
	},
	// flood writes lines for ever.
	"flood": func(string) int {
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for i := 1; ; i++ {
			if _, err := os.Stdout.Write(line); err != nil {
				return 1
			}
		}
	},
	// huge-line writes for ever without a newline.
	"huge-line": func(string) int {
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("x", 4096)); err != nil {
				return 1
			}
		}
	},
	// not-reading never reads its stdin, and ends with SIGTERM.
	"not-reading": func(string) int {
		fmt.Println("ready")
		select {}
	},
	// eof reads to the end of input and then says so.
	"eof": func(string) int {
		fmt.Println("ready")
		n, _ := io.Copy(io.Discard, os.Stdin)
		fmt.Println("end after", n)
		return 0
	},
	// close-stdin closes its stdin, says so, and ends at SIGTERM.
	"close-stdin": func(string) int {
		os.Stdin.Close()
		fmt.Println("closed")
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		<-c
		return 0
	},
	// term ignores the end of input, ends at SIGTERM after a word in file arg.
	"term": func(arg string) int {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		<-c
		if os.WriteFile(arg, []byte("SIGTERM came after the end of input"), 0o600) != nil {
			return 1
		}
		return 0
	},
	// stubborn ends by SIGKILL only.
	"stubborn": func(string) int {
		signal.Ignore(syscall.SIGTERM, syscall.SIGPIPE)
		fmt.Println(os.Getpid())
		sleep()
		return 0
	},
	// stopped stops itself, and ends at SIGTERM.
	"stopped": func(string) int {
		fmt.Println("ready")
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		sleep()
		return 0
	},
	// parent starts a stubborn child in its group, which shares its stdout and writes its pid
	// there, and then waits for it ("wait"), exits at once ("leave"), or exits after a line of input ("leave-later").
	// With "detach" the child is in a group of its own.
	"parent": func(arg string) int {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), roleVariable+"=stubborn")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if arg == "detach" {
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		}
		if err := child.Start(); err != nil {
			return 1
		}
		switch arg {
		case "wait":
			_ = child.Wait()
		case "leave-later":
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		}
		return 0
	},
}

// sleep is select{} for a role without other goroutines, where the runtime would see a deadlock.
func sleep() {
	for {
		time.Sleep(time.Hour)
	}
}

// roleOptions makes the test binary the program, in a role.
func roleOptions(role string) Options {
	return Options{
		Command: []string{"/proc/self/exe"},
		// The race detector sleeps a second at each exit unless told otherwise.
		Env: []string{roleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"},
		// Long graces: a test that should not need them shows it by its time-out.
		StdinGrace: time.Minute, TermGrace: time.Minute,
	}
}

// A testSession is the conn of a test, and the client at its other end.
type testSession struct {
	t      *testing.T
	ctx    context.Context
	cancel context.CancelCauseFunc
	in     chan frame.Message // what React gives; closed: the end of the client's input
	out    chan frame.Message // what Send sent; unbuffered, so that Send blocks like a full window
	closed chan *frame.CloseError
	log    *logRecorder
	done   chan struct{} // Serve has returned
	err    error         // with this
	endIn  sync.Once
}

// serve starts app for a new session of p.
func serve(t *testing.T, app *App, p *peer) *testSession {
	t.Helper()
	s := &testSession{
		t: t, in: make(chan frame.Message), out: make(chan frame.Message),
		closed: make(chan *frame.CloseError, 10), done: make(chan struct{}), log: &logRecorder{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	go func() {
		defer close(s.done)
		s.err = app.serve(s.ctx, s, p)
	}()
	t.Cleanup(func() {
		s.cancel(nil)
		s.wait()
	})
	return s
}

// run makes an App of o and serves a session of a guest.
func run(t *testing.T, o Options) *testSession {
	t.Helper()
	return serve(t, newApp(t, o), &peer{})
}

func newApp(t *testing.T, o Options) *App {
	t.Helper()
	app, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func (s *testSession) ID() string        { return "owner.random" }
func (s *testSession) Log() *slog.Logger { return slog.New(s.log) }

func (s *testSession) ForgetRequest() {}

func (s *testSession) WillBlock() {}

func (s *testSession) React(f func(frame.Message, error) bool) {
	go func() {
		for {
			select {
			case m, ok := <-s.in:
				if !ok {
					f(m, io.EOF)
					return
				}
				if !f(m, nil) {
					return
				}
			case <-s.ctx.Done():
				f(frame.Message{}, s.ctx.Err())
				return
			case <-s.done: // as the session's end is
				return
			}
		}
	}()
}

func (s *testSession) Send(ctx context.Context, m frame.Message) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.Data = append([]byte(nil), m.Data...)
	select {
	case s.out <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *testSession) Close(code frame.Code, reason string) error {
	e := &frame.CloseError{Code: code, Reason: reason}
	s.closed <- e
	s.cancel(e)
	return nil
}

const patience = 20 * time.Second // for what should come at once, on a busy machine

// say sends a text message to the program.
func (s *testSession) say(text string) { s.t.Helper(); s.send(frame.Text(text)) }

func (s *testSession) send(m frame.Message) {
	s.t.Helper()
	select {
	case s.in <- m:
	case <-s.done:
		s.t.Fatalf("the program ended (%v) before it took %.40q", s.err, m.Data)
	case <-time.After(patience):
		s.t.Fatalf("the program did not take %.40q", m.Data)
	}
}

// end is the end of the client's input.
func (s *testSession) end() { s.endIn.Do(func() { close(s.in) }) }

// next is the program's next message.
func (s *testSession) next() frame.Message {
	s.t.Helper()
	select {
	case m := <-s.out:
		return m
	case <-s.done:
		s.t.Fatalf("the program ended without another message: %v", s.err)
	case <-time.After(patience):
		s.t.Fatal("no message came")
	}
	return frame.Message{}
}

// hear expects text as the next message.
func (s *testSession) hear(text string) {
	s.t.Helper()
	if m := s.next(); !m.Text || string(m.Data) != text {
		s.t.Fatalf("got %+q (text %t), expected the text %+q", m.Data, m.Text, text)
	}
}

// rest is all messages until Serve returns, and what it returns.
func (s *testSession) rest() ([]frame.Message, error) {
	s.t.Helper()
	var all []frame.Message
	late := time.After(patience)
	for {
		select {
		case m := <-s.out:
			all = append(all, m)
		case <-s.done:
			return all, s.err
		case <-late:
			s.t.Fatalf("the session goes on after %d messages", len(all))
		}
	}
}

// wait waits until Serve has returned, and gives its error; no message may come.
func (s *testSession) wait() error {
	s.t.Helper()
	select {
	case <-s.done:
	case m := <-s.out:
		s.t.Fatalf("unexpected message %.80q", m.Data)
	case <-time.After(patience):
		s.t.Fatal("Serve did not return")
	}
	return s.err
}

// logRecorder keeps log records as text.
type logRecorder struct {
	mu      sync.Mutex
	records []slog.Record
	attrs   []slog.Attr
	parent  *logRecorder
}

func (*logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (l *logRecorder) WithGroup(string) slog.Handler          { return l }
func (l *logRecorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logRecorder{parent: l, attrs: attrs}
}

func (l *logRecorder) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(l.attrs...)
	if l.parent != nil {
		return l.parent.Handle(ctx, r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

// values gives attribute key of each record with message msg.
func (l *logRecorder) values(msg, key string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, r := range l.records {
		if r.Message == msg {
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == key {
					all = append(all, a.Value.String())
				}
				return true
			})
		}
	}
	return all
}
