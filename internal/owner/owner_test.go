package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/internal/gateway"
)

// Nothing is made before the first Claim, and nothing is left after Close.
func TestLazy(t *testing.T) {
	dir := stateDir(t)
	o := newOwner(t, dir, echo)
	if o.Forward(NewName()) != nil {
		t.Error("there is no other process")
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state dir is there before a Claim: %v", err)
	}
	owner, release := claim(t, o, "")
	if owner != o.Name || release == nil {
		t.Errorf("got %q, a release %t", owner, release != nil)
	}
	claim(t, o, "key")
	if got, want := files(t, dir), o.Name+".sock"; !strings.Contains(got, want) || !strings.Contains(got, ".open") || strings.Contains(got, "key") {
		t.Errorf("got %s", got)
	}
	if err := o.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := files(t, dir); got != "" {
		t.Errorf("left: %s", got)
	}
	if _, _, err := o.Claim(""); !errors.Is(err, ErrClosed) {
		t.Errorf("Claim after Close: %v", err)
	}
	if err := newOwner(t, dir, echo).Close(t.Context()); err != nil {
		t.Errorf("Close without a Claim: %v", err)
	}
}

// A key is one owner's until that gives it up.
func TestClaim(t *testing.T) {
	dir := stateDir(t)
	a, b := newOwner(t, dir, echo), newOwner(t, dir, echo)
	_, release := claim(t, a, "key")
	for range 2 {
		if owner, r := claim(t, b, "key"); owner != a.Name || r != nil {
			t.Errorf("got %q, a release %t; expected the other one, %q", owner, r != nil, a.Name)
		}
	}
	if owner, r := claim(t, b, "other"); owner != b.Name || r == nil {
		t.Errorf("another key: %q", owner)
	}
	release()
	owner, r := claim(t, b, "key")
	if owner != b.Name || r == nil {
		t.Errorf("after release: %q", owner)
	}
	release() // once more changes nothing
	if owner, _ := claim(t, a, "key"); owner != b.Name {
		t.Errorf("a release that came late took the key from its new owner")
	}
	b.Close(t.Context())
	if owner, _ := claim(t, a, "key"); owner != a.Name {
		t.Errorf("after Close: %q", owner)
	}
}

// However many try at a time, also when the last owner was killed: one has it.
func TestClaimRace(t *testing.T) {
	dir := stateDir(t)
	for round := range 20 {
		p := start(t, dir, "key")
		p.claim(t)
		if p.owner != p.name {
			t.Fatalf("round %d: %s has the key, expected the new process", round, p.owner)
		}
		p.kill()
		var owners []*Owner
		for range 8 {
			owners = append(owners, newOwner(t, dir, echo))
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		got := map[string]int{}
		releases := 0
		for _, o := range owners {
			all.Go(func() {
				owner, release, err := o.Claim("key")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[owner]++
				if release != nil {
					releases++
				}
			})
		}
		all.Wait()
		if len(got) != 1 || releases != 1 {
			t.Fatalf("round %d: %v, %d releases; expected one owner", round, got, releases)
		}
		for _, o := range owners {
			o.Close(t.Context())
		}
	}
}

// The same with processes.
func TestClaimProcesses(t *testing.T) {
	dir := stateDir(t)
	for range 3 {
		var all []*process
		for range 6 {
			all = append(all, start(t, dir, "key"))
		}
		var wg sync.WaitGroup
		for _, p := range all {
			wg.Go(func() { p.claim(t) })
		}
		wg.Wait()
		var winner *process
		for _, p := range all {
			if p.owner != all[0].owner {
				t.Errorf("%s and %s both have the key", p.owner, all[0].owner)
			}
			if p.released {
				winner = p
			}
		}
		if winner == nil || winner.name != winner.owner {
			t.Fatalf("no process has the key: %+v", all)
		}
		winner.kill() // its link and socket are left for the next round
		for _, p := range all {
			if p != winner {
				p.end(t)
			}
		}
	}
	o := newOwner(t, dir, echo)
	claim(t, o, "")
	if got := files(t, dir); got != o.Name+".sock" {
		t.Errorf("left by processes that were killed: %s", got)
	}
}

// post sends a body through h that stays open, and returns what reads and writes.
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

// A request goes to another process and both ways at once; when that one is killed, the
// response is cut, and the next request is told that it has gone.
func TestForward(t *testing.T) {
	dir := stateDir(t)
	p := start(t, dir, "key")
	p.claim(t)
	o := newOwner(t, dir, echo)
	h := o.Forward(p.name)
	if h == nil {
		t.Fatal("the other process isn't found")
	}
	resp, w := post(t, h)
	say(t, resp, w, "one")
	say(t, resp, w, "two")
	p.kill()
	if rest, err := io.ReadAll(resp.Body); err == nil || len(rest) > 0 {
		t.Errorf("after the process was killed: %q, %v; expected a cut", rest, err)
	}
	resp, _ = post(t, h)
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusGone {
		t.Errorf("status %d, %s", resp.StatusCode, body)
	}
	if got := files(t, dir); got != "" {
		t.Errorf("left: %s", got)
	}
	if o.Forward(p.name) != nil {
		t.Error("still found")
	}
}

// What isn't an owner's name is no path.
func TestForwardNames(t *testing.T) {
	dir := stateDir(t)
	o := newOwner(t, dir, echo)
	claim(t, o, "")
	os.Rename(filepath.Join(dir, o.Name+".sock"), filepath.Join(dir, "x.sock"))
	for _, name := range []string{"", "x", "../s/x", o.Name, strings.ToUpper(NewName()), NewName() + "a", NewName()} {
		if o.Forward(name) != nil {
			t.Errorf("%q is an owner", name)
		}
	}
	other := NewName()
	os.WriteFile(filepath.Join(dir, other+".sock"), nil, 0o600)
	if o.Forward(other) != nil {
		t.Error("a file is an owner")
	}
}

// The other process sees how the request reached this one.
func TestForwardInterface(t *testing.T) {
	dir := stateDir(t)
	got := make(chan string, 1)
	a := newOwner(t, dir, func(w http.ResponseWriter, r *http.Request) { got <- gateway.Of(r).Interface })
	claim(t, a, "")
	h := newOwner(t, dir, echo).Forward(a.Name)
	for _, iface := range []string{gateway.CGI, gateway.FastCGI, gateway.HTTP} {
		r := httptest.NewRequest("GET", "/", nil)
		info := *gateway.Of(r)
		info.Interface = iface
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(gateway.NewContext(r.Context(), &info)))
		if g := <-got; g != iface {
			t.Errorf("got %q, expected %q", g, iface)
		}
	}
}

