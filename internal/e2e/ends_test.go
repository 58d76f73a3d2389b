package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tandem/client"
	"tandem/internal/servertest"
	"tandem/session/frame"
)

// The programs say their own number and that of a process they leave in the
// background, and end in three ways.
const (
	stdinGrace = 200 * time.Millisecond
	termGrace  = 200 * time.Millisecond
	// serverHeartbeat is also how soon Apache's CGI finds out that a client has gone: when it writes.
	serverHeartbeat = 400 * time.Millisecond
)

var endEndpoints = strings.NewReplacer("GRACES",
	fmt.Sprintf("grace = \"0s\"\nstdin_grace = %q\nterm_grace = %q\nheartbeat = %q", stdinGrace, termGrace, serverHeartbeat),
	"HEARTBEAT", serverHeartbeat.String(),
	"BACKGROUND", `sleep 1000 </dev/null >/dev/null 2>&1 & echo pids $$ $!`).Replace(`
[endpoint.prompt]
path = "/tandem/prompt"
command = ["/bin/sh", "-c", "BACKGROUND; while read -r word status; do test \"$word\" = exit && exit $status; done"]
GRACES

[endpoint.deaf]
path = "/tandem/deaf"
command = ["/bin/sh", "-c", "BACKGROUND; wait"]
GRACES

[endpoint.stubborn]
path = "/tandem/stubborn"
command = ["/bin/sh", "-c", "trap '' TERM; BACKGROUND; wait"]
GRACES

[endpoint.brief]
path = "/tandem/brief"
command = ["/bin/sh", "-c", "BACKGROUND; sleep 0.5; exit 3"]
GRACES

[endpoint.default]
path = "/tandem/default"
command = ["/bin/sh", "-c", "trap '' TERM; BACKGROUND; wait"]
heartbeat = "HEARTBEAT"
grace = "0s"
`)

// graces are what a program may take to end when its session has, beyond the time
// that is Tandem's.
var graces = map[string]time.Duration{
	"prompt":   0,                      // ends at the end of its input
	"deaf":     stdinGrace,             // ends with SIGTERM
	"stubborn": stdinGrace + termGrace, // ends with SIGKILL
	"brief":    500 * time.Millisecond, // ends by itself
	"default":  2 * time.Second,        // as stubborn, with the default graces
}

// aim is the time that is Tandem's own, on a machine that has it; slack is what a
// busy one gets before a test fails.
const (
	aim   = time.Second
	slack = 5 * time.Second
)

// An end is one measurement.
type end struct {
	route, cause, program string
	took, grace           time.Duration
}

// ends collects the measurements of a test, which may run in parallel.
type ends struct {
	mu  sync.Mutex
	all []end
}

// took notes how long it took from the cause until everything was gone; grace is
// what of it was not Tandem's.
func (e *ends) took(t *testing.T, route, cause, program string, took, grace time.Duration) {
	t.Helper()
	if took > grace+slack {
		t.Errorf("everything was gone after %v, want %v + %v at most, even on a slow machine", took, grace, aim)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, end{route, cause, program, took, grace})
}

// print is the table that docs/operations.md quotes.
func (e *ends) print(t *testing.T) {
	slices.SortStableFunc(e.all, func(a, b end) int {
		return strings.Compare(a.route+a.cause+a.program, b.route+b.cause+b.program)
	})
	var b strings.Builder
	for _, m := range e.all {
		note := ""
		if m.took > m.grace+aim {
			note = "  beyond the aim"
		}
		fmt.Fprintf(&b, "%-16s %-28s %-9s %8.3fs, of it grace %.3fs%s\n", m.route, m.cause, m.program, m.took.Seconds(), m.grace.Seconds(), note)
	}
	t.Logf("from the cause until program, what it started and CGI process were gone:\n%s", b.String())
}

// A house is all servers, with the programs of endEndpoints behind them.
type house struct {
	td                      *servertest.Tandem
	nginx, lighttpd, apache *servertest.Server
}

