package hube2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// TestFromProcessToProcess: nothing is resident, each subscriber and each POST is a CGI process of its own. How long an
// event takes from the start of curl to the subscriber is shown with -v.
func TestFromProcessToProcess(t *testing.T) {
	const events = 50
	s := newSite(t, anyone)
	srv := s.start(t, servertest.Apache, servertest.ByCGI, 0)
	r := newRoute(t, s, "apache-cgi", srv.URL, srv.CGI(), nil)
	sub := r.listen(t, nil, "news")
	var took, answered []time.Duration
	for n := range events {
		id := fmt.Sprint("e", n)
		began := time.Now()
		out, err := exec.CommandContext(t.Context(), "curl", "-sS", "-m", "20", "-d", "topic=news", "-d", "data=It works", "-d", "id="+id, r.hub).CombinedOutput()
		answer := time.Since(began)
		if err != nil || string(out) != id {
			t.Fatalf("curl: %v: %s", err, out)
		}
		e := sub.next()
		if e.ID != id || e.Data != "It works" {
			t.Fatalf("got %+v, expected %s", e, id)
		}
		took, answered = append(took, e.At.Sub(began)), append(answered, answer)
	}
	t.Logf("%d events, from curl's start to the subscriber: %s; to curl's end: %s", events, spread(took), spread(answered))
}

func spread(d []time.Duration) string {
	slices.Sort(d)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("median %.1f ms, most %.1f ms", ms(d[len(d)/2]), ms(d[len(d)-1]))
}

// TestKillOfEverything kills the web server and all its CGI processes while programs publish. Afterwards Last-Event-ID
// brings all that was acknowledged.
func TestKillOfEverything(t *testing.T) {
	const publishers, before, seen = 4, 100, 20
	s := newSite(t, anyone)
	srv := s.start(t, servertest.Apache, servertest.ByCGI, 0)
	r := newRoute(t, s, "apache-cgi", srv.URL, srv.CGI(), nil)
	sub := r.listen(t, nil, "news")

	var last string
	got := make(map[string]bool)
	answers := make(chan string, 10_000)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("p%d-%d", p, n)
				resp, body, err := r.do(t.Context(), "POST", r.hub, url.Values{"topic": {"news"}, "data": {"x"}, "id": {id}}, nil)
				if err != nil || resp.StatusCode != http.StatusOK || body != id {
					return // no answer, so nobody was told that it is stored
				}
				answers <- id
			}
		})
	}
	for len(got) < seen {
		last = sub.next().ID
		got[last] = true
	}
	sub.close()
	acknowledged := make(map[string]bool)
	for len(acknowledged) < before {
		select {
		case id := <-answers:
			acknowledged[id] = true
		case <-time.After(2 * patience):
			t.Fatalf("%d events were published, expected %d", len(acknowledged), before)
		}
	}
	port := portOf(t, srv.URL)
	srv.Kill()
	killAll(filepath.Join(srv.CGIDir, "tandem"))
	wg.Wait()
	close(answers)
	for id := range answers {
		acknowledged[id] = true
	}

	s.start(t, servertest.Apache, servertest.ByCGI, port)
	back := r.start(t, http.Header{"Last-Event-ID": {last}}, "news")
	if header := back.wait().Get("Last-Event-ID"); header != last {
		t.Errorf("resumed behind %q, expected %q: a gap", header, last)
	}
	r.ask(t, "POST", r.hub, url.Values{"topic": {"news"}, "id": {"end"}}, nil)
	for e := back.next(); e.ID != "end"; e = back.next() {
		if got[e.ID] {
			t.Errorf("%s came twice", e.ID)
		}
		got[e.ID] = true
	}
	for id := range acknowledged {
		if !got[id] {
			t.Errorf("%s was acknowledged, and is lost", id)
		}
	}
	t.Logf("%d acknowledged; %d came to a subscriber before it left, %d more by Last-Event-ID after the kill", len(acknowledged), seen, len(got)-seen)
}
