package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// Sessions whose requests reach different processes, through the real web servers:
// the client is by hand, so that each request is known.

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// splitter is a client of the transports split and poll.
type splitter struct {
	t       *testing.T
	url     string
	id      string
	attempt int
	sent    int
	down    *bufio.Scanner
	stop    func() // ends the receive half from this side
}

const openLine = `{"type":"open","version":1,"transport":"split","heartbeat":0,"window":262144,"messages":1024}` + "\n"

// ask sends a request of the session.
func (c *splitter) ask(method, transport, body string, header ...string) *http.Response {
	c.t.Helper()
	var in io.Reader
	if method == http.MethodPost {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url, in)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Tandem-Transport", transport)
	if c.id != "" {
		c.attempt++
		req.Header.Set("Tandem-Session", c.id)
		req.Header.Set("Tandem-Attempt", strconv.Itoa(c.attempt))
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	// A connection of its own for each: no web server is to choose a process by it.
	tr := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: patience}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// openSplit opens a session whose program's first message is its process id.
func openSplit(t *testing.T, url string, header ...string) (c *splitter, program int) {
	t.Helper()
	c = &splitter{t: t, url: url}
	c.follow(c.ask(http.MethodPost, "split", openLine, header...))
	program, err := strconv.Atoi(c.message())
	if err != nil {
		t.Fatalf("expected the program's process id: %v", err)
	}
	return c, program
}

// follow takes the response as the receive half.
func (c *splitter) follow(resp *http.Response) {
	c.t.Helper()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		c.t.Fatalf("%s: %s", resp.Status, body)
	}
	c.down = bufio.NewScanner(resp.Body)
	c.stop = func() { resp.Body.Close() }
	f := c.frame()
	if f.Type != "open" || c.id != "" && f.Session != c.id || f.Session == "" {
		c.t.Fatalf("frame %+v, expected the session's open", f)
	}
	c.id = f.Session
}

type frameLine struct {
	Type    string
	Session string
	Data    string
	Code    int
	Seq     int
}

// frame is the next one of the receive half that isn't about the transport.
func (c *splitter) frame() frameLine {
	c.t.Helper()
	late := time.AfterFunc(patience, c.stop)
	defer late.Stop()
	for c.down.Scan() {
		var f frameLine
		if len(c.down.Bytes()) == 0 {
			continue
		}
		if err := json.Unmarshal(c.down.Bytes(), &f); err != nil {
			c.t.Fatalf("%q: %v", c.down.Text(), err)
		}
		if f.Type != "ack" {
			return f
		}
	}
	c.t.Fatalf("the receive half has ended: %v", c.down.Err())
	panic("unreachable")
}

func (c *splitter) message() string {
	c.t.Helper()
	f := c.frame()
	if f.Type != "message" {
		c.t.Fatalf("frame %+v, expected a message", f)
	}
	return f.Data
}

