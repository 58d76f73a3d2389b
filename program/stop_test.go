package program

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/frame"
)

// The table of stop.go, in its own time.
func TestStopSteps(t *testing.T) {
	for _, tc := range []struct {
		exit time.Duration // when the process exits
		want string        // the steps, each with its time
		last string
	}{
		{0, "", ""},
		{1 * time.Millisecond, "0s close stdin;", "close stdin"},
		{1500 * time.Millisecond, "0s close stdin;1s SIGTERM;", "SIGTERM"},
		{4 * time.Second, "0s close stdin;1s SIGTERM;2s SIGKILL;", "SIGKILL"},
		{time.Hour, "0s close stdin;1s SIGTERM;2s SIGKILL;7s wait;", "wait"},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin, got := time.Now(), ""
			exited := make(chan struct{})
			if tc.exit == 0 {
				close(exited)
			} else {
				time.AfterFunc(tc.exit, func() { close(exited) })
			}
			app := &App{opt: Options{StdinGrace: defaultStdinGrace, TermGrace: defaultTermGrace}}
			steps := app.stopSteps(nil, nil)
			for i, s := range steps {
				steps[i].do = func() { got += fmt.Sprint(time.Since(begin), " ", s.name, ";") }
			}
			if tc.exit == 0 { // both are ready: either may be first
				steps = steps[1:]
			}
			last := stop(steps, exited)
			if got != tc.want || last != tc.last || time.Since(begin) != tc.exit {
				t.Errorf("exit after %v: %q, last %q, returned after %v; expected %q, %q", tc.exit, got, last, time.Since(begin), tc.want, tc.last)
			}
		})
	}
}

// stopped cancels the session and gives the last step that the program needed.
func (s *testSession) stopped() string {
	s.t.Helper()
	s.cancel(fmt.Errorf("the client has gone"))
	if _, err := s.rest(); err != nil { // messages that were under way may come
		s.t.Errorf("Serve of an ended session returned %v", err)
	}
	last := s.log.values("program ended", "stopped_by")
	if len(last) != 1 {
		s.t.Fatalf("the program's end is in the log %d times", len(last))
	}
	return last[0]
}

func TestStopByEndOfInput(t *testing.T) {
	s := run(t, roleOptions("eof"))
	s.hear("ready")
	if last := s.stopped(); last != "close stdin" {
		t.Error(last)
	}
}

