// Package probe answers the requests by which tandem doctor measures the way to an
// endpoint. It stands on the endpoint's own URL, so that they take the very way
// that sessions take.
//
//	p := probe.New()
//	handler = p.Around(handler, true)
//
// A request with the header Tandem-Probe, "stream; step=40" say, is the probe's; every
// other one is the endpoint's. No app runs, nothing is stored on disk, and what a
// probe costs is bounded: [MaxAtOnce], [MaxResponse], [MaxBody], [MaxTime]. Pages of
// a browser are refused, their own origin's too.
//
// An answer is lines of JSON, each with the time at which it was written: how long
// it was on the way, and what came with what, the doctor sees from outside.
package probe

import (
	"context"
	"crypto/rand"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"tandem/internal/gateway"
	"tandem/internal/problem"
)

// What probes may cost a process. The limits hold for all its endpoints together.
const (
	MaxAtOnce   = 32               // requests
	MaxResponse = 512 << 10        // bytes of one answer
	MaxBody     = 8 << 20          // bytes that are read of one request
	MaxTime     = 10 * time.Second // of one request, but where it is to be silent:
	MaxQuiet    = 5 * time.Minute
)

// Header is the request's header that names the test and its parameters; in an answer
// it names the test that answers, or is "off".
const Header = "Tandem-Probe"

// Handler answers probes. It is safe for concurrent use.
type Handler struct {
	process string // tells this process from others that answer for the same URL
	slots   chan struct{}
	visits  visits

	stop chan struct{}
	once sync.Once
}

// New makes a Handler.
func New() *Handler {
	return &Handler{
		process: rand.Text()[:16],
		slots:   make(chan struct{}, MaxAtOnce),
		stop:    make(chan struct{}),
	}
}

// Close ends the probes that run, and refuses others.
func (h *Handler) Close() { h.once.Do(func() { close(h.stop) }) }

// Around answers the requests to next that are probes; with a refusal, unless on: an
// app must never take a probe for a session.
func (h *Handler) Around(next http.Handler, on bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(Header) == "" || r.Header.Get("Tandem-Session") != "" {
			next.ServeHTTP(w, r)
			return
		}
		defer unread(w, r)()
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			problem.Write(w, http.StatusForbidden, "Probes are for tandem doctor, not for pages.")
			return
		}
		if !on {
			w.Header().Set(Header, "off")
			problem.Write(w, http.StatusForbidden, "Probes are switched off in this endpoint's configuration (probe = false).")
			return
		}
		h.serve(w, r)
	})
}

// A test answers one request.
type test struct {
	method string
	limits map[string]int // its parameters, whole numbers, and how large each may be
	words  []string       // its parameters that are words
	run    func(*Handler, *exchange)
}

var tests = map[string]test{
	"echo":   {http.MethodGet, nil, nil, (*Handler).echo},
	"stream": {http.MethodGet, map[string]int{"writes": 14, "step": 1000, "plain": 1, "quiet": ms(MaxQuiet)}, nil, (*Handler).stream},
	"body":   {http.MethodPost, map[string]int{"pause": 5000, "every": 60000, "hold": ms(MaxQuiet), "report": 1}, nil, (*Handler).body},
	"gone":   {http.MethodGet, map[string]int{"quiet": 5000}, []string{"id"}, (*Handler).gone},
	"seen":   {http.MethodGet, map[string]int{"wait": ms(MaxTime)}, []string{"id"}, (*Handler).seen},
}

func ms(d time.Duration) int { return int(d / time.Millisecond) }

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	name, params, err := mime.ParseMediaType(r.Header.Get(Header))
	t, ok := tests[name]
	if err != nil || !ok {
		problem.Write(w, http.StatusBadRequest, "Expected the header Tandem-Probe to name a test: echo, stream, body, gone or seen.")
		return
	}
	if r.Method != t.method {
		w.Header().Set("Allow", t.method)
		problem.Write(w, http.StatusMethodNotAllowed, "Expected "+t.method+" for the probe "+name+".")
		return
	}
	x := &exchange{w: w, r: r, rc: http.NewResponseController(w), start: time.Now(), numbers: make(map[string]int), words: make(map[string]string)}
	if err := x.take(t, params); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "5")
		problem.Write(w, http.StatusServiceUnavailable, fmt.Sprintf("%d probes run already. Try again soon.", MaxAtOnce))
		return
	}
	longest := MaxTime
	if x.numbers["quiet"]+x.numbers["hold"] > 0 {
		longest += MaxQuiet
	}
	ctx, cancel := context.WithTimeout(r.Context(), longest)
	defer cancel()
	x.ctx = ctx
	x.rc.SetReadDeadline(time.Time{}) // an http.Server's ReadTimeout is not meant for this
	x.rc.SetWriteDeadline(x.start.Add(longest))
	header := w.Header()
	header.Set(Header, name)
	for key, value := range streamed {
		header.Set(key, value)
	}
	if x.numbers["plain"] == 1 {
		header.Del("X-Accel-Buffering")
	}
	t.run(h, x)
}

// streamed is the header of an answer: that of a session's response, so that hops
// treat it alike.
var streamed = map[string]string{
	"Content-Type":           "application/x-ndjson",
	"Cache-Control":          "no-store, no-transform",
	"X-Accel-Buffering":      "no",
	"X-Content-Type-Options": "nosniff",
	"Incremental":            "?1",
}

// take reads the request's parameters.
func (x *exchange) take(t test, params map[string]string) error {
	for key, value := range params {
		limit, number := t.limits[key]
		n, err := strconv.Atoi(value)
		switch {
		case number && err == nil && n >= 0 && n <= limit:
			x.numbers[key] = n
		case number:
			return fmt.Errorf("expected %s to be a whole number from 0 to %d, got %.40q", key, limit, value)
		case len(t.words) > 0 && key == t.words[0] && wellFormed(value):
			x.words[key] = value
		default:
			return fmt.Errorf("got the parameter %.40q of value %.40q, which this test does not take", key, value)
		}
	}
	for _, key := range t.words {
		if x.words[key] == "" {
			return fmt.Errorf("expected the parameter %s", key)
		}
	}
	return nil
}

// wellFormed tells whether s can be the random name of a visit.
func wellFormed(s string) bool {
	return len(s) >= 22 && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// unread has an answer not wait for a request's body that nobody reads to its end
// (docs/servers.md traps 8 and 16). What it returns is to be called at the end.
func unread(w http.ResponseWriter, r *http.Request) (written func()) {
	if r.ContentLength == 0 {
		return func() {}
	}
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	if r.ProtoMajor == 1 && gateway.Of(r).Interface == gateway.HTTP {
		w.Header().Set("Connection", "close")
	}
	return func() {
		rc.Flush()
		rc.SetReadDeadline(time.Unix(1, 0))
	}
}
