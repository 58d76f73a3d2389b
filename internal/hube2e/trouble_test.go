package hube2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/client"
	"tandem/internal/servertest"
)

// A plight is a hub behind nginx with one subscriber of each kind, both connected before the trouble.
type plight struct {
	*route
	t       *testing.T
	td      *servertest.Tandem
	stream  *source
	session *client.Conn
}

func newPlight(t *testing.T, s *site) *plight {
	t.Helper()
	td := s.serve(t, 0)
	srv := s.start(t, servertest.Nginx, servertest.ByFastCGI, 0)
	p := &plight{route: newRoute(t, s, "nginx", srv.URL, srv.FastCGI(), nil), t: t, td: td}
	p.stream = p.listen(t, nil, "news")
	p.session = p.open(t, p.hub, "")
	say(t, p.session, `{"subscribe":{"topics":["news"]}}`)
	hear(t, p.session, `{"subscribed":{"subscription":1,"recovered":true}}`)
	p.works("before")
	return p
}

func (p *plight) post(id, data string) (*http.Response, string) {
	p.t.Helper()
	resp, body, err := p.do(within(p.t, time.Minute), "POST", p.hub, url.Values{"id": {id}, "topic": {"news"}, "data": {data}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, body
}

// works has an event published, which both subscribers get over the connections that they have.
func (p *plight) works(id string) {
	p.t.Helper()
	if resp, body := p.post(id, id); resp.StatusCode != http.StatusOK || body != id {
		p.t.Fatalf("publishing %s: %s: %s", id, resp.Status, body)
	}
	p.arrives(id, id)
}

func (p *plight) arrives(id, data string) {
	p.t.Helper()
	p.stream.expect(id)
	hear(p.t, p.session, fmt.Sprintf(`{"event":{"id":"%s","topic":"news","data":"%s"}}`, id, data))
	if len(p.stream.lost) > 0 {
		p.t.Errorf("the stream was cut: %v", <-p.stream.lost)
	}
}

// fails has publishing fail: over either interface, with a body that says what to do.
func (p *plight) fails(id, data string) {
	p.t.Helper()
	began := time.Now()
	resp, body := p.post(id, data)
	if resp.StatusCode != http.StatusServiceUnavailable || !isProblem(resp, body) || resp.Header.Get("Retry-After") == "" {
		p.t.Fatalf("publishing: %s %v: %s", resp.Status, resp.Header, body)
	}
	p.t.Logf("503 after %v, Retry-After: %s: %s", time.Since(began).Round(time.Millisecond), resp.Header.Get("Retry-After"), body)
	if strings.Contains(body, p.site.dir) {
		p.t.Errorf("the answer names the server's files: %s", body)
	}
	if !strings.Contains(p.td.Log(), p.site.database()) {
		p.t.Errorf("the log doesn't name the database:\n%s", p.td.Log())
	}
	say(p.t, p.session, `{"publish":{"topic":"news","data":"%s","id":"%s"},"ref":"r"}`, data, id)
	if got := receive(p.t, p.session); !strings.Contains(got, `"code":"unavailable"`) || !strings.Contains(got, `"ref":"r"`) {
		p.t.Fatalf("publishing over a session: got %s", got)
	}
}

// TestFullDisk: publishing fails while there is no room, and subscribers stay.
func TestFullDisk(t *testing.T) {
	t.Run("limit", func(t *testing.T) { // of the size of files, as providers set one
		p := newPlight(t, newSite(t, anyone))
		var before unix.Rlimit
		limit := func(l uint64) {
			t.Helper()
			if err := unix.Prlimit(p.td.Pid(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: l, Max: before.Max}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Prlimit(p.td.Pid(), unix.RLIMIT_FSIZE, nil, &before); err != nil {
			t.Fatal(err)
		}
		limit(512 << 10)
		p.fill()
		limit(before.Cur)
		p.recovers()
	})

	s := newSite(t, anyone)
	disk := filepath.Dir(s.database())
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m,mode=0700"); err != nil {
		t.Logf("a full file system is not tested, as this user can mount none: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Run("file system", func(t *testing.T) {
		p := newPlight(t, s)
		ballast := filepath.Join(disk, "ballast")
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
		f.Close()
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		p.fill()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		p.recovers()
	})
}

// large is data that soon fills what there is.
var large = strings.Repeat("x", 50_000)

// fill publishes until there is no room.
func (p *plight) fill() {
	p.t.Helper()
	for n := 0; ; n++ {
		id := fmt.Sprint("full", n)
		if resp, _ := p.post(id, large); resp.StatusCode != http.StatusOK {
			break
		}
		p.arrives(id, large)
		if n == 100 {
			p.t.Fatal("there is always room")
		}
	}
	p.fails("refused", large)
}

// recovers has what was refused published again, under its id.
func (p *plight) recovers() {
	p.t.Helper()
	if resp, body := p.post("refused", large); resp.StatusCode != http.StatusOK || body != "refused" {
		p.t.Fatalf("%s: %s", resp.Status, body)
	}
	p.arrives("refused", large)
	p.works("after")
}

// TestLocked: another program keeps the database locked.
func TestLocked(t *testing.T) {
	p := newPlight(t, newSite(t, anyone))
	other := exec.Command("python3", "-c", `import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
c.execute("ROLLBACK")`, p.site.database())
	other.Stderr = os.Stderr
	stdin, _ := other.StdinPipe()
	stdout, _ := other.StdoutPipe()
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Process.Kill() // where the test fails
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("the other program: %q, %v", line, err)
	}
	p.fails("refused", "x")
	reader := p.start(t, http.Header{"Last-Event-ID": {"earliest"}}, "news")
	reader.wait()
	reader.expect("before") // reading needs no lock
	if err := errors.Join(stdin.Close(), other.Wait()); err != nil {
		t.Fatal(err)
	}
	p.works("after")
	reader.expect("after")
}

// TestCorrupt: what takes the database's place is none. Once that is put away, the hub begins another one, and says that
// there is a gap.
func TestCorrupt(t *testing.T) {
	p := newPlight(t, newSite(t, anyone))
	database := p.site.database()
	away := func(as string) {
		t.Helper()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Rename(database+suffix, database+as+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	away(".good")
	if err := os.WriteFile(database, bytes.Repeat([]byte("garbage "), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	p.fails("refused", "x")
	away(".bad")
	if resp, body := p.post("after", "x"); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	if e := p.stream.next(); e.Comment != "events were lost" {
		t.Errorf("the stream has %+v, expected the gap", e)
	}
	hear(t, p.session, `{"gap":true}`)
	p.arrives("after", "x")
	p.works("more")
}