func TestStopBySIGTERM(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	o := roleOptions("term " + said)
	o.StdinGrace = time.Millisecond
	s := run(t, o)
	s.hear("ready")
	if last := s.stopped(); last != "SIGTERM" {
		t.Error(last)
	}
	if b, err := os.ReadFile(said); err != nil || !bytes.Contains(b, []byte("after the end of input")) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestStopASuspendedProgram(t *testing.T) {
	o := roleOptions("stopped")
	o.StdinGrace = time.Millisecond
	s := run(t, o)
	s.hear("ready")
	if last := s.stopped(); last != "SIGTERM" {
		t.Error(last)
	}
}

// Killing reaches the whole group: the grandchild ignores SIGTERM and end of input.
func TestStopByKillingTheGroup(t *testing.T) {
	o := roleOptions("parent wait")
	o.StdinGrace, o.TermGrace = -1, time.Millisecond
	s := run(t, o)
	pid := grandchild(s)
	// SIGTERM ends the parent, its abandoned child gets SIGKILL at once.
	s.stopped()
	gone(t, pid)

	o = roleOptions("stubborn")
	o.StdinGrace, o.TermGrace = -1, time.Millisecond
	s = run(t, o)
	pid = grandchild(s)
	if last := s.stopped(); last != "SIGKILL" {
		t.Error(last)
	}
	gone(t, pid)
}

func TestShellPipelineIsStopped(t *testing.T) {
	o := Options{Command: []string{"sh", "-c", `trap "" TERM; sh -c 'trap "" TERM; echo $$; sleep 1000' | cat`}, StdinGrace: -1, TermGrace: time.Millisecond}
	s := run(t, o)
	pid := grandchild(s)
	s.stopped()
	gone(t, pid)
}

func grandchild(s *testSession) int {
	s.t.Helper()
	pid, err := strconv.Atoi(string(s.next().Data))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// gone waits until process pid is no more, or is a zombie that its new parent has
// not reaped yet. Nothing tells us of processes that are not our children, so this polls.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return
		}
		if i := bytes.LastIndexByte(stat, ')'); i > 0 && strings.HasPrefix(string(stat[i+1:]), " Z") {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}

// The program exits while a process that it started holds its stdout: the session
// ends after drainTime, and that process with it.
func TestStrayHoldingStdout(t *testing.T) {
	s := run(t, roleOptions("parent leave"))
	pid := grandchild(s)
	if err := s.wait(); err != nil {
		t.Errorf("exit status 0 gave %v", err)
	}
	gone(t, pid)
}

// A stray that has made its own group is out of reach, but must not hang the session.
func TestDetachedStrayHoldingStdout(t *testing.T) {
	s := run(t, roleOptions("parent detach"))
	pid := grandchild(s)
	if err := s.wait(); err != nil {
		t.Errorf("exit status 0 gave %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the detached process did not live on: %v", err)
	}
}

func TestStrayOfAnEndedSessionGoesAtOnce(t *testing.T) {
	s := run(t, roleOptions("parent leave-later"))
	pid := grandchild(s)
	begin := time.Now()
	if last := s.stopped(); last != "close stdin" {
		t.Error(last)
	}
	if d := time.Since(begin); d > drainTime {
		t.Errorf("took %v", d)
	}
	gone(t, pid)
}

// A program that reads nothing blocks only its own relay: the client gets rid of what fits
// the pipe, then its window is closed.
func TestNotReading(t *testing.T) {
	o := roleOptions("not-reading")
	o.StdinGrace = time.Millisecond
	s := run(t, o)
	s.hear("ready")
	text := strings.Repeat("x", 1023)
	for range 64 {
		s.say(text) // the pipe takes that
	}
	sent := 64
	for blocked := false; !blocked; {
		select {
		case s.in <- frame.Text(text):
			if sent++; sent > 256 {
				t.Fatalf("%d KiB went into a program that does not read", sent)
			}
		case <-time.After(100 * time.Millisecond): // no event says that a write blocks
			blocked = true
		}
	}
	if last := s.stopped(); last != "SIGTERM" {
		t.Error(last)
	}
}

// A flood is slowed by Send: while the client does not take messages, nothing is read.
func TestFlood(t *testing.T) {
	o := roleOptions("flood")
	o.StdinGrace = time.Millisecond
	s := run(t, o)
	s.next()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20000 {
		if m := s.next(); len(m.Data) != 1023 {
			t.Fatalf("a message of %d bytes", len(m.Data))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	// The client stops reading: so does the relay, and the program blocks with a full pipe.
	pid, _ := strconv.Atoi(s.log.values("program started", "pid")[0])
	blocked(t, pid)
	if last := s.stopped(); last != "SIGTERM" {
		t.Error(last)
	}
}

// blocked waits until process pid sleeps in a write to a full pipe.
func blocked(t *testing.T, pid int) {
	t.Helper()
	var seen []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		for _, task := range tasks {
			seen, _ = os.ReadFile(task)
			// number of write(2), fd 1
			if strings.HasPrefix(string(seen), fmt.Sprintf("%d 0x1 ", syscall.SYS_WRITE)) {
				return
			}
		}
	}
	t.Errorf("the program never blocked; last seen: %q", seen)
}

func TestProgramThatClosesItsStdin(t *testing.T) {
	o := roleOptions("close-stdin")
	o.StdinGrace = time.Millisecond
	s := run(t, o)
	s.hear("closed")
	for range 200 { // more than any pipe would hold
		s.say(strings.Repeat("x", 1023))
	}
	s.end()
	if last := s.stopped(); last != "SIGTERM" {
		t.Error(last)
	}
}

func TestStderr(t *testing.T) {
	long := strings.Repeat("é", maxStderrLine) // twice maxStderrLine in bytes
	for _, to := range []Stderr{"", StderrLog, StderrClient, StderrBoth} {
		o := roleOptions("print-stderr one\n\n" + long + "\nbad \xff\nlast")
		o.Stderr = to
		s := run(t, o)
		out, err := s.rest()
		if err != nil {
			t.Fatal(err)
		}
		logged := s.log.values("program wrote to stderr", "line")
		want := []string{"one", "", long[:maxStderrLine], long[maxStderrLine:], "bad \xff", "last"}
		wantLog := slices.Clone(want)
		wantLog[4] = "bad \uFFFD"
		if to == StderrClient {
			wantLog = nil
		}
		if to == StderrLog || to == "" {
			want = nil
		}
		if !slices.Equal(logged, wantLog) {
			t.Errorf("%q: logged %.60q", to, logged)
		}
		if got := texts(out); !slices.Equal(got, want) {
			t.Errorf("%q: the client got %.60q", to, got)
		}
	}
}

// With "both", a client that has gone takes nothing from the log.
func TestStderrBothLogsAfterTheSession(t *testing.T) {
	s := run(t, Options{Command: []string{"sh", "-c", "echo ready; cat; echo saved >&2"}, Stderr: StderrBoth, StdinGrace: time.Minute})
	s.hear("ready")
	s.stopped()
	if got := s.log.values("program wrote to stderr", "line"); !slices.Equal(got, []string{"saved"}) {
		t.Errorf("logged %q", got)
	}
}

// The way of kernels without pidfd.
func TestExitWithoutPidfd(t *testing.T) {
	c, err := start("/bin/cat", []string{"cat"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	exits := make(chan struct{}, 2)
	other := &child{process: c.process, pidfd: -1}
	for _, c := range []*child{c, other} {
		c.onExit(func() { exits <- struct{}{} })
	}
	c.stdin.Close()
	<-exits
	<-exits
	if success, status := c.reap(); !success || status != "exit status 0" {
		t.Error(status)
	}
	c.close()
}

// Sessions that are opened and dropped leave no file open; TestMain looks for
// goroutines and processes.
func TestDroppedSessionsLeaveNothing(t *testing.T) {
	files := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	app := newApp(t, Options{Command: []string{"cat"}, StdinGrace: time.Minute, Limiter: NewLimiter(500, 0)})
	first := serve(t, app, &peer{}) // what is opened once for the process is open then
	first.say("x")
	first.hear("x")
	before := files()
	var open []*testSession
	for i := range 300 {
		s := serve(t, app, &peer{})
		s.say("x")
		if i%2 == 0 {
			s.hear("x")
		}
		if open = append(open, s); len(open) == 20 {
			for _, s := range open {
				if last := s.stopped(); last != "close stdin" {
					t.Errorf("cat needed %q", last)
				}
			}
			open = nil
		}
	}
	if after := files(); after > before {
		t.Errorf("%d files are open, %d before", after, before)
	}
	if n := app.opt.Limiter.Children(); n != 1 {
		t.Errorf("%d children count, expected 1", n)
	}
}
