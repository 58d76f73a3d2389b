package hube2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/internal/servertest"
)

const book = "https://hub.example/books/1"

// A command is "tandem subscribe", as it runs.
type command struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

// subscribe starts it at the hub. Its token is in the environment.
func (r *route) subscribe(t *testing.T, args ...string) *command {
	t.Helper()
	cmd := exec.Command(servertest.Binary(t), append([]string{"subscribe", "--json", r.hub, book}, args...)...)
	cmd.Env = append(os.Environ(), "TANDEM_TOKEN="+token(t, "subscribe"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &command{t, cmd, lines(out)}
}

// close ends it as Ctrl-C does.
func (c *command) close() {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		c.t.Errorf("tandem subscribe has ended: %v", err)
	}
	for line := range c.lines {
		c.t.Errorf("tandem subscribe also printed %s", line)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("tandem subscribe: %v", err)
	}
}

// lines has what is printed, line by line.
func lines(r io.Reader) chan string {
	l := make(chan string, 1000)
	go func() {
		defer close(l)
		for s := bufio.NewScanner(r); s.Scan(); {
			l <- s.Text()
		}
	}()
	return l
}

// expect waits for events of these ids.
func (c *command) expect(ids ...string) {
	c.t.Helper()
	for _, want := range ids {
		select {
		case line := <-c.lines:
			var e struct{ ID, Topic, Data string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID != want || e.Topic != book || e.Data != "data of "+want {
				c.t.Fatalf("tandem subscribe prints %s, expected %s", line, want)
			}
		case <-time.After(3 * patience): // it waits before it tries again, longer each time
			c.t.Fatalf("tandem subscribe doesn't print %s", want)
		}
	}
}

// tandemPublish runs "tandem publish", again where a hub or web server that was killed gives no answer.
func (r *route) tandemPublish(t *testing.T, id string) {
	t.Helper()
	ctx, token := within(t, 2*patience), token(t, "publish")
	for {
		cmd := exec.CommandContext(ctx, servertest.Binary(t), "publish", "--private", "--id", id, r.hub, book, "data of "+id)
		cmd.Env = append(os.Environ(), "TANDEM_TOKEN="+token)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && slices.Contains([]int{69, 74, 75}, exit.ExitCode()) {
			continue
		}
		if err != nil || string(out) != id+"\n" {
			t.Fatalf("tandem publish: %v: %s", err, out)
		}
		return
	}
}

// TestRestart: a web server that is killed, and Tandem likewise, cost a subscriber no event, neither by Server-Sent Events
// nor with tandem subscribe. Events are published meanwhile through a second web server.
func TestRestart(t *testing.T) {
	for _, tt := range []struct {
		kind servertest.Kind
		by   string
	}{
		{servertest.Nginx, servertest.ByFastCGI},
		{servertest.Apache, servertest.ByFastCGI},
		{servertest.Apache, servertest.ByCGI},
		{servertest.Apache, servertest.ByFcgid},
		{servertest.Lighttpd, servertest.ByFastCGI},
		{servertest.Lighttpd, servertest.ByCGI},
	} {
		t.Run(fmt.Sprintf("%s-%s", tt.kind, tt.by), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, keys)
			var td *servertest.Tandem
			if tt.by == servertest.ByFastCGI {
				td = s.serve(t, 0)
			}
			srv, second := s.start(t, tt.kind, tt.by, 0), s.start(t, tt.kind, tt.by, 0)
			port := portOf(t, srv.URL)
			r := newRoute(t, s, "first", srv.URL, "", nil)
			other := newRoute(t, s, "second", second.URL, "", nil)
			stream := r.listen(t, bearer(token(t, "subscribe")), book)
			defer stream.close() // before the web server stops
			r.tandemPublish(t, "before")
			command := r.subscribe(t, "--since", "earliest")
			defer command.close()
			for _, e := range []interface{ expect(...string) }{stream, command} {
				e.expect("before")
			}

			srv.Kill()
			<-stream.lost
			other.tandemPublish(t, "away")
			srv = s.start(t, tt.kind, tt.by, port)
			r.tandemPublish(t, "back")
			for _, e := range []interface{ expect(...string) }{stream, command} {
				e.expect("away", "back")
			}

			if td != nil {
				http := portOf(t, td.HTTP)
				td.Kill()
				s.serve(t, http)
			} else if killAll(filepath.Join(srv.CGIDir, "tandem")) == 0 {
				t.Error("no process served a subscriber")
			}
			r.tandemPublish(t, "killed")
			for _, e := range []interface{ expect(...string) }{stream, command} {
				e.expect("killed")
			}
		})
	}
}

// TestCommands: tandem publish and tandem subscribe, through each web server.
func TestCommands(t *testing.T) {
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if r.tls != nil {
				args = append(args, "--insecure") // the certificate is made for this run
			}
			topic := "https://hub.example/" + r.name
			sub := exec.CommandContext(within(t, 3*patience), servertest.Binary(t), append([]string{"subscribe", "--since", "earliest", "-n", "2", r.hub, topic}, args...)...)
			sub.Env = append(os.Environ(), "TANDEM_TOKEN="+token(t, "subscribe"))
			var errs strings.Builder
			sub.Stderr = &errs
			out, err := sub.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			for n, data := range []string{"one", "two"} {
				pub := exec.CommandContext(within(t, patience), servertest.Binary(t), append([]string{"publish", "--private", r.hub, topic, "-"}, args...)...)
				pub.Env = append(os.Environ(), "TANDEM_TOKEN="+token(t, "publish"))
				pub.Stdin = strings.NewReader(data)
				if out, err := pub.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "urn:uuid:") {
					t.Fatalf("tandem publish: %v: %s", err, out)
				}
				if n == 0 {
					if err := sub.Start(); err != nil {
						t.Fatal(err)
					}
				}
			}
			printed, _ := io.ReadAll(out)
			if err := sub.Wait(); err != nil || string(printed) != "one\ntwo\n" {
				t.Errorf("tandem subscribe: %v: printed %q, says %s", err, printed, errs.String())
			}
		})
	}
}
