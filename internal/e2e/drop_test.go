package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tandem/client"
	"tandem/fcgi"
	"tandem/internal/config"
	"tandem/internal/listen"
	"tandem/internal/servertest"
	"tandem/session"
	"tandem/session/frame"
)

// batch is how many sessions are opened at the same time: web servers have limits.
const batch = 40

// A wave is many sessions, each opened, used, and dropped in one of five ways.
type wave struct {
	door
	endpoint string // "" for echo, else a program of endEndpoints
	sessions int

	mu    sync.Mutex
	errs  []error
	left  []process // of the programs
	still []*raw    // silent clients, whose connections stay open
}

// run opens and drops all sessions, and returns when the clients are done.
func (w *wave) run(t *testing.T) {
	t.Helper()
	ctx := within(t, 60*time.Second)
	next := make(chan int)
	var workers sync.WaitGroup
	for range batch {
		workers.Go(func() {
			for i := range next {
				if err := w.drop(ctx, i); err != nil {
					w.mu.Lock()
					w.errs = append(w.errs, fmt.Errorf("%s: session %d: %w", w.name, i, err))
					w.mu.Unlock()
				}
			}
		})
	}
	for i := range w.sessions {
		next <- i
	}
	close(next)
	workers.Wait()
	if err := errors.Join(w.errs...); err != nil {
		t.Fatal(err)
	}
}

// hangUp closes the connections that silent clients had left.
func (w *wave) hangUp() {
	for _, c := range w.still {
		c.conn.Close()
	}
}

// drop is one session; i chooses how it ends.
func (w *wave) drop(ctx context.Context, i int) error {
	if i%5 < 2 {
		c, err := client.Dial(ctx, w.base+w.path(), &client.Options{Transport: client.Single, Codec: []string{"json", "binary"}[i%2]})
		if err != nil {
			return err
		}
		defer c.CloseNow()
		text, err := w.exchange(ctx, c)
		if err != nil {
			return err
		}
		if err := w.note(text); err != nil || i%5 == 1 {
			return err // dropped without a word
		}
		return c.Close(frame.CodeNormal, "")
	}
	media, hello := "text/plain", "hello\n"
	if i%5 == 4 {
		media = "application/x-ndjson"
		hello = "{\"type\":\"open\",\"version\":1,\"heartbeat\":600,\"window\":65536,\"messages\":64}\n" + `{"type":"message","seq":1,"data":"hello"}` + "\n"
	}
	c, err := dialRaw(w.base+w.path(), media, w.length)
	if err != nil {
		return err
	}
	if i%5 != 4 {
		defer c.conn.Close()
	}
	if err := c.send(hello); err != nil {
		return err
	}
	want := regexp.MustCompile("hello")
	if w.endpoint != "" {
		want = pidsLine
	}
	m, err := c.find(want)
	if err != nil {
		c.conn.Close()
		return err
	}
	if err := w.note(m[0]); err != nil {
		c.conn.Close()
		return err
	}
	switch i % 5 {
	case 2: // closed in the middle of a line
		return c.send("and th")
	case 3: // cut, as by a crash: RST
		return c.conn.(*net.TCPConn).SetLinger(0)
	default: // gone in silence, in the middle of a frame
		w.mu.Lock()
		defer w.mu.Unlock()
		w.still = append(w.still, c)
		return c.send(`{"type":"mess`)
	}
}

func (w *wave) path() string {
	if w.endpoint == "" {
		return ""
	}
	return "/" + w.endpoint
}

func (w *wave) exchange(ctx context.Context, c *client.Conn) (string, error) {
	if err := c.Send(ctx, frame.Text("hello")); err != nil {
		return "", err
	}
	m, err := c.Receive(ctx)
	return string(m.Data), err
}

// note keeps the processes of a program that said text.
func (w *wave) note(text string) error {
	if w.endpoint == "" {
		return nil
	}
	a, b, err := pids(pidsLine.FindStringSubmatch(text))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = append(w.left, a, b)
	return err
}

// settle polls until ok or too much time has gone; what it waits for are other
// processes' doings.
func settle(ok func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	return true
}

