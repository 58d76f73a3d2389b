package hube2e_test

import (
	"fmt"
	"os/exec"
	"slices"
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
