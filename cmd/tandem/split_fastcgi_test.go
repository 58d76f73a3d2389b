package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/fcgi"
	"tandem/internal/servertest"
)

// follows checks that a session goes on in another process's request: the receive half
// of split, and of poll.
func (c *splitter) follows(after int) {
	c.t.Helper()
	c.stop()
	c.follow(c.ask(http.MethodGet, "split", "", "Tandem-After", strconv.Itoa(after)))
	c.talk("after a new receive half")
	c.stop()
	c.follow(c.ask(http.MethodGet, "poll", "", "Tandem-After", strconv.Itoa(after+1), "Prefer", "wait=0"))
	if f := c.frame(); f.Type != "detach" || f.Code != 1000 {
		c.t.Fatalf("frame %+v, expected a poll's end", f)
	}
	c.follow(c.ask(http.MethodGet, "split", "", "Tandem-After", strconv.Itoa(after+1)))
}

// TestSplitFcgid: mod_fcgid has a process serve one request at a time, so that the opening
// one keeps its process, and all others go through another.
func TestSplitFcgid(t *testing.T) {
	state := filepath.Join(shared(t), "s")
	config := servertest.Config{
		Binary:       servertest.Binary(t),
		TandemConfig: configFile(t, fmt.Sprintf("state_dir = %q\n[endpoint.cat]\n%s", state, catting)),
	}
	srv, err := servertest.Run(t.Context(), servertest.Apache, config)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(srv.CGIDir, "tandem")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of Apache:\n%s", srv.Log())
		}
		srv.Stop()
	})
	var open []*splitter
	var programs []int
	for range 3 {
		c, program := openSplit(t, srv.Fcgid(), "Tandem-Open", newKey())
		open, programs = append(open, c), append(programs, program)
	}
	if n := sockets(state); n != 3 {
		t.Errorf("%d owners, expected one for each session: %s", n, left(state))
	}
	for i := range 3 {
		for _, c := range open {
			c.talk(fmt.Sprint(i), "two at a time")
		}
	}
	open[0].follows(7)
	open[0].end()
	open[1].end()
	eventually(t, "the programs end", func() bool { return ended(programs[0]) && ended(programs[1]) })

	// Apache ends its processes by SIGTERM. The last session goes, and the sockets.
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	eventually(t, "the processes end", func() bool { return len(running(exe)) == 0 && ended(programs[2]) })
	if got := left(state); got != "[]" {
		t.Errorf("left in the state dir: %s", got)
	}
}

// TestSplitSpawnFcgi: spawn-fcgi starts several processes on one socket, whichever
// accepts a connection first has it.
func TestSplitSpawnFcgi(t *testing.T) {
	dir := shared(t)
	state, socket := filepath.Join(dir, "s"), filepath.Join(dir, "sock")
	config := configFile(t, fmt.Sprintf("state_dir = %q\n[endpoint.cat]\n%s", state, catting))
	pids := filepath.Join(dir, "pids")
	cmd := exec.Command("spawn-fcgi", "-s", socket, "-M", "0666", "-F", "3", "-P", pids, "--", servertest.Binary(t))
	cmd.Env = []string{"TANDEM_CONFIG=" + config}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	list, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	var processes []int
	for _, s := range strings.Fields(string(list)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("process ids %q", list)
		}
		processes = append(processes, pid)
	}
	t.Cleanup(func() {
		for _, pid := range processes {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		eventually(t, "the processes end", func() bool {
			for _, pid := range processes {
				if !ended(pid) {
					return false
				}
			}
			return true
		})
		if got := left(state); got != "[]" {
			t.Errorf("left in the state dir: %s", got)
		}
	})
	if len(processes) != 3 {
		t.Fatalf("process ids %q, expected 3", list)
	}
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: socket})
	var open []*splitter
	// Who accepts is the kernel's choice: until two processes have sessions.
	for sockets(state) < 2 {
		if len(open) == 100 {
			t.Fatal("one process gets all requests")
		}
		c, _ := openSplit(t, nginx.FastCGI(), "Tandem-Open", newKey())
		open = append(open, c)
	}
	for i := range 5 {
		for _, c := range open {
			c.talk(fmt.Sprint(i), "two at a time")
		}
	}
	open[0].follows(11)
	open[0].end()
}

