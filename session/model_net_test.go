package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// network is what lies between the model's client and the server: connections in
// memory, on which a good deal goes wrong until it has had its fill.
type network struct {
	t      *testing.T
	ctx    context.Context // of the whole case
	accept chan net.Conn
	good   *http.Transport
	strays sync.WaitGroup // requests whose client has given them up

	mu     sync.Mutex
	faults int // still to come
}

// Accept, Close and Addr make it the server's listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (n *network) Close() error   { return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "model", Net: "unix"} }

func newNetwork(ctx context.Context, t *testing.T, faults int) *network {
	n := &network{t: t, ctx: ctx, accept: make(chan net.Conn), faults: faults}
	n.good = n.transport(nil)
	return n
}

// transport makes one whose connections are wrapped in wrap.
func (n *network) transport(wrap func(net.Conn) net.Conn) *http.Transport {
	return &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case n.accept <- theirs:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if wrap != nil {
			return wrap(ours), nil
		}
		return ours, nil
	}}
}

// query is a request that may be sent more than once. write, if not nil, makes a body
// that stays open.
type query struct {
	method string
	header http.Header
	body   []byte
	write  func(io.Writer)
}

func (q *query) over(ctx context.Context, via *http.Transport) (*http.Response, error) {
	var body io.Reader
	switch {
	case q.write != nil:
		r, w := io.Pipe()
		go func() { q.write(w); w.Close() }()
		body = r
	case q.method != http.MethodGet:
		body = bytes.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, "http://127.0.0.1/", body)
	if err != nil {
		panic(err)
	}
	req.Header = q.header.Clone()
	return via.RoundTrip(req)
}

var errGivenUp = errors.New("no answer came")

// do sends q and returns its answer, or an error where the network has kept one of
// them back. patience is how long it may have the client wait.
func (n *network) do(ctx context.Context, rng *rand.Rand, patience time.Duration, q *query) (*http.Response, error) {
	n.mu.Lock()
	fault := 0
	if n.faults > 0 && rng.IntN(4) > 0 {
		n.faults--
		fault = 1 + rng.IntN(6)
	}
	n.mu.Unlock()
	if q.write != nil && fault >= 1 && fault <= 3 {
		fault = 4
	}
	later := time.Duration(rng.IntN(20_000)) * time.Millisecond
	if rng.IntN(2) == 0 {
		later = time.Duration(rng.IntN(50)) * time.Millisecond
	}
	switch fault {
	case 1: // it never arrives
		time.Sleep(min(later, patience))
		return nil, errGivenUp
	case 2: // it arrives when nobody waits for it any more
		n.stray(rng, later, q)
		time.Sleep(min(later, patience))
		return nil, errGivenUp
	case 3: // it arrives twice
		n.stray(rng, later, q)
	case 4: // it is cut, or what goes to the server stalls
		return n.cut(ctx, q, rng.IntN(len(q.body)+400), 1<<40, rng.IntN(3) == 0, min(later, patience))
	case 5, 6: // the answer is, or it stalls
		return n.cut(ctx, q, 1<<40, rng.IntN(1<<(4+rng.IntN(14))), rng.IntN(3) == 0, min(later, patience))
	}
	begun := time.Now()
	resp, err := q.over(ctx, n.good)
	most := time.Second
	if q.header.Get("Tandem-Transport") == "poll" && q.method == http.MethodGet {
		most += 20 * time.Second
	}
	if d := time.Since(begun); q.write == nil && d > most && n.ctx.Err() == nil {
		n.t.Errorf("%s %v: the answer began after %v, %v", q.method, q.header, d, err)
	}
	return resp, err
}

// cut sends q over a connection that passes out and in bytes.
func (n *network) cut(ctx context.Context, q *query, out, in int, stalls bool, stall time.Duration) (*http.Response, error) {
	return q.over(ctx, n.transport(func(c net.Conn) net.Conn { return newWire(n.ctx, c, out, in, stalls, stall) }))
}

// stray sends q later, and reads some of the answer.
func (n *network) stray(rng *rand.Rand, later time.Duration, q *query) {
	attention := time.Duration(rng.IntN(5000)) * time.Millisecond
	n.strays.Go(func() {
		select {
		case <-time.After(later):
		case <-n.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(n.ctx, attention)
		defer cancel()
		via := n.transport(nil)
		defer via.CloseIdleConnections()
		if resp, err := q.over(ctx, via); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// wire is a connection that passes so many bytes out and in, and then is cut, or
// stalls for a while before.
type wire struct {
	net.Conn
	ctx   context.Context
	stall time.Duration
	once  sync.Once
	cut   chan struct{}

	mu      sync.Mutex
	out, in int
	last    bool // the next Read fails; the reader's alone
}

func newWire(ctx context.Context, c net.Conn, out, in int, stalls bool, stall time.Duration) *wire {
	w := &wire{Conn: c, ctx: ctx, out: out, in: in, cut: make(chan struct{})}
	if stalls {
		w.stall = stall
	}
	return w
}

// spend takes of what *left allows.
func (w *wire) spend(left *int, n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(n, *left)
	*left -= n
	return n
}

func (w *wire) Write(p []byte) (int, error) {
	n := w.spend(&w.out, len(p))
	sent, err := w.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		err = w.end()
	}
	return sent, err
}

func (w *wire) Read(p []byte) (int, error) {
	if w.last {
		return 0, w.end()
	}
	n, err := w.Conn.Read(p)
	if passed := w.spend(&w.in, n); err == nil && passed < n {
		if w.last = true; passed == 0 {
			return 0, w.end()
		}
		return passed, nil
	}
	return n, err
}

func (w *wire) end() error {
	if w.stall > 0 {
		select {
		case <-time.After(w.stall):
		case <-w.cut:
		case <-w.ctx.Done():
		}
	}
	w.Close()
	return errors.New("cut")
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.cut) })
	return w.Conn.Close()
}