func startHouse(t *testing.T, toml string) *house {
	t.Helper()
	h := &house{td: servertest.StartTandem(t, toml)}
	// Both CGI programs are found by the path below the script.
	cgi := t.TempDir() + "/cgi.toml"
	var text string
	for _, at := range []string{"cgi-bin", "fcgid"} {
		text += strings.NewReplacer("[endpoint.", "[endpoint."+at+"-", `path = "/tandem`, `path = "/`+at+`/tandem`).Replace(toml)
	}
	if err := os.WriteFile(cgi, []byte(servertest.WithEngine(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	openToAll(t, cgi)
	h.nginx = servertest.Start(t, servertest.Nginx, servertest.Config{Socket: h.td.Socket, TLS: true})
	h.lighttpd = servertest.Start(t, servertest.Lighttpd, servertest.Config{Socket: h.td.Socket, Binary: servertest.Binary(t), TandemConfig: cgi})
	h.apache = servertest.Start(t, servertest.Apache, servertest.Config{Socket: h.td.Socket, Binary: servertest.Binary(t), TandemConfig: cgi})
	return h
}

// A door is a route with what a raw client has to know about it.
type door struct {
	route
	length int64 // of a body that stays open
	pulse  bool
	cgi    bool // one Tandem process for each session
}

// duplex are the doors through which both ways stream.
func (h *house) duplex() []door {
	return []door{
		{route: route{name: "http", base: h.td.HTTP + "/tandem"}, length: chunked},
		{route: route{name: "nginx", base: h.nginx.FastCGI()}, length: chunked},
		{route: route{name: "nginx-h2", base: h.nginx.TLSURL + "/tandem", client: client.Options{TLS: h.nginx.TLSConfig()}}},
		{route: route{name: "lighttpd", base: h.lighttpd.FastCGI()}, length: declared},
		{route: route{name: "lighttpd-cgi", base: h.lighttpd.CGI()}, length: declared, cgi: true},
		{route: route{name: "apache", base: h.apache.FastCGI()}, length: chunked, pulse: true},
	}
}

// framed opens a session with package client and returns it with its processes.
func (d *door) framed(t *testing.T, program string) (*client.Conn, []process) {
	t.Helper()
	c := d.dial(t, "/"+program, nil)
	m, err := c.Receive(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c, d.processes(t, pidsLine.FindStringSubmatch(string(m.Data)))
}

// raw opens a session by hand.
func (d *door) raw(t *testing.T, program, media, first string) (*raw, []process) {
	t.Helper()
	c, err := dialRaw(d.base+"/"+program, media, d.length)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	c.pulse = d.pulse
	if err := c.send(first); err != nil {
		t.Fatal(err)
	}
	return c, d.processes(t, c.await(t, pidsLine))
}

// processes are those of a session: its program, what that started, and for CGI
// the Tandem process.
func (d *door) processes(t *testing.T, match []string) []process {
	t.Helper()
	program, grandchild, err := pids(match)
	if err != nil {
		t.Fatal(err)
	}
	all := []process{program, grandchild}
	if d.cgi {
		p, ok := readProcess(program.ppid)
		if !ok || p.comm != "tandem" {
			t.Fatalf("expected the program's parent to be Tandem's CGI process, got %d (%s)", program.ppid, p.comm)
		}
		all = append(all, p)
	}
	return all
}

// TestEnds: by whatever a session ends, soon nothing of it is left.
func TestEnds(t *testing.T) {
	h := startHouse(t, endEndpoints)
	var measured ends
	t.Run("all", func(t *testing.T) {
		for _, d := range h.duplex() {
			for _, program := range []string{"prompt", "stubborn"} {
				grace := graces[program]
				t.Run(d.name+"/close/"+program, func(t *testing.T) {
					t.Parallel()
					c, left := d.framed(t, program)
					start := time.Now()
					if err := c.Close(frame.CodeNormal, "done"); err != nil {
						t.Errorf("close: %v", err)
					}
					measured.took(t, d.name, "client's close", program, awaitGone(t, start, left...), grace)
				})
				t.Run(d.name+"/CloseNow/"+program, func(t *testing.T) {
					t.Parallel()
					c, left := d.framed(t, program)
					start := time.Now()
					c.CloseNow()
					measured.took(t, d.name, "client's CloseNow", program, awaitGone(t, start, left...), grace)
				})
				if d.length == 0 {
					continue // a raw client speaks HTTP/1.1 alone
				}
				t.Run(d.name+"/0x04/"+program, func(t *testing.T) {
					t.Parallel()
					c, left := d.raw(t, program, "text/plain", "\n")
					start := time.Now()
					if err := c.send("\x04\n"); err != nil {
						t.Fatal(err)
					}
					measured.took(t, d.name, "line of 0x04", program, awaitGone(t, start, left...), grace)
				})
				t.Run(d.name+"/socket closed/"+program, func(t *testing.T) {
					t.Parallel()
					c, left := d.raw(t, program, "text/plain", "\n")
					start := time.Now()
					c.conn.Close()
					measured.took(t, d.name, "closed socket", program, awaitGone(t, start, left...), grace)
				})
				if program != "prompt" {
					continue
				}
				t.Run(d.name+"/silence", func(t *testing.T) {
					t.Parallel()
					const heartbeat = 600 * time.Millisecond
					c, left := d.raw(t, program, "application/x-ndjson", fmt.Sprintf(
						"{\"type\":\"open\",\"version\":1,\"heartbeat\":%d,\"window\":65536,\"messages\":64}\n", heartbeat.Milliseconds()))
					start := time.Now()
					c.pulse = false
					took := awaitGone(t, start, left...)
					measured.took(t, d.name, fmt.Sprint("silence, heartbeat ", heartbeat), program, took, grace+heartbeat*5/2)
					// raw may have sent its last pulse 20 ms before, or the open some time before.
					if took < heartbeat*3/2 {
						t.Errorf("the session ended after %v of silence already", took)
					}
				})
			}
			for status, code := range map[string]frame.Code{"0": frame.CodeNormal, "3": frame.CodeProgramExited} {
				t.Run(d.name+"/exit "+status, func(t *testing.T) {
					t.Parallel()
					c, left := d.framed(t, "prompt")
					start := time.Now()
					ctx := within(t, 20*time.Second)
					if err := c.Send(ctx, frame.Text("exit "+status)); err != nil {
						t.Fatal(err)
					}
					_, err := c.Receive(ctx)
					wantCode(t, err, code)
					if code != frame.CodeNormal && !strings.Contains(fmt.Sprint(err), "exit status "+status) {
						t.Errorf("the session ended with %v, want the exit status in it", err)
					}
					measured.took(t, d.name, "program's exit "+status, "prompt", awaitGone(t, start, left...), 0)
				})
			}
		}
	})
	measured.print(t)
}

// TestEndsOfRestart: SIGTERM to "tandem serve" is close 1012 to every client, and
// the end of every program.
func TestEndsOfRestart(t *testing.T) {
	h := startHouse(t, endEndpoints)
	type open struct {
		door
		program string
		conn    *client.Conn
		left    []process
	}
	var sessions []open
	for _, d := range h.duplex() {
		for _, program := range []string{"prompt", "stubborn"} {
			if !d.cgi {
				c, left := d.framed(t, program)
				if left[0].ppid != h.td.Pid() {
					t.Errorf("%s: the program's parent is %d, not tandem serve, %d", d.name, left[0].ppid, h.td.Pid())
				}
				sessions = append(sessions, open{d, program, c, left})
			}
		}
	}
	start := time.Now()
	if err := h.td.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var measured ends
	var all sync.WaitGroup
	for _, s := range sessions {
		all.Go(func() {
			_, err := s.conn.Receive(within(t, 20*time.Second))
			told := time.Since(start)
			wantCode(t, err, frame.CodeRestart)
			measured.took(t, s.name, "SIGTERM to serve: told", s.program, told, 0)
		})
	}
	for _, s := range sessions {
		all.Go(func() {
			measured.took(t, s.name, "SIGTERM to serve: gone", s.program, awaitGone(t, start, s.left...), graces[s.program])
		})
	}
	all.Wait()
	select {
	case <-h.td.Done():
		measured.took(t, "all", "SIGTERM to serve: exited", "serve", time.Since(start), stdinGrace+termGrace)
		if err := h.td.Err(); err != nil {
			t.Errorf("tandem ended with %v, want status 0", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("tandem serve is still there 15 s after SIGTERM")
	}
	measured.print(t)
}

// TestEndsOfCGI: SIGTERM to a CGI process, and to the web server that started it.
func TestEndsOfCGI(t *testing.T) {
	var measured ends
	t.Run("all", func(t *testing.T) {
		for program, grace := range map[string]time.Duration{"prompt": graces["prompt"], "stubborn": graces["stubborn"]} {
			t.Run("lighttpd/the process/"+program, func(t *testing.T) {
				t.Parallel()
				d := startHouse(t, endEndpoints).duplex()[4]
				_, left := d.framed(t, program)
				start := time.Now()
				if err := syscall.Kill(left[2].pid, syscall.SIGTERM); err != nil {
					t.Fatalf("signalling the CGI process: %v", err)
				}
				measured.took(t, d.name, "SIGTERM to the CGI process", program, awaitGone(t, start, left...), grace)
			})
			t.Run("lighttpd/the server/"+program, func(t *testing.T) {
				t.Parallel()
				h := startHouse(t, endEndpoints)
				d := h.duplex()[4]
				_, left := d.framed(t, program)
				start := time.Now()
				if err := h.lighttpd.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				measured.took(t, d.name, "SIGTERM to lighttpd", program, awaitGone(t, start, left...), grace)
			})
		}
	})
	measured.print(t)
}

// TestEndsBehindFiniteBodies: Apache's cgi-bin and mod_fcgid pass on a whole body, then
// stream the response. They see that a client has gone when they write to it, which
// a heartbeat makes them do.
func TestEndsBehindFiniteBodies(t *testing.T) {
	const body = `{"type":"open","version":1,"heartbeat":15000,"window":65536,"messages":64}` + "\n" + `{"type":"end","seq":0}` + "\n"
	h := startHouse(t, endEndpoints)
	doors := []door{
		{route: route{name: "apache-cgi", base: h.apache.CGI()}, length: int64(len(body)), cgi: true},
		{route: route{name: "apache-fcgid", base: h.apache.Fcgid()}, length: int64(len(body))},
	}
	var measured ends
	t.Run("all", func(t *testing.T) {
		for _, d := range doors {
			// Apache kills a CGI process 3 s after SIGTERM: by then its program must be gone.
			for _, program := range []string{"deaf", "stubborn", "default"} {
				t.Run(d.name+"/socket closed/"+program, func(t *testing.T) {
					t.Parallel()
					c, left := d.raw(t, program, "application/x-ndjson", body)
					start := time.Now()
					c.conn.Close()
					// The first write after the client's FIN brings its RST, the second fails.
					measured.took(t, d.name, "closed socket", program, awaitGone(t, start, left...), graces[program]+2*serverHeartbeat)
				})
			}
			t.Run(d.name+"/program's exit", func(t *testing.T) {
				t.Parallel()
				c, left := d.raw(t, "brief", "application/x-ndjson", body)
				start := time.Now()
				measured.took(t, d.name, "program's exit 3", "brief", awaitGone(t, start, left...), graces["brief"])
				c.await(t, closeFrame)
				if !strings.Contains(string(c.got), `"code":4000`) {
					t.Errorf("the response is %q, want a close frame with code 4000", c.got)
				}
			})
		}
	})
	t.Run("SIGTERM to Apache", func(t *testing.T) {
		d := doors[0]
		_, left := d.raw(t, "stubborn", "application/x-ndjson", body)
		start := time.Now()
		if err := h.apache.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		measured.took(t, d.name, "SIGTERM to Apache", "stubborn", awaitGone(t, start, left...), graces["stubborn"])
	})
	measured.print(t)
}
