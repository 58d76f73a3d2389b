package hube2e_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tandem/fcgi"
	"tandem/internal/servertest"
)

// pool are several FastCGI processes on one host behind one web server.
type pool struct {
	*route
	pids       func() []int
	publishers int // at a time
}

// spawned starts 4 processes with spawn-fcgi behind nginx.
func spawned(t *testing.T, s *site) *pool {
	t.Helper()
	exe := servertest.Binary(t)
	pidFile := filepath.Join(s.dir, "pids")
	cmd := exec.Command("spawn-fcgi", "-s", s.socket, "-M", "0666", "-F", "4", "-P", pidFile, "--", exe)
	cmd.Env = append(os.Environ(), "TANDEM_CONFIG="+s.config)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("spawn-fcgi: %v: %s", err, out)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	mine := func() []int { // those of them that live
		return slices.DeleteFunc(running(exe), func(pid int) bool { return !slices.Contains(pids, pid) })
	}
	t.Cleanup(func() {
		for _, pid := range mine() {
			syscall.Kill(pid, syscall.SIGCONT)
			syscall.Kill(pid, syscall.SIGTERM)
		}
		eventually(t, "the end of the processes", func() bool { return len(mine()) == 0 })
	})
	if len(pids) != 4 {
		t.Fatalf("spawn-fcgi started %d processes", len(pids))
	}
	eventually(t, "the start of the processes", func() bool { return len(mine()) == 4 })
	srv := s.start(t, servertest.Nginx, servertest.ByFastCGI, 0)
	return &pool{newRoute(t, s, "spawn-fcgi", srv.URL, srv.FastCGI(), nil), mine, 16}
}

// fcgid has mod_fcgid start them, one for each request.
func fcgid(t *testing.T, s *site) *pool {
	t.Helper()
	srv := s.start(t, servertest.Apache, servertest.ByFcgid, 0)
	exe := filepath.Join(srv.CGIDir, "tandem")
	return &pool{newRoute(t, s, "mod_fcgid", srv.URL, srv.Fcgid(), nil), func() []int { return running(exe) }, 4}
}

