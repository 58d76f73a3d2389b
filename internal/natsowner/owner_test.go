package natsowner

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tandem/internal/owner"
	"tandem/session"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

var _ session.Owners = (*Owner)(nil)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*Server).startOCSPMonitoring"))
}

func newServer(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server doesn't start")
	}
	return s.ClientURL()
}

func connect(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// echo answers what it reads, at once.
func echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	rc.Flush()
	buf := make([]byte, 8<<10)
	for {
		n, err := r.Body.Read(buf)
		w.Write(buf[:n])
		rc.Flush()
		if err != nil {
			return
		}
	}
}

// host is an owner on a host of its own.
func host(t *testing.T, url string, h http.HandlerFunc) *Owner {
	t.Helper()
	dir, err := os.MkdirTemp("", "natsowner") // t.TempDir's may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log := slog.New(slog.DiscardHandler)
	o := &Owner{Name: "hub", Conn: connect(t, url), Log: log, Local: &owner.Owner{Name: owner.NewName(),
		Dir: owner.Dir{Path: filepath.Join(dir, "s"), Source: owner.Key}, Handler: h, Log: log}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		o.Close(ctx)
		o.Local.Close(ctx)
	})
	return o
}

func claim(t *testing.T, o *Owner, key string) (string, func()) {
	t.Helper()
	name, release, err := o.Claim(key)
	if err != nil {
		t.Fatal(err)
	}
	return name, release
}

// post sends a body through h that stays open.
func post(t *testing.T, h http.Handler) (*http.Response, *io.PipeWriter) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); resp.Body.Close() })
	return resp, w
}

func say(t *testing.T, resp *http.Response, w io.Writer, text string) {
	t.Helper()
	io.WriteString(w, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; expected %q", got, err, text)
	}
}

// A request goes to another host and both ways at once; when that is gone, the response is cut, and the
// next request is told to try later, and in the end that it has gone.
func TestForward(t *testing.T) {
	url := newServer(t)
	a, b := host(t, url, echo), host(t, url, echo)
	if name, _ := claim(t, a, ""); name != a.Local.Name {
		t.Errorf("claimed by %s", name)
	}
	h := b.Forward(a.Local.Name)
	resp, w := post(t, h)
	say(t, resp, w, "one")
	say(t, resp, w, "two")
	a.Conn.Close()
	w.Write([]byte("three"))
	if rest, err := io.ReadAll(resp.Body); err == nil || len(rest) > 0 {
		t.Errorf("after the host has gone: %q, %v; expected a cut", rest, err)
	}
	status := func() int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("POST", "/", nil))
		return rec.Code
	}
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("at once: status %d", got)
	}
	b.mu.Lock()
	b.missing[a.Local.Name] = time.Now().Add(-2 * goneAfter)
	b.mu.Unlock()
	if got := status(); got != http.StatusGone {
		t.Errorf("later: status %d", got)
	}
	for _, name := range []string{"", "x", "*", ">", b.Local.Name} {
		if b.Forward(name) != nil {
			t.Errorf("%q is an owner", name)
		}
	}
}

// A request that is cut here is cut there.
func TestCut(t *testing.T) {
	url := newServer(t)
	ended := make(chan error, 1)
	a, b := host(t, url, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		<-r.Context().Done()
		ended <- r.Context().Err()
	}), host(t, url, echo)
	claim(t, a, "")
	resp, w := post(t, b.Forward(a.Local.Name))
	w.CloseWithError(errors.New("cut"))
	resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the other host still serves it")
	}
}

// Much goes through unchanged, and no faster than it is read.
func TestMuch(t *testing.T) {
	url := newServer(t)
	a, b := host(t, url, echo), host(t, url, echo)
	claim(t, a, "")
	var all sync.WaitGroup
	h := b.Forward(a.Local.Name)
	for range 8 {
		all.Go(func() {
			want := make([]byte, 1<<20)
			rand.Read(want)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest("POST", "/", bytes.NewReader(want)))
			if rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), want) {
				t.Errorf("status %d, %d bytes", rec.Code, rec.Body.Len())
			}
		})
	}
	all.Wait()
}

// pair is a conn's two ends.
func pair(t *testing.T) (*conn, *conn) {
	t.Helper()
	url := newServer(t)
	x, y := connect(t, url), connect(t, url)
	accepted := make(chan *conn, 1)
	if _, err := y.Subscribe("there", func(m *nats.Msg) {
		c, err := accept(y, m)
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}); err != nil {
		t.Fatal(err)
	}
	y.Flush()
	c, err := dial(t.Context(), x, "there")
	if err != nil {
		t.Fatal(err)
	}
	d := <-accepted
	t.Cleanup(func() { c.Close(); d.Close() })
	return c, d
}

func TestConn(t *testing.T) {
	c, d := pair(t)
	// The window holds the writer up.
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	n, err := c.Write(make([]byte, 2*window))
	if n != window || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d, %v; expected %d", n, err, window)
	}
	c.SetWriteDeadline(time.Time{})
	d.SetReadDeadline(time.Now())
	if _, err := d.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read after its deadline: %v", err)
	}
	d.SetReadDeadline(time.Time{})
	go func() {
		c.Write(make([]byte, window))
		c.Close()
	}()
	if n, err := io.Copy(io.Discard, d); n != 2*window || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := d.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write to a closed one: %v", err)
	}
}

// What loses a message ends, and nothing behind the hole is read.
func TestConnLoss(t *testing.T) {
	c, d := pair(t)
	c.Write([]byte("one"))
	c.mu.Lock()
	c.written++ // as if one were lost on its way
	c.mu.Unlock()
	c.Write([]byte("two"))
	if got, err := io.ReadAll(d); string(got) != "one" || !errors.Is(err, errLost) {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := io.ReadAll(c); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the other end: %v", err)
	}
}

func TestClaim(t *testing.T) {
	url := newServer(t)
	a, b := host(t, url, echo), host(t, url, echo)
	name, release := claim(t, a, "key")
	if name != a.Local.Name || release == nil {
		t.Fatalf("claimed by %s", name)
	}
	if name, r := claim(t, b, "key"); name != a.Local.Name || r != nil {
		t.Errorf("claimed by %s, expected the other host", name)
	}
	if name, r := claim(t, b, "other"); name != b.Local.Name || r == nil {
		t.Errorf("another key: %s", name)
	}
	release()
	if name, r := claim(t, b, "key"); name != b.Local.Name || r == nil {
		t.Errorf("after its release: %s", name)
	}
	release() // once more changes nothing
	if name, _ := claim(t, a, "key"); name != b.Local.Name {
		t.Errorf("a release that came late took it from its new owner")
	}
	b.Conn.Close() // as it dies
	if name, r := claim(t, a, "key"); name != a.Local.Name || r == nil {
		t.Errorf("a dead owner's: %s", name)
	}
}

// However many try at a time: one has it.
func TestClaimRace(t *testing.T) {
	url := newServer(t)
	var hosts []*Owner
	for range 4 {
		hosts = append(hosts, host(t, url, echo))
	}
	var mu sync.Mutex
	got, releases := map[string]int{}, 0
	var all sync.WaitGroup
	for _, o := range hosts {
		all.Go(func() {
			name, release, err := o.Claim("key")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			got[name]++
			if release != nil {
				releases++
			}
		})
	}
	all.Wait()
	if len(got) != 1 || releases != 1 {
		t.Errorf("%v, %d releases", got, releases)
	}
}