// Close lets requests that were relayed here end, and drops those that don't.
func TestClose(t *testing.T) {
	dir := stateDir(t)
	a, b := newOwner(t, dir, echo), newOwner(t, dir, echo)
	claim(t, a, "")
	resp, w := post(t, b.Forward(a.Name))
	say(t, resp, w, "one")
	closed := make(chan error, 1)
	go func() { closed <- a.Close(context.Background()) }()
	for end := time.Now().Add(patience); b.Forward(a.Name) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still found while it closes")
		}
	}
	say(t, resp, w, "two")
	w.Close()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}

	a = newOwner(t, dir, echo)
	claim(t, a, "")
	resp, w = post(t, b.Forward(a.Name))
	say(t, resp, w, "one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the response isn't cut")
	}
}

// Idle waits for the requests that are here, not for those that might come.
func TestIdle(t *testing.T) {
	dir := stateDir(t)
	a, b := newOwner(t, dir, echo), newOwner(t, dir, echo)
	a.Idle(t.Context())
	claim(t, a, "")
	a.Idle(t.Context())
	resp, w := post(t, b.Forward(a.Name))
	say(t, resp, w, "one")
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan struct{})
	go func() { a.Idle(ctx); close(gaveUp) }()
	idle := make(chan struct{})
	go func() { a.Idle(t.Context()); close(idle) }()
	cancel()
	<-gaveUp
	say(t, resp, w, "two")
	select {
	case <-idle:
		t.Error("idle while a request is open")
	default:
	}
	w.Close()
	select {
	case <-idle:
	case <-time.After(patience):
		t.Error("not idle after the last request")
	}
}

// Who isn't this user isn't served.
func TestStranger(t *testing.T) {
	path := stateDir(t)
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	connections := 0
	notTheFirst := func(uid uint32) bool {
		connections++
		return connections > 1 && ours(uid)
	}
	l := &listener{UnixListener: ul, path: path, ours: notTheFirst, log: slog.New(slog.DiscardHandler)}
	defer l.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		nc, err := l.Accept()
		if err == nil {
			accepted <- nc
		}
	}()
	first, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the stranger's connection: %v, expected its end", err)
	}
	second, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	(<-accepted).Close()
}

// A thousand requests at a time to one process.
func TestForwardMany(t *testing.T) {
	dir := stateDir(t)
	p := start(t, dir, "")
	p.claim(t)
	h := newOwner(t, dir, echo).Forward(p.name)
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			w := httptest.NewRecorder()
			want := fmt.Sprint("number ", i)
			h.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(want)))
			if w.Code != http.StatusOK || w.Body.String() != want {
				t.Errorf("status %d, %q, expected %q", w.Code, w.Body, want)
			}
		})
	}
	all.Wait()
	p.end(t)
}
