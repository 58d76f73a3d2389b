// Package doctor finds out what the way to an endpoint lets through, hop by hop, and
// which directive of which web server to change where it doesn't.
//
//	report, err := doctor.Run(ctx, "https://www.example.org/tandem", nil)
//	report.Print(os.Stdout, true)
//
// It asks the endpoint's probe (tandem/internal/probe), which answers on the
// endpoint's own URL: no app is started. What the server can't do whatever its
// configuration is no fault. A fault that could be a machine's bad moment is looked
// for again, more slowly, before it is reported.
//
// What to change is data: [catalogue] for ways that hold something back, [answers] for
// answers that come from something else than Tandem.
package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Options are how to reach the endpoint. The zero value works.
type Options struct {
	// Header is added to each request.
	Header http.Header
	// TLS is for https. Nil: the system's roots.
	TLS *tls.Config
	// Proxy and DialContext are as in http.Transport. Nil: the environment's proxy,
	// and TCP.
	Proxy       func(*http.Request) (*url.URL, error)
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// HTTP1 leaves HTTP/2 untested.
	HTTP1 bool
	// Slow also looks for time-outs on silence up to this long, at most 4 minutes. 0: it
	// doesn't.
	Slow time.Duration
	// Each, if not nil, is called with each check once its result is known, in the
	// order of the report.
	Each func(Check)
}

// longestSlow is what the probe allows, and time for its answer.
const longestSlow = 4 * time.Minute

// UsageError is a URL or an option that can't be used.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return "doctor: " + e.text }

// Run examines the way to the endpoint rawURL; o may be nil. An error is a
// *UsageError, or ctx's end; whatever is wrong out there is in the report.
func Run(ctx context.Context, rawURL string, o *Options) (*Report, error) {
	d := &examination{report: &Report{}, held: make(map[string]holding)}
	if o != nil {
		d.options = *o
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, &UsageError{err.Error()}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, &UsageError{fmt.Sprintf("expected an address such as https://www.example.org/tandem, got %q", u.Redacted())}
	}
	if d.options.Slow < 0 || d.options.Slow > longestSlow {
		return nil, &UsageError{fmt.Sprintf("expected at most %v to look for time-outs, got %v", longestSlow, d.options.Slow)}
	}
	u.Fragment, u.RawFragment = "", ""
	d.url = u
	if d.options.Proxy == nil {
		d.options.Proxy = http.ProxyFromEnvironment
	}
	if d.options.DialContext == nil {
		d.options.DialContext = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	d.report.URL, d.report.host = u.Redacted(), u.Hostname()
	d.examine(ctx)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	d.report.conclude()
	return d.report, nil
}

// examination is one Run.
type examination struct {
	options Options
	url     *url.URL
	report  *Report

	description *description
	path        Path
	roundTrip   time.Duration // of one request on a new connection, without connecting

	mu    sync.Mutex
	facts facts
	held  map[string]holding // by test, the last time
}

// facts are what the choice of a transport and later checks need to know.
type facts struct {
	getStreams    bool
	single, pulse map[string]bool // by form: answers come while the body is open; only as more is sent
	streams       map[string]bool // by form: the body reaches the app while it is open
	refused       bool            // a large body is refused
	meet          bool            // requests of one session find each other
}

// A check tests one thing. patience multiplies its waiting times: 1, and more where a
// fault is looked for again.
type check struct {
	name string
	run  func(ctx context.Context, patience int) Check
}

func (d *examination) examine(ctx context.Context) {
	if !d.reach(ctx) || !d.meet(ctx) {
		return
	}
	quick := []check{
		{"response streams", d.response},
		{"buffering header", d.accel},
		{"compression", d.compression},
		{"chunked body", d.chunkedBody},
		{"declared length", d.declaredBody},
	}
	if d.url.Scheme == "https" && !d.options.HTTP1 {
		quick = append(quick, check{"HTTP/2", d.http2Body})
	}
	quick = append(quick,
		check{"length limit", d.lengthLimit},
		check{"upload", d.upload},
		check{"client gone", d.gone},
	)
	d.addAll(explained(d.all(ctx, quick)))
	d.addAll(d.all(ctx, []check{{"requests meet", d.requestsMeet}}))
	if d.options.Slow > 0 {
		d.addAll(attribute(d.all(ctx, []check{
			{"quiet body", d.quietBody},
			{"quiet response", d.quietResponse},
			{"quiet GET", d.quietGET},
		})))
	}
	d.choose()
}

// atOnce is how many checks run at a time: fewer than any web server's workers.
const atOnce = 4

// all runs checks side by side, then those that found a fault once more.
func (d *examination) all(ctx context.Context, checks []check) []Check {
	results := make([]Check, len(checks))
	for _, patience := range []int{1, 3} {
		slots := make(chan struct{}, atOnce)
		var wg sync.WaitGroup
		for i, c := range checks {
			if patience > 1 && (!results[i].again || ctx.Err() != nil) {
				continue
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				start := time.Now()
				results[i] = c.run(ctx, patience)
				results[i].Name, results[i].Took = c.name, time.Since(start)
				if patience == 1 && results[i].Verdict == Fault && !results[i].certain {
					results[i].again = true
				}
			})
		}
		wg.Wait()
	}
	return results
}

// again has a result looked at once more, that is no fault.
func again(c Check, patience int) Check {
	c.again = c.Verdict != OK && patience == 1
	return c
}

func (d *examination) addAll(results []Check) {
	for _, c := range results {
		d.add(c)
	}
}

// add puts a result into the report.
func (d *examination) add(c Check) {
	d.report.Checks = append(d.report.Checks, c)
	for _, s := range c.symptoms {
		d.report.find(d.path, s, c.Verdict)
	}
	if d.options.Each != nil {
		d.options.Each(c)
	}
}

// explained takes back what another result explains: where a response is held back in
// any case, there is nothing to say about the header that should prevent it.
func explained(results []Check) []Check {
	if results[0].Verdict == Fault && results[1].Verdict == Note {
		results[1] = Check{Name: results[1].Name, Took: results[1].Took, Verdict: Unknown, Text: "makes no difference: the response is held back in any case"}
	}
	return results
}

// heldBack tells whether a GET's response was seen to be held back.
func (d *examination) heldBack() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.facts.getStreams
}

// know changes the facts.
func (d *examination) know(f func(*facts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.facts)
}

// patient is how long to wait for what should come within a round trip.
func (d *examination) patient(patience int) time.Duration {
	wait := min(max(20*d.roundTrip, 400*time.Millisecond), 4*time.Second)
	return min(time.Duration(patience)*wait, 5*time.Second)
}