// TestDropsLeaveNothing: 1,000 sessions with echo and 200 with a program, through
// nginx, and 200 over plain HTTP, in two waves, leave one log line each and else
// nothing.
func TestDropsLeaveNothing(t *testing.T) {
	td := servertest.StartTandem(t, endEndpoints+"[endpoint.echo]\npath = \"/tandem\"\napp = \"echo\"\ngrace = \"0s\"\n")
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})
	d := door{route: route{name: "nginx", base: nginx.FastCGI()}, length: chunked}
	front := door{route: route{name: "http", base: td.HTTP + "/tandem"}, length: chunked}
	nginxFDs := func() (n int) {
		for _, p := range children(t, nginx.Pid()) {
			n += fds(t, p.pid)
		}
		return n
	}
	ended := regexp.MustCompile(`msg="session ended".* session=(\S+)`)

	// What is opened once and kept is no leak.
	(&wave{door: d, sessions: 10}).run(t)
	sessions := 10
	var files, nginxFiles, memory int
	for n := range 3 { // wave 0 is silent: it waits for the warm-up's sessions
		start := time.Now()
		waves := []*wave{{door: d, sessions: 500}, {door: d, endpoint: "prompt", sessions: 100}, {door: front, sessions: 100}}
		if n == 0 {
			waves = nil
		}
		for _, w := range waves {
			w.run(t)
			sessions += w.sessions
		}
		dropped := time.Since(start)
		if !settle(func() bool { return len(ended.FindAllString(td.Log(), -1)) >= sessions }) {
			t.Errorf("wave %d: %d log lines tell of a session's end, want %d", n, len(ended.FindAllString(td.Log(), -1)), sessions)
		}
		for _, w := range waves {
			awaitGone(t, time.Now(), w.left...)
			w.hangUp()
		}
		if left := children(t, td.Pid()); len(left) > 0 {
			t.Errorf("wave %d: %d processes are left: %v", n, len(left), left)
		}
		if n == 0 {
			settle(func() bool { files, nginxFiles = fds(t, td.Pid()), nginxFDs(); return true })
		}
		const few = 3
		if !settle(func() bool { return fds(t, td.Pid()) <= files+few }) {
			t.Errorf("wave %d: tandem has %d files open, %d before", n, fds(t, td.Pid()), files)
		}
		if !settle(func() bool { return nginxFDs() <= nginxFiles+few }) {
			t.Errorf("wave %d: nginx has %d files open, %d before", n, nginxFDs(), nginxFiles)
		}
		now := rss(t, td.Pid())
		t.Logf("wave %d: %d sessions so far, dropped in %v, all ended after %v; tandem: %d files, %d KiB; nginx: %d files",
			n, sessions, dropped.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), fds(t, td.Pid()), now, nginxFDs())
		// Go gives memory back late; what grows with each wave is a leak.
		slack := memory/4 + 4<<10
		if servertest.Engine() == config.EngineNetHTTP {
			slack = memory + 32<<10 // the large buffers of its requests: it levels off after wave 2
		}
		if n == 2 && now > memory+slack {
			t.Errorf("tandem has %d KiB after wave 2, %d KiB after wave 1", now, memory)
		}
		memory = now
	}
	seen := make(map[string]bool)
	for _, m := range ended.FindAllStringSubmatch(td.Log(), -1) {
		if seen[m[1]] {
			t.Errorf("session %s has ended twice, by the log", m[1])
		}
		seen[m[1]] = true
	}
	if len(seen) != sessions {
		t.Errorf("%d sessions are in the log, want %d", len(seen), sessions)
	}
}

// TestDropsLeaveNoCGIProcess: 300 sessions through lighttpd's CGI.
func TestDropsLeaveNoCGIProcess(t *testing.T) {
	h := startHouse(t, endEndpoints+"[endpoint.echo]\npath = \"/tandem\"\napp = \"echo\"\ngrace = \"0s\"\n")
	d := h.duplex()[4]
	waves := []*wave{{door: d, sessions: 200}, {door: d, endpoint: "prompt", sessions: 100}}
	start := time.Now()
	for _, w := range waves {
		w.run(t)
	}
	for _, w := range waves {
		awaitGone(t, time.Now(), w.left...)
	}
	if !settle(func() bool { return len(children(t, h.lighttpd.Pid())) == 0 }) {
		left := children(t, h.lighttpd.Pid())
		t.Errorf("%d CGI processes are left: %v", len(left), left)
	}
	for _, w := range waves {
		w.hangUp()
	}
	t.Logf("300 sessions opened, dropped and gone in %v", time.Since(start).Round(time.Millisecond))
}

// TestDropsLeaveNoGoroutine: the same in this process, which sees its goroutines
// and its heap, behind nginx and on plain HTTP.
func TestDropsLeaveNoGoroutine(t *testing.T) {
	var log bytes.Buffer // guarded by the handler's own lock
	handler := session.NewHandler(session.Echo, &session.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Heartbeat: time.Second})
	dir, err := os.MkdirTemp("", "drop")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	unix, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 2)
	fs := &fcgi.Server{Handler: handler}
	hs := &http.Server{Handler: handler}
	go func() { over <- fs.Serve(unix) }()
	go func() { over <- hs.Serve(listen.Linger(tcp)) }()
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: unix.Addr().String()})
	doors := []door{
		{route: route{name: "nginx", base: nginx.FastCGI()}, length: chunked},
		{route: route{name: "http", base: "http://" + tcp.Addr().String() + "/"}, length: chunked},
	}
	quiet := func() {
		t.Helper()
		if !settle(func() bool { return handler.Sessions() == 0 }) {
			t.Errorf("%d sessions are left", handler.Sessions())
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what finalizers and pools still held
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := goleak.IgnoreCurrent()
	goroutines := runtime.NumGoroutine()
	var sizes [3]uint64
	for n := range sizes {
		var waves []*wave
		for _, d := range doors {
			w := &wave{door: d, sessions: 500}
			w.run(t)
			waves = append(waves, w)
		}
		quiet()
		for _, w := range waves {
			w.hangUp()
		}
		if err := goleak.Find(before); err != nil {
			t.Fatalf("after wave %d: %v", n+1, err)
		}
		log.Reset()
		sizes[n] = heap()
		t.Logf("wave %d: %d goroutines, %d before; heap %d KiB", n+1, runtime.NumGoroutine(), goroutines, sizes[n]>>10)
	}
	if last, first := sizes[2], sizes[0]; last > first+1<<20 {
		t.Errorf("the heap is %d KiB after the third wave, %d KiB after the first", last>>10, first>>10)
	}
	ctx := within(t, 10*time.Second)
	if err := errors.Join(handler.Shutdown(ctx), fs.Shutdown(ctx), hs.Shutdown(ctx)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-over; err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	}
}
