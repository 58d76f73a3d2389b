package program

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// An idle session has one goroutine of this package, and all together share the watcher's.
func TestGoroutinesOfIdleSessions(t *testing.T) {
	app := newApp(t, Options{Command: []string{"sh", "-c", "echo warm >&2; exec cat"}, StdinGrace: time.Minute, Stderr: StderrClient})
	const sessions = 5
	quiet := newApp(t, Options{Command: []string{"cat"}, StdinGrace: time.Minute})
	for range sessions {
		s := serve(t, quiet, &peer{})
		s.say("x")
		s.hear("x")
	}
	s := serve(t, app, &peer{})
	s.hear("warm") // has one for its stderr from here on
	want := sessions + 2 + 1
	var got int
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		if got = goroutines(); got == want {
			return
		}
	}
	t.Errorf("%d goroutines, expected %d", got, want)
}

// goroutines counts those that run this package's code, the tests' own apart.
func goroutines() (n int) {
	buf := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, f := range []string{"program.(*output).", "program.(*relay).", "program.(*App).start", "program.(*watcher).", "program.(*child)."} {
			if strings.Contains(stack, f) {
				n++
				break
			}
		}
	}
	return n
}

// A watch that is forgotten says nothing of the next file with its number.
func TestWatchOfAReusedDescriptor(t *testing.T) {
	var w watcher
	keep, other, err := os.Pipe() // keeps the epoll
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	defer other.Close()
	end := make(chan string, 10)
	if err := w.once(descriptor(keep), func() { end <- "kept" }); err != nil {
		t.Fatal(err)
	}
	r, first, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := descriptor(r)
	if err := w.once(fd, func() { end <- "forgotten" }); err != nil {
		t.Fatal(err)
	}
	w.forget(fd)
	w.forget(fd)
	if err := w.once(fd, func() { end <- "again" }); err != nil {
		t.Fatal(err)
	}
	first.Close() // the end of r
	if got := <-end; got != "again" {
		t.Error(got)
	}
	other.Close()
	if got := <-end; got != "kept" {
		t.Error(got)
	}
	open := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.epoll != nil
	}
	if open() {
		t.Error("the epoll is still there, with nothing to wait for")
	}
	if err := w.once(-1, func() {}); err == nil || open() {
		t.Errorf("a file that is none: %v", err)
	}
}
