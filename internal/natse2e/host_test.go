package natse2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// host is a "tandem serve" that shares nothing with others but the NATS servers.
type host struct {
	dir     string
	address string
	binary  string
	cmd     *exec.Cmd
}

// newHost starts one with a hub at /hub. more are keys of its endpoint.
func newHost(t testing.TB, servers []string, name, more string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "natse2e") // t.TempDir's may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ip := newIP()
	h := &host{dir: dir, address: fmt.Sprintf("%s:%d", ip, freePort(t, ip)), binary: servertest.Binary(t)}
	toml := fmt.Sprintf("http = %q\nstate_dir = %q\n[endpoint.hub]\npath = '/hub'\napp = 'hub'\npublish = 'anyone'\nheartbeat = '1s'\nnats = ['%s']\nnats_name = %q\n%s",
		h.address, filepath.Join(dir, "state"), strings.Join(servers, "', '"), name, more)
	if err := os.WriteFile(filepath.Join(dir, "tandem.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	t.Cleanup(func() {
		_ = h.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { h.cmd.Process.Kill() })
		if err := h.cmd.Wait(); err != nil {
			t.Errorf("a host ended with %v", err)
		}
		late.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", h.address, h.log())
		}
	})
	return h
}

func (h *host) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h.cmd = exec.Command(h.binary, "serve", "-c", filepath.Join(h.dir, "tandem.toml"))
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "tandem serves", func() bool {
		resp, err := http.Get("http://" + h.address + "/nothing")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

func (h *host) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

func (h *host) log() string {
	text, _ := os.ReadFile(filepath.Join(h.dir, "log"))
	return string(text)
}

func (h *host) url() string { return "http://" + h.address + "/hub" }

// newHosts starts three.
func newHosts(t testing.TB, c cluster, name, more string) []*host {
	t.Helper()
	l := make([]*host, 3)
	for i := range l {
		l[i] = newHost(t, c.urls(i), name, "nats_replicas = 3\n"+more)
	}
	return l
}

// notPublished is the answer to a publish that is not confirmed.
type notPublished struct {
	status int
	kind   string // media type
	text   string
}

func (e *notPublished) Error() string {
	return fmt.Sprintf("status %d, %s: %s", e.status, e.kind, e.text)
}

var poster = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}

// publish is a POST, as any program of a site does it.
func (h *host) publish(id, topic, data string) error {
	resp, err := poster.PostForm(h.url(), url.Values{"id": {id}, "topic": {topic}, "data": {data}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return &notPublished{resp.StatusCode, resp.Header.Get("Content-Type"), string(body)}
	case string(body) != id:
		return errors.New("published under another id: " + string(body))
	}
	return nil
}

// publish tries all hosts, one after the other, until one confirms.
func publish(t testing.TB, hosts []*host, id, topic, data string) (failed int) {
	t.Helper()
	for end := time.Now().Add(patience); ; failed++ {
		err := hosts[failed%len(hosts)].publish(id, topic, data)
		if err == nil {
			return failed
		}
		if time.Now().After(end) {
			t.Errorf("%s isn't published: %v", id, err)
			return failed
		}
		if _, answered := err.(*notPublished); !answered {
			time.Sleep(10 * time.Millisecond) // a host that isn't there says so at once
		}
	}
}
