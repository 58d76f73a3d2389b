package hube2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/internal/servertest"
)

const (
	snippets = "../../testdata/hub/"
	page     = "../../docs/publish.md"
)

// The programs of docs/publish.md.
var (
	publishers = map[string][]string{
		"publish.sh":  {"sh"},
		"publish.php": {"php"},
		"publish.py":  {"python3"},
		"publish.pl":  {"perl"},
		"publish.rb":  {"ruby"},
		"publish.mjs": {"node"},
	}
	subscribers = map[string][]string{
		"subscribe.sh":  {"bash"},
		"subscribe.py":  {"python3"},
		"subscribe.mjs": {"node"},
	}
)

// TestPage: docs/publish.md shows the programs as they are tested.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(snippets + "*")
	if err != nil || len(files) != len(publishers)+len(subscribers) {
		t.Errorf("%s has %q, %v: expected what is tested", snippets, files, err)
	}
	for _, file := range files {
		program, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if !bytes.Contains(text, fmt.Appendf(nil, "\n%s```\n", program)) {
			t.Errorf("%s doesn't show %s as it is: copy it there", page, name)
		}
		if !bytes.Contains(text, []byte("(../testdata/hub/"+name+")")) {
			t.Errorf("%s has no link to %s", page, name)
		}
	}
}

// snippet is a command that runs one, below its interpreter.
func (r *route) snippet(t *testing.T, programs map[string][]string, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs(snippets + name)
	if err != nil {
		t.Fatal(err)
	}
	argv := append(append(programs[name], path), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HUB="+r.hub, "HUB_KEY="+filepath.Join(r.site.dir, "hub.secret"))
	return cmd
}

// public starts a web server that is the hub's public URL, as programs make tokens for that.
func public(t *testing.T, kind servertest.Kind, by string) (*route, *servertest.Tandem) {
	t.Helper()
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("http://127.0.0.1:%d/.well-known/mercure", port)
	s := newSiteAt(t, at, keys)
	var td *servertest.Tandem
	if by == servertest.ByFastCGI {
		td = s.serve(t, 0)
	}
	srv := s.start(t, kind, by, port)
	return newRoute(t, s, string(kind)+"-"+by, srv.URL, "", nil), td
}

// TestPublishers: each program publishes what only readers with a token get, and says so when it can't.
func TestPublishers(t *testing.T) {
	const topic, data = "https://hub.example/grüße/1", "a=b & c\n☃"
	nginx, _ := public(t, servertest.Nginx, servertest.ByFastCGI)
	apache, _ := public(t, servertest.Apache, servertest.ByCGI)
	for _, r := range []*route{nginx, apache} {
		reader := r.listen(t, bearer(tokenFor(t, r.hub, "subscribe")), topic)
		defer reader.close()
		for name := range publishers {
			t.Run(r.name+"/"+name, func(t *testing.T) {
				out, err := r.snippet(t, publishers, name, topic, data).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if e := reader.next(); e.Data != data || e.ID != strings.TrimSpace(string(out)) {
					t.Errorf("got %+v, the program says %s", e, out)
				}
				wrong := r.snippet(t, publishers, name, topic, data)
				wrong.Env = append(wrong.Env, "HUB_KEY="+filepath.Join(r.site.dir, "tandem.toml"))
				out, err = wrong.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || !strings.Contains(string(out), "401") {
					t.Errorf("with a wrong key: %v: %s", err, out)
				}
			})
		}
	}
}

// TestSubscribers: each program prints events, and goes on behind the last one when Tandem was killed.
func TestSubscribers(t *testing.T) {
	const topic = "https://hub.example/grüße/1"
	for name := range subscribers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, td := public(t, servertest.Nginx, servertest.ByFastCGI)
			publish := func(id, data string) {
				t.Helper()
				form := url.Values{"id": {id}, "topic": {topic}, "data": {data}, "private": {"on"}}
				if resp, body := r.ask(t, "POST", r.hub, form, bearer(tokenFor(t, r.hub, "publish"))); body != id {
					t.Fatalf("%s: %s", resp.Status, body)
				}
			}
			publish("first", "one")
			publish("second", "☃\n\nthree")
			cmd := r.snippet(t, subscribers, name, topic)
			cmd.Env = append(cmd.Env, "TOKEN="+tokenFor(t, r.hub, "subscribe"), "LAST_EVENT_ID=first")
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			end := inGroup(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			printed := lines(out)
			defer func() {
				end()
				for line := range printed {
					t.Errorf("it also printed %q", line)
				}
				cmd.Wait() // killed
			}()
			expect := func(want ...string) {
				t.Helper()
				for _, w := range want {
					select {
					case line := <-printed:
						if line != w {
							t.Fatalf("printed %q, expected %q", line, w)
						}
					case <-time.After(2 * patience):
						t.Fatalf("nothing is printed, expected %q", w)
					}
				}
			}
			expect("second ☃", "", "three")
			port := portOf(t, td.HTTP)
			td.Kill()
			r.site.serve(t, port)
			publish("third", "four")
			expect("third four")

			refused := r.snippet(t, subscribers, name, topic)
			refused.Env = append(refused.Env, "TOKEN=x.y.z")
			text, err := refused.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(text), "refused") || !strings.Contains(string(text), "401") {
				t.Errorf("with a wrong token: %v: %s", err, text)
			}
		})
	}
}