// TestSplitAnyProcess: whichever of several processes gets a request, it ends up where
// the session is. The web server here is the test, which can choose.
func TestSplitAnyProcess(t *testing.T) {
	state := filepath.Join(shared(t), "s")
	var urls []string
	var all []*servertest.Tandem
	for range 3 {
		td := servertest.StartTandem(t, fmt.Sprintf("state_dir = %q\n[fastcgi]\nlisten = \"unix:$SOCKET\"\n[endpoint.cat]\n%s", state, catting))
		srv := httptest.NewServer(&fcgi.Relay{Socket: td.Socket})
		t.Cleanup(srv.Close)
		urls, all = append(urls, srv.URL), append(all, td)
	}
	key := newKey()
	c, _ := openSplit(t, urls[0], "Tandem-Open", key)
	if n := sockets(state); n != 1 {
		t.Errorf("%d sockets, expected one of the process that has the session", n)
	}
	for i := range 9 {
		c.url = urls[i%3]
		c.talk(fmt.Sprint(i))
	}
	c.url = urls[1]
	c.follows(10)

	// The same opening through another process is the same session.
	again := &splitter{t: t, url: urls[2], attempt: c.attempt + 1, sent: c.sent}
	again.follow(again.ask(http.MethodPost, "split", openLine, "Tandem-Open", key, "Tandem-Attempt", strconv.Itoa(c.attempt+1)))
	if again.id != c.id {
		t.Errorf("sessions %s and %s", again.id, c.id)
	}

	// The end of the owner is the end of the session, and told to its client.
	if err := all[0].Stop(); err != nil {
		t.Error(err)
	}
	for f := again.frame(); f.Type != "close" || f.Code != 1012; f = again.frame() {
		if f.Type != "message" {
			t.Fatalf("frame %+v, expected a close", f)
		}
	}
	if status := again.post("\n"); status != http.StatusGone {
		t.Errorf("status %d, expected 410", status)
	}
	// And its key is another one's.
	c, _ = openSplit(t, urls[1], "Tandem-Open", key)
	c.end()
}

// describe asks the endpoint what it is.
func describe(t *testing.T, url string) (status int, d struct {
	Interface  string
	Software   string
	Transports []string
	Detail     string
}) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&d); err != nil {
		t.Errorf("%s: %v", resp.Status, err)
	}
	return resp.StatusCode, d
}

// TestRelayCGI: a CGI program that is a front to a daemon.
func TestRelayCGI(t *testing.T) {
	const daemon = `[fastcgi]
listen = "unix:$SOCKET"
mode = "0666"
relay_users = [%s]
[endpoint.cat]
` + catting
	trusting := servertest.StartTandem(t, fmt.Sprintf(daemon, `"root", "www-data"`))
	self := os.Geteuid()
	for _, tt := range []struct {
		name   string
		kind   servertest.Kind
		socket string
		iface  string
		single bool
	}{
		{"Apache", servertest.Apache, trusting.Socket, "cgi", false},
		{"lighttpd", servertest.Lighttpd, trusting.Socket, "cgi", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := servertest.Start(t, tt.kind, servertest.Config{
				Binary: servertest.Binary(t), TandemConfig: configFile(t, fmt.Sprintf("relay = \"unix:%s\"\n", tt.socket)),
			})
			if status, d := describe(t, srv.CGI()); status != 200 || d.Interface != tt.iface || d.Software == "" {
				t.Errorf("status %d, %+v", status, d)
			}
			c, program := openSplit(t, srv.CGI(), "Tandem-Open", newKey())
			for i := range 5 {
				c.talk(fmt.Sprint(i), "two at a time")
			}
			c.follows(11)
			c.end()
			eventually(t, "all end", func() bool {
				return ended(program) && len(running(filepath.Join(srv.CGIDir, "tandem"))) == 0
			})
		})
	}
	t.Run("not listed", func(t *testing.T) {
		if self != 0 {
			return // the web server runs as ourselves, who need not be listed
		}
		td := servertest.StartTandem(t, fmt.Sprintf(daemon, ""))
		srv := servertest.Start(t, servertest.Apache, servertest.Config{
			Binary: servertest.Binary(t), TandemConfig: configFile(t, fmt.Sprintf("relay = \"unix:%s\"\n", td.Socket)),
		})
		if status, d := describe(t, srv.CGI()); status != 200 || d.Interface != "fastcgi" {
			t.Errorf("status %d, %+v", status, d)
		}
		if !strings.Contains(td.Log(), "relay_users") {
			t.Errorf("the log doesn't say why:\n%s", td.Log())
		}
	})
	t.Run("no daemon", func(t *testing.T) {
		srv := servertest.Start(t, servertest.Apache, servertest.Config{
			Binary: servertest.Binary(t), TandemConfig: configFile(t, "relay = \"unix:/run/no/such.sock\"\n"),
		})
		status, d := describe(t, srv.CGI())
		if status != http.StatusServiceUnavailable || !strings.Contains(d.Detail, `relay = "unix:/run/no/such.sock"`) || !strings.Contains(d.Detail, "no such file") {
			t.Errorf("status %d, %+v", status, d)
		}
	})
}

// TestRelayFastCGI: a FastCGI program that is a front, behind nginx; both ways stream in
// one request.
func TestRelayFastCGI(t *testing.T) {
	daemon := servertest.StartTandem(t, "[fastcgi]\nlisten = \"unix:$SOCKET\"\n[endpoint.cat]\n"+catting)
	front := servertest.StartTandem(t, fmt.Sprintf("relay = \"unix:%s\"\n[fastcgi]\nlisten = \"unix:$SOCKET\"\nmode = \"0666\"\n", daemon.Socket))
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: front.Socket})
	if status, d := describe(t, nginx.FastCGI()); status != 200 || d.Interface != "fastcgi" || !strings.HasPrefix(d.Software, "nginx") {
		t.Errorf("status %d, %+v", status, d)
	}
	cmd := tandem(t, nil, "connect", nginx.FastCGI())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	var program int
	if _, err := fmt.Fscanln(stdout, &program); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		fmt.Fprintln(stdin, text)
		var got string
		if _, err := fmt.Fscanln(stdout, &got); err != nil || got != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	eventually(t, "the program ends", func() bool { return ended(program) })
}
