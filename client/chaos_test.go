package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// chaos stands between the client and the server, and does to requests what
// networks and proxies do: some it delays, delivers twice, delivers after their
// sender has given up, answers and has the answer lost, or cuts in the middle of
// either direction.
type chaos struct {
	inner http.Handler
	ctx   context.Context // of what goes on behind the client's back
	wg    sync.WaitGroup

	mu       sync.Mutex
	rng      *rand.Rand
	faults   int // so many are left
	openings int // of them, for requests that open a session
	counts   map[string]int
}

// What is done to a request.
const (
	pass = iota
	delay
	double
	late     // delivered when its sender has gone
	unheard  // its answer is lost
	cutInput // its body is
	cutOutput
	kinds
)

var faultNames = [kinds]string{"pass", "delay", "double", "late", "unheard", "cut input", "cut output"}

// pick chooses a fault and a number for it.
func (c *chaos) pick(r *http.Request) (kind, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	opens := r.Header.Get("Tandem-Session") == ""
	if c.faults <= 0 || opens && c.openings <= 0 || c.rng.IntN(2) > 0 {
		return pass, 0
	}
	kind = 1 + c.rng.IntN(kinds-1)
	streamed := r.ContentLength < 0 || r.ContentLength > 1<<19
	if streamed && (kind == double || kind == late || kind == unheard) {
		kind = cutOutput // nobody can do that to a body that is still being sent
	}
	if r.Method == http.MethodGet && kind == cutInput {
		kind = cutOutput
	}
	if kind != pass {
		c.faults--
		if opens {
			c.openings--
		}
	}
	c.counts[faultNames[kind]]++
	return kind, c.rng.IntN(1 << (2 + c.rng.IntN(12)))
}

func (c *chaos) pause(n int) {
	select {
	case <-time.After(time.Duration(n%20) * time.Millisecond):
	case <-c.ctx.Done():
	}
}

func (c *chaos) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, n := c.pick(r)
	switch kind {
	case delay:
		c.pause(n)
	case double, late, unheard:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			abort(w)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if kind == unheard {
			// What streams would never end, so it is lost after a while.
			ctx, cancel := context.WithTimeout(r.Context(), time.Duration(n%20)*time.Millisecond)
			defer cancel()
			c.inner.ServeHTTP(&nowhereWriter{header: make(http.Header)}, r.WithContext(ctx))
			abort(w)
		}
		copied := r.Clone(c.ctx)
		copied.Body = io.NopCloser(bytes.NewReader(body))
		c.wg.Go(func() {
			c.pause(n)
			c.inner.ServeHTTP(&nowhereWriter{header: make(http.Header)}, copied)
		})
		if kind == late {
			abort(w)
		}
		c.pause(n / 20)
	case cutInput:
		body := &cutBody{ReadCloser: r.Body, left: n}
		r.Body, w = body, &cutWriter{ResponseWriter: w, left: 1 << 40, body: body}
	case cutOutput:
		w = &cutWriter{ResponseWriter: w, left: n}
	}
	c.inner.ServeHTTP(w, r)
	if cut, ok := w.(*cutWriter); ok && (cut.left < 0 || cut.body != nil && cut.body.cut.Load()) {
		abort(cut.ResponseWriter)
	}
}

// abort cuts the connection. net/http would read a body that is still being sent first.
func abort(w http.ResponseWriter) {
	http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	panic(http.ErrAbortHandler)
}

// nowhereWriter is the response of a request whose sender is not there any more.
type nowhereWriter struct{ header http.Header }

func (w *nowhereWriter) Header() http.Header         { return w.header }
func (w *nowhereWriter) WriteHeader(int)             {}
func (w *nowhereWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhereWriter) Flush()                      {}

type cutBody struct {
	io.ReadCloser
	left int
	cut  atomic.Bool
}