// post sends frames, and returns the answer's status.
func (c *splitter) post(frames string) int {
	c.t.Helper()
	resp := c.ask(http.MethodPost, "split", frames)
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// talk sends messages in a request of their own, and gets them back from the program.
func (c *splitter) talk(texts ...string) {
	c.t.Helper()
	var frames strings.Builder
	for _, text := range texts {
		c.sent++
		fmt.Fprintf(&frames, `{"type":"message","seq":%d,"data":%q}`+"\n", c.sent, text)
	}
	if status := c.post(frames.String()); status != http.StatusOK {
		c.t.Fatalf("messages: status %d", status)
	}
	for _, text := range texts {
		if got := c.message(); got != text {
			c.t.Fatalf("got %q, expected %q", got, text)
		}
	}
}

// end ends the session, and its response.
func (c *splitter) end() {
	c.t.Helper()
	if status := c.post(fmt.Sprintf(`{"type":"end","seq":%d}`+"\n", c.sent)); status != http.StatusOK {
		c.t.Fatalf("end: status %d", status)
	}
	c.closed(1000)
}

// closed wants the session's end, and that of the response.
func (c *splitter) closed(code int) {
	c.t.Helper()
	if f := c.frame(); f.Type != "close" || f.Code != code {
		c.t.Fatalf("frame %+v, expected a close", f)
	}
	for c.down.Scan() {
		if c.down.Text() != "" {
			c.t.Errorf("after the close: %s", c.down.Text())
		}
	}
}

func newKey() string { return rand.Text() }

// shared is a folder that every user may use, for state dirs: the web server's user makes
// its own there.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-state-") // t.TempDir's can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// configFile writes a configuration that every user may read.
func configFile(t *testing.T, toml string) string {
	t.Helper()
	dir := shared(t)
	path := filepath.Join(dir, "c.toml")
	writeFile(t, path, toml)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// catting is an endpoint whose program says its process id, then what it is told.
const catting = `heartbeat = "200ms"
stdin_grace = "200ms"
term_grace = "200ms"
command = ["/bin/sh", "-c", "echo $$; exec cat"]
`

// eventually waits for what nothing tells: other processes' ends.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// running are the processes of this executable, zombies aside.
func running(exe string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == exe {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// ended tells whether a process has ended, whether or not anybody has waited for it.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}

// sockets are the owners in a state dir.
func sockets(dir string) int {
	l, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
	return len(l)
}

func left(dir string) string {
	entries, _ := os.ReadDir(dir)
	return fmt.Sprint(entries)
}

// TestSplitCGI: cgi-bin with nothing resident. The process of the opening
// request has the session, those of the others find it.
func TestSplitCGI(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    servertest.Kind
		prefork bool
	}{{"mod_cgid", servertest.Apache, false}, {"mod_cgi", servertest.Apache, true}, {"lighttpd", servertest.Lighttpd, false}} {
		t.Run(tt.name, func(t *testing.T) {
			state := filepath.Join(shared(t), "s")
			srv := servertest.Start(t, tt.kind, servertest.Config{
				Binary: servertest.Binary(t), Prefork: tt.prefork,
				TandemConfig: configFile(t, fmt.Sprintf("state_dir = %q\n[endpoint.cat]\n%s", state, catting)),
			})
			exe := filepath.Join(srv.CGIDir, "tandem")
			over := func(program int) {
				t.Helper()
				eventually(t, "the processes end", func() bool { return len(running(exe)) == 0 && ended(program) })
				if sockets(state) > 0 {
					t.Errorf("left in the state dir: %s", left(state))
				}
			}

			t.Run("to its end", func(t *testing.T) {
				c, program := openSplit(t, srv.CGI(), "Tandem-Open", newKey())
				for i := range 5 {
					c.talk(fmt.Sprint(i), "two at a time")
				}
				if n := running(exe); len(n) != 1 {
					t.Errorf("%d processes, expected the owner alone", len(n))
				}
				c.end()
				over(program)
				if got := left(state); got != "[]" {
					t.Errorf("left in the state dir: %s", got)
				}
				if status := c.post("\n"); status != http.StatusGone {
					t.Errorf("after the end: status %d", status)
				}
			})
			t.Run("closed by the client", func(t *testing.T) {
				c, program := openSplit(t, srv.CGI(), "Tandem-Open", newKey())
				c.talk("one")
				if status := c.post(`{"type":"close","seq":1,"code":1000}` + "\n"); status != http.StatusOK {
					t.Errorf("status %d", status)
				}
				c.closed(1000)
				over(program)
			})
			t.Run("opened twice", func(t *testing.T) {
				key := newKey()
				first, program := openSplit(t, srv.CGI(), "Tandem-Open", key)
				again := &splitter{t: t, url: srv.CGI(), attempt: 1}
				again.follow(again.ask(http.MethodPost, "split", openLine, "Tandem-Open", key, "Tandem-Attempt", "1"))
				if again.id != first.id {
					t.Fatalf("sessions %s and %s: the program runs twice", first.id, again.id)
				}
				if pid := again.message(); pid != strconv.Itoa(program) {
					t.Errorf("message %q, expected that of the first opening", pid)
				}
				again.talk("here")
				again.end()
				over(program)
			})
			t.Run("client gone", func(t *testing.T) {
				c, program := openSplit(t, srv.CGI())
				c.talk("one")
				c.stop()
				over(program)
			})
			t.Run("owner killed", func(t *testing.T) {
				c, program := openSplit(t, srv.CGI(), "Tandem-Open", newKey())
				c.talk("one")
				pids := running(exe)
				if len(pids) != 1 {
					t.Fatalf("processes %v", pids)
				}
				if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the program ends", func() bool { return ended(program) })
				if status := c.post("\n"); status != http.StatusGone {
					t.Errorf("status %d, expected 410", status)
				}
				if sockets(state) > 0 {
					t.Errorf("left: %s", left(state))
				}
				next, program := openSplit(t, srv.CGI())
				next.end()
				over(program)
				if got := left(state); got != "[]" {
					t.Errorf("left in the state dir: %s", got)
				}
			})
			t.Run("from elsewhere", func(t *testing.T) {
				for _, id := range []string{"abcdefghijklmnop.abcdefghijklmnopqrstuvwxyz", "../../../../etc/pas.x", "x", "ABCDEFGHIJKLMNOP.x"} {
					c := &splitter{t: t, url: srv.CGI(), id: id}
					if status := c.post("\n"); status != http.StatusGone {
						t.Errorf("%s: status %d", id, status)
					}
				}
			})
		})
	}
}