// atEach does something that one process after the other takes part in: the others are stopped meanwhile. They share a
// socket, so that nobody can choose.
func (p *pool) atEach(t *testing.T, do func(n int)) {
	t.Helper()
	pids := p.pids()
	for n, at := range pids {
		for _, pid := range pids {
			sig := syscall.SIGSTOP
			if pid == at {
				sig = syscall.SIGCONT
			}
			if err := syscall.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
		}
		for _, pid := range pids {
			if pid != at {
				eventually(t, "the stop of a process", func() bool { return isStopped(pid) })
			}
		}
		do(n)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

// isStopped tells whether all threads of a process are stopped: until then one may still accept a connection.
func isStopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if _, rest, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// busiest is the process that has worked most, and what each has.
func busiest(t *testing.T, pids []int) (pid int, seconds []float64) {
	t.Helper()
	most := -1.
	for _, p := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		user, _ := strconv.ParseFloat(strings.Fields(rest)[11], 64)
		system, _ := strconv.ParseFloat(strings.Fields(rest)[12], 64)
		s := (user + system) / 100 // USER_HZ
		seconds = append(seconds, s)
		if s > most {
			pid, most = p, s
		}
	}
	if pid == 0 {
		t.Fatal("no process runs")
	}
	return pid, seconds
}

// TestProcesses: whoever publishes at any of several processes reaches all subscribers at all of them, in the same order
// for each topic, while one of the processes is killed. A publisher that has no answer posts again with the same id, which
// stores nothing twice. TANDEM_SLOW=1: 10,000 events.
func TestProcesses(t *testing.T) {
	events := 1000
	if os.Getenv("TANDEM_SLOW") != "" {
		events = 10_000
	}
	topics := []string{"a", "b", "c", "d"}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, start := range map[string]func(*testing.T, *site) *pool{"spawn-fcgi": spawned, "mod_fcgid": fcgid} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			p := start(t, newSite(t, anyone))
			var subs []*source
			published := make(map[string]bool)
			if name == "spawn-fcgi" {
				p.atEach(t, func(int) { subs = append(subs, p.listen(t, nil, topics...), p.listen(t, nil, topics...)) })
				// nginx keeps connections to processes that are stopped now: not through nginx.
				relay := httptest.NewServer(&fcgi.Relay{Socket: p.site.socket, Log: slog.New(slog.DiscardHandler)})
				defer relay.Close()
				direct := newRoute(t, p.site, "relay", relay.URL, relay.URL+"/tandem", nil)
				p.atEach(t, func(n int) {
					id := fmt.Sprint("at", n)
					published[id] = true
					form := url.Values{"id": {id}, "topic": {topics[n]}, "data": {topics[n]}}
					if resp, body := direct.ask(t, "POST", direct.hub, form, nil); resp.StatusCode != http.StatusOK || body != id {
						t.Fatalf("process %d: %s: %s", n, resp.Status, body)
					}
				})
			} else { // one process for each
				for range 4 {
					subs = append(subs, p.listen(t, nil, topics...))
				}
			}

			// post publishes until it is told that the event is stored.
			var again atomic.Int64
			post := func(id, topic string) bool {
				form := url.Values{"id": {id}, "topic": {topic}, "data": {topic}}
				for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
					resp, body, err := p.do(t.Context(), "POST", p.hub, form, nil)
					if err == nil && resp.StatusCode == http.StatusOK {
						if body != id {
							t.Errorf("%s was published as %s", id, body)
						}
						return true
					}
					if err == nil && resp.StatusCode < 500 {
						t.Errorf("%s: %s: %s", id, resp.Status, body)
						return false
					}
					again.Add(1)
				}
				t.Errorf("%s: no answer for a minute", id)
				return false
			}
			type job struct{ id, topic string }
			jobs := make(chan job)
			var wg sync.WaitGroup
			for range p.publishers {
				wg.Go(func() {
					for j := range jobs {
						if !post(j.id, j.topic) {
							return
						}
					}
				})
			}
			killAt := events/4 + random.IntN(events/2)
			began := time.Now()
			for n := range events {
				j := job{fmt.Sprint("e", n), topics[random.IntN(len(topics))]}
				published[j.id] = true
				if n == killAt {
					victim, work := busiest(t, p.pids())
					t.Logf("processor time of the processes before one is killed, s: %.2f", work)
					if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
				select {
				case jobs <- j:
				case <-time.After(2 * time.Minute):
					t.Fatal("nobody publishes any more")
				}
			}
			close(jobs)
			wg.Wait()
			took := time.Since(began)
			for _, topic := range topics {
				published["end-"+topic] = post("end-"+topic, topic)
			}

			var order map[string][]string // of the first subscriber
			cuts := 0
			for i, sub := range subs {
				got := make(map[string][]string)
				seen := make(map[string]bool)
				for ends := 0; ends < len(topics); {
					e := sub.next()
					if seen[e.ID] {
						t.Errorf("subscriber %d got %s twice", i, e.ID)
					}
					if !published[e.ID] {
						t.Errorf("subscriber %d got %+v, which nobody has published", i, e)
					}
					seen[e.ID] = true
					got[e.Data] = append(got[e.Data], e.ID)
					if strings.HasPrefix(e.ID, "end-") {
						ends++
					}
				}
				if len(seen) != len(published) {
					t.Errorf("subscriber %d got %d events, expected %d", i, len(seen), len(published))
				}
				cuts += len(sub.lost)
				if order == nil {
					order = got
				}
				for _, topic := range topics {
					if !slices.Equal(got[topic], order[topic]) {
						t.Errorf("subscriber %d has topic %s in another order than the first", i, topic)
					}
				}
			}
			if cuts == 0 && name == "spawn-fcgi" {
				t.Error("the process that was killed had no subscriber")
			}
			t.Logf("%d events in %v, %d of %d streams cut, %d posts had no answer and were sent again", events, took.Round(time.Millisecond), cuts, len(subs), again.Load())
		})
	}
}