func (b *cutBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), max(b.left, 1))])
	if b.left -= n; b.left < 0 {
		b.cut.Store(true)
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

type cutWriter struct {
	http.ResponseWriter
	left int
	body *cutBody // cut with it
}

// Unwrap is for http.ResponseController.
func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *cutWriter) FlushError() error {
	if w.body != nil && w.body.cut.Load() {
		return io.ErrClosedPipe
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *cutWriter) WriteHeader(status int) {
	if w.body == nil || !w.body.cut.Load() {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if w.left < 0 || w.body != nil && w.body.cut.Load() {
		return 0, io.ErrClosedPipe
	}
	n := min(len(p), w.left)
	if w.left -= len(p); w.left < 0 {
		w.ResponseWriter.Write(p[:n])
		http.NewResponseController(w.ResponseWriter).Flush()
		return n, io.ErrClosedPipe
	}
	return w.ResponseWriter.Write(p)
}

// A chaosCase is one session under chaos, made from a seed.
type chaosCase struct {
	seed     uint64
	rng      *rand.Rand
	way      way
	http2    bool
	codec    string
	messages int
	lastCut  bool                             // everything is cut when the last message has come
	trace    func(format string, args ...any) // nil: none
}

func newChaosCase(seed uint64) *chaosCase {
	c := &chaosCase{seed: seed, rng: rand.New(rand.NewPCG(seed, 1))}
	ways := []way{{Single, 1 << 40}, {Single, -1}, {Pulse, -1}, {Split, 0}, {Split, 1 << 40}, {Poll, 0}, {}}
	c.way = ways[c.rng.IntN(len(ways))]
	c.http2 = c.rng.IntN(4) == 0
	c.codec = []string{"binary", "json"}[c.rng.IntN(2)]
	c.messages = 1 + c.rng.IntN(60)
	c.lastCut = c.rng.IntN(3) == 0
	return c
}

func (c *chaosCase) String() string {
	return fmt.Sprintf("seed %d: %s %s, http2=%v, %s, %d messages, last cut %v", c.seed, c.way.Transport, c.way.body(), c.http2, c.codec, c.messages, c.lastCut)
}

func (c *chaosCase) text(from string, i int) string {
	return fmt.Sprintf("%s %d %s", from, i, strings.Repeat("x", []int{0, 100, 3000, 20_000}[(i+int(c.seed))%7%4]))
}

// run runs the case, and returns what went wrong.
func (c *chaosCase) run(ctx context.Context, counts func(map[string]int)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var started atomic.Int32
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		started.Add(1)
		sent := make(chan error, 1)
		go func() {
			sent <- count(c.messages, func(i int) error { return s.Send(ctx, frame.Text(c.text("app", i))) })
		}()
		for i := 0; ; i++ {
			m, err := s.Receive(ctx)
			if err == io.EOF && i == c.messages {
				break
			}
			if want := c.text("client", i); err != nil || string(m.Data) != want {
				return frame.Errorf(4999, "the app expected %.20q, got %.20q, %v", want, m.Data, err)
			}
		}
		if err := <-sent; err != nil {
			return err
		}
		return frame.Errorf(frame.CodeProgramExited, "exit status 3")
	})
	log := slog.New(slog.DiscardHandler)
	h := session.NewHandler(app, &session.Options{Grace: 30 * time.Second, Log: log})
	behind, stop := context.WithCancel(ctx)
	ch := &chaos{inner: h, ctx: behind, rng: rand.New(rand.NewPCG(c.seed, 2)), counts: make(map[string]int)}
	srv := httptest.NewUnstartedServer(ch)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	o := &Options{Proxy: noProxy, Codec: c.codec, Memory: &processMemory{}, OpenTimeout: 5 * time.Second}
	if c.http2 {
		srv.EnableHTTP2 = true
		srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		srv.StartTLS()
		o.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		srv.Start()
	}
	defer func() {
		stop()
		ch.wg.Wait()
		if e := h.Shutdown(ctx); e != nil && err == nil {
			err = fmt.Errorf("sessions stay: %w", e)
		}
		srv.Close()
		if n := started.Load(); n != 1 && err == nil {
			err = fmt.Errorf("the app was started %d times", n)
		}
		counts(ch.counts)
	}()
	budget := func(openings int) {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		ch.faults, ch.openings = c.rng.IntN(12), openings
	}
	if c.trace != nil {
		o.Trace = func(sent bool, f *frame.Frame) {
			c.trace("sent=%v %v seq %d received %d code %d", sent, f.Type, f.Seq, f.Received, f.Code)
		}
		o.Notify = func(e Event) { c.trace("%+v", e) }
	}
	switch {
	case c.way.Transport == "":
	case c.way.Declared == 0 && c.rng.IntN(2) == 0:
		o.Transport = c.way.Transport
		budget(openTries - 1)
	default: // as if it had worked before
		o.Memory.Remember(srv.URL, Known{Transport: c.way.Transport, Declared: c.way.Declared, Until: time.Now().Add(time.Hour)})
	}
	conn, err := Dial(ctx, srv.URL, o)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.CloseNow()
	budget(0)
	sent := make(chan error, 1)
	go func() {
		err := count(c.messages, func(i int) error { return conn.Send(ctx, frame.Text(c.text("client", i))) })
		if err == nil {
			err = conn.CloseSend()
		}
		sent <- err
	}()
	for i := range c.messages {
		m, err := conn.Receive(ctx)
		if want := c.text("app", i); err != nil || string(m.Data) != want {
			return fmt.Errorf("the client expected %.20q, got %.20q, %v", want, m.Data, err)
		}
	}
	if c.lastCut {
		srv.CloseClientConnections()
	}
	m, err := conn.Receive(ctx)
	if over, ok := err.(*frame.CloseError); !ok || over.Code != frame.CodeProgramExited || over.Reason != "exit status 3" {
		return fmt.Errorf("expected the exit status, got %.20q, %v", m.Data, err)
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// chaosMost is how long a case may take: less than the heartbeats by which both ends
// would find out about a loss that they had not noticed.
const chaosMost = 14 * time.Second

// TestChaos: in sessions on every transport, of which requests are delayed, doubled,
// lost or cut at random, each message arrives once and in order both ways, and so do the last
// one and the exit status; and the app is started once. CASES=n runs so many, SEED=n
// one.
func TestChaos(t *testing.T) {
	cases, first := 40, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("CASES")); err == nil {
		cases = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		cases, first = 1, n
	}
	var mu sync.Mutex
	total := make(map[string]int)
	ways := make(map[string]int)
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for seed := range seeds {
				c := newChaosCase(seed)
				start := time.Now()
				if os.Getenv("SEED") != "" {
					c.trace = func(format string, args ...any) { t.Logf("%v "+format, append([]any{time.Since(start)}, args...)...) }
				}
				err := c.run(t.Context(), func(counts map[string]int) {
					mu.Lock()
					defer mu.Unlock()
					for kind, n := range counts {
						total[kind] += n
					}
					ways[c.way.Transport+" "+c.way.body()]++
				})
				if took := time.Since(start); err == nil && took > chaosMost {
					err = errors.New("it took too long: something waited for a heartbeat")
				}
				if err != nil {
					t.Errorf("%v: after %v: %v", c, time.Since(start), err)
				}
			}
		})
	}
	for i := range cases {
		seeds <- first + uint64(i)
	}
	close(seeds)
	wg.Wait()
	t.Logf("%d sessions %v, faults %v", cases, ways, total)
}
