package session_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// model is a client that knows of the protocol what docs/protocol.md says, and an app
// that talks with it.
type model struct {
	t    *testing.T
	ctx  context.Context
	seed uint64
	net  *network
	plan plan
	key  string

	starts atomic.Int32

	mu       sync.Mutex
	id       string
	attempt  uint64
	received uint64 // of the app's fragments
	told     uint64 // of these, what the server knows
	partial  []byte
	got      []string

	out       []frame.Frame // the client's messages
	ready     int           // how many of them its program has made
	acked     uint64
	confirmed uint64 // a send half was answered that had all up to here
	window    cost
	endKnown  bool         // the answer to end has come
	closed    *frame.Frame // the server's
	gone      bool         // 410
}

type cost struct{ bytes, frags uint64 }

// dice for one goroutine or request of a case.
func (c *model) dice(n uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, n)) }

// patience is how long the network may have a client wait: it has 30 s to have the app
// start.
func (c *model) patience() time.Duration {
	if c.starts.Load() == 0 {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

func (c *model) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed != nil || c.gone || c.ctx.Err() != nil
}

// query makes the session's next request.
func (c *model) query(method, transport string) *query {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := http.Header{"Tandem-Transport": {transport}, "Accept": {c.plan.codec.MediaType()}}
	if method != http.MethodGet {
		h.Set("Content-Type", c.plan.codec.MediaType())
	} else {
		h.Set("Tandem-After", fmt.Sprint(c.received))
	}
	if c.id == "" {
		h.Set("Tandem-Open", c.key)
		if c.attempt > 0 {
			h.Set("Tandem-Attempt", fmt.Sprint(c.attempt))
		}
		c.attempt++
		return &query{method: method, header: h}
	}
	c.attempt++
	h.Set("Tandem-Session", c.id)
	h.Set("Tandem-Attempt", fmt.Sprint(c.attempt))
	return &query{method: method, header: h}
}

func (c *model) append(p []byte, f frame.Frame) []byte {
	p, err := c.plan.codec.Append(p, &f)
	if err != nil {
		panic(err)
	}
	return p
}

func (c *model) openFrame(transport string, hold bool) frame.Frame {
	return frame.Frame{Type: frame.TypeOpen, Version: 1, Transport: transport, Heartbeat: c.plan.heartbeat,
		Window: c.plan.window.bytes, Messages: c.plan.window.frags, MaxMessage: 1 << 20, Hold: hold}
}

func (c *model) ackFrame() frame.Frame {
	return frame.Frame{Type: frame.TypeAck, Received: c.received, Window: c.plan.window.bytes, Messages: c.plan.window.frags}
}

// fragments gives those after a seq that the server has room for, up to some limit,
// and the seq of the last one. c.mu is held.
func (c *model) fragments(after uint64, limit int) (frames []frame.Frame, last uint64) {
	var held cost
	last = after
	for seq := c.acked + 1; seq <= uint64(c.ready) && limit > 0; seq++ {
		f := c.out[seq-1]
		held.bytes += uint64(frame.Cost(len(f.Data)))
		held.frags++
		if held.bytes > c.window.bytes || held.frags > c.window.frags {
			break
		}
		if seq > after {
			frames = append(frames, f)
			last = seq
			limit--
		}
	}
	return frames, last
}

// receiver carries the receive half, and opens the session, until it is over.
func (c *model) receiver() {
	for i := uint64(1000); !c.over(); i++ {
		rng := c.dice(i)
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		transport := c.plan.transports[rng.IntN(len(c.plan.transports))]
		ctx, leave := context.WithTimeout(c.ctx, time.Duration(100+rng.IntN(30_000))*time.Millisecond)
		if c.starts.Load() == 0 {
			leave()
			ctx, leave = context.WithTimeout(c.ctx, time.Second)
		} else if c.plan.quiet || rng.IntN(3) == 0 {
			leave()
			ctx, leave = context.WithTimeout(c.ctx, time.Hour)
		}
		c.receive(ctx, rng, transport)
		leave()
	}
}

func (c *model) receive(ctx context.Context, rng *rand.Rand, transport string) {
	c.mu.Lock()
	opening := c.id == ""
	c.mu.Unlock()
	method := http.MethodPost
	both := !apart[transport]
	if !opening && !both {
		method = http.MethodGet
	}
	q := c.query(method, transport)
	if transport == "poll" && rng.IntN(2) == 0 {
		q.header.Set("Prefer", fmt.Sprintf("wait=%d", rng.IntN(9)))
	}
	switch {
	case both:
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		seed := rng.Uint64()
		q.write = func(w io.Writer) { c.body(ctx, w, transport, seed, opening) }
	case opening:
		c.mu.Lock()
		q.body = c.append(nil, c.openFrame(transport, c.plan.hold))
		first, _ := c.fragments(0, rng.IntN(5))
		for _, f := range first {
			q.body = c.append(q.body, f)
		}
		c.mu.Unlock()
	}
	resp, err := c.net.do(ctx, rng, c.patience(), q)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		c.read(resp)
	case http.StatusConflict: // there was a later one: the next one will be
	case http.StatusGone:
		c.goneWith(q)
	case http.StatusServiceUnavailable:
		if !c.plan.stops {
			c.t.Errorf("%v: %s", q.header, resp.Status)
		}
		c.goneWith(q)
	default:
		b, _ := io.ReadAll(resp.Body)
		c.t.Errorf("%s %v: %s %s", q.method, q.header, resp.Status, b)
	}
}

// goneWith takes the server's word that the session is not there.
func (c *model) goneWith(q *query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil && !c.plan.quits && !c.plan.stops {
		c.t.Errorf("%s %v: the session is gone before its end was told", q.method, q.header)
	}
	c.gone = true
}

// body is what one request carries for both halves, until ctx is done. It has an ack
// often enough to be a pulse.
func (c *model) body(ctx context.Context, w io.Writer, transport string, seed uint64, opening bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	write := func(p []byte) bool {
		if len(p) == 0 {
			return true
		}
		_, err := w.Write(p)
		return err == nil
	}
	c.mu.Lock()
	p := c.append(nil, c.openFrame(transport, c.plan.hold && opening))
	if !opening {
		p = c.append(p, c.ackFrame())
	}
	c.mu.Unlock()
	next, ended := uint64(1), false
	for write(p) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(1+rng.IntN(100)) * time.Millisecond):
		}
		p = p[:0]
		c.mu.Lock()
		if c.id == "" {
			p = c.append(p, frame.Frame{}) // the server has not told what it has
			c.mu.Unlock()
			continue
		}
		if c.plan.hold {
			p = c.append(p, frame.Frame{Type: frame.TypeStart})
		}
		next = max(next, c.acked+1)
		frames, last := c.fragments(next-1, 1+rng.IntN(40))
		for _, f := range frames {
			p = c.append(p, f)
		}
		next = last + 1
		p = c.append(p, c.ackFrame())
		if next > uint64(len(c.out)) && !ended && !c.plan.quits {
			p, ended = c.append(p, frame.Frame{Type: frame.TypeEnd, Seq: uint64(len(c.out))}), true
		}
		if c.closed != nil && !c.plan.leaves && rng.IntN(2) == 0 {
			p = c.append(p, frame.Frame{Type: frame.TypeClose, Seq: next - 1, Code: c.closed.Code})
		}
		c.mu.Unlock()
	}
}

// read takes in a response that is a receive half.
func (c *model) read(resp *http.Response) {
	dec := c.plan.codec.NewDecoder()
	buf, have, n := make([]byte, 512<<10), 0, 0
	for {
		k, err := resp.Body.Read(buf[have:])
		have += k
		used := 0
		for {
			var f frame.Frame
			k, err := dec.Decode(buf[used:have], &f)
			if err != nil {
				c.t.Errorf("the response is malformed: %v", err)
				return
			}
			if k == 0 {
				break
			}
			used += k
			if f.Type == frame.TypeEmpty {
				continue
			}
			if n++; n == 1 && f.Type != frame.TypeOpen {
				c.t.Errorf("a response begins with %+v", f)
			}
			c.take(&f)
		}
		have = copy(buf, buf[used:have])
		if err != nil {
			return
		}
	}
}

// take takes in one frame.
func (c *model) take(f *frame.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.Type {
	case frame.TypeOpen:
		if c.id != "" && f.Session != c.id {
			c.t.Errorf("the session's id was %q and is %q", c.id, f.Session)
		}
		c.id = f.Session
		if c.window == (cost{}) {
			c.window = cost{f.Window, f.Messages}
		}
	case frame.TypeAck:
		c.ack(f)
	case frame.TypeMessage:
		switch {
		case c.closed != nil:
			c.t.Errorf("message %d after close", f.Seq)
		case f.Seq > c.received+1:
			c.t.Errorf("message %d came, %d were received", f.Seq, c.received)
		case f.Seq == c.received+1:
			c.received++
			c.partial = append(c.partial, f.Data...)
			if !f.More {
				c.got = append(c.got, string(c.partial))
				c.partial = nil
			}
		}
	case frame.TypeClose:
		if c.closed == nil {
			c.closed = f
		}
	case frame.TypePong:
	case frame.TypeDetach: // this request is the last one that was sent for this half
		if f.Code != frame.CodeNormal {
			c.t.Errorf("a request that came late took the place of its successor: %+v", f)
		}
	default:
		c.t.Errorf("the server sent %+v", f)
	}
}

// ack takes in an ack. c.mu is held.
func (c *model) ack(f *frame.Frame) {
	if f.Received > uint64(len(c.out)) {
		c.t.Errorf("%d of %d messages are acked", f.Received, len(c.out))
	}
	if f.Received > c.acked {
		c.acked = f.Received
	}
}

// sender carries the send half, until the session is over.
func (c *model) sender() {
	for i := uint64(1 << 32); c.ctx.Err() == nil; i++ {
		rng := c.dice(i)
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
		c.mu.Lock()
		if c.ready < len(c.out) && rng.IntN(3) == 0 {
			c.ready = min(len(c.out), c.ready+1+rng.IntN(80))
		}
		over, known := c.closed, c.id != ""
		gone, quits := c.gone, c.plan.quits && c.ready >= len(c.out)/2
		c.mu.Unlock()
		switch {
		case gone || over != nil && c.plan.leaves:
			return
		case !known:
		case over != nil || quits:
			code := frame.CodeGoingAway
			if over != nil {
				code = over.Code
			}
			q := c.query(http.MethodPost, "split")
			q.body = c.append(nil, frame.Frame{Type: frame.TypeClose, Code: code})
			if c.post(rng, q) == http.StatusOK {
				c.mu.Lock()
				c.gone = true
				c.mu.Unlock()
				return
			}
		case len(c.plan.transports) == 1 && !apart[c.plan.transports[0]]:
			// The request that is there carries all.
		default:
			c.batch(rng)
		}
	}
}

// batch sends what there is to send.
func (c *model) batch(rng *rand.Rand) {
	c.mu.Lock()
	after := max(c.acked, c.confirmed)
	if rng.IntN(4) == 0 {
		after = c.acked // all of it once more
	}
	frames, last := c.fragments(after, 1+rng.IntN(80))
	skips := len(frames) > 1 && rng.IntN(20) == 0
	if skips {
		frames = frames[1:]
	}
	ends := last == uint64(len(c.out)) && !c.endKnown && !c.plan.quits
	news := last > max(c.acked, c.confirmed) || ends || c.plan.hold && c.confirmed == 0
	var p []byte
	if rng.IntN(8) == 0 {
		p = c.append(p, c.openFrame("split", true))
	}
	if c.plan.hold {
		p = c.append(p, frame.Frame{Type: frame.TypeStart})
	}
	acks := c.received
	if acks > c.told && rng.IntN(2) == 0 || !c.plan.quiet && rng.IntN(3) == 0 {
		p = c.append(p, c.ackFrame())
		news = true
	} else {
		acks = 0
	}
	if !c.plan.quiet && rng.IntN(3) == 0 {
		p = c.append(append(p, c.append(nil, frame.Frame{})...), frame.Frame{Type: frame.TypePing, Nonce: rng.Uint64N(100)})
		news = true
	}
	c.mu.Unlock()
	if !news {
		return
	}
	for _, f := range frames {
		p = c.append(p, f)
	}
	if ends {
		p = c.append(p, frame.Frame{Type: frame.TypeEnd, Seq: last})
	}
	q := c.query(http.MethodPost, []string{"split", "poll"}[rng.IntN(2)])
	q.body = p
	if rng.IntN(8) == 0 {
		seed := rng.Uint64()
		q.body, q.write = nil, func(w io.Writer) { trickle(rand.New(rand.NewPCG(seed, 1)), w, p) }
	}
	if c.post(rng, q) == http.StatusOK && !skips {
		c.mu.Lock()
		c.confirmed = max(c.confirmed, last)
		c.endKnown = c.endKnown || ends
		c.told = max(c.told, acks)
		c.mu.Unlock()
	}
}

// trickle writes p in pieces, and in its time.
func trickle(rng *rand.Rand, w io.Writer, p []byte) {
	for len(p) > 0 {
		n := min(len(p), 1+rng.IntN(20_000))
		if _, err := w.Write(p[:n]); err != nil {
			return
		}
		p = p[n:]
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
	}
}

// post sends a batch and returns the status of its answer, 0 if none came.
func (c *model) post(rng *rand.Rand, q *query) int {
	ctx, cancel := context.WithTimeout(c.ctx, time.Duration(1+rng.IntN(20))*time.Second)
	defer cancel()
	resp, err := c.net.do(ctx, rng, c.patience(), q)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusConflict:
		if err != nil {
			return 0
		}
		var f frame.Frame
		if n, err := c.plan.codec.NewDecoder().Decode(body, &f); err != nil || n != len(body) || f.Type != frame.TypeAck {
			c.t.Errorf("the answer to a batch is %q, %v", body, err)
			return 0
		}
		c.mu.Lock()
		c.ack(&f)
		c.mu.Unlock()
	case http.StatusGone:
		c.goneWith(q)
	default:
		c.t.Errorf("%s %v: %s %s", q.method, q.header, resp.Status, body)
	}
	return resp.StatusCode
}

// run is one case.
func (c *model) run() {
	var log logged
	limits := &session.Limits{Sessions: 1, PerAddr: 1}
	h := session.NewHandler(session.AppFunc(c.serve), &session.Options{
		Grace: c.plan.grace, Limits: limits, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	c.ctx = ctx
	c.net = newNetwork(ctx, c.t, c.plan.faults)
	srv := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() { srv.Serve(c.net); close(served) }()

	begun := time.Now()
	hung := time.AfterFunc(15*time.Minute, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Errorf("the session did not come to its end: %d of %d fragments are ready, %d acked, %d confirmed, %d received, id %q", c.ready, len(c.out), c.acked, c.confirmed, c.received, c.id)
		cancel()
	})
	if c.plan.stops {
		time.AfterFunc(time.Duration(c.dice(3).IntN(5000))*time.Millisecond, func() { h.Shutdown(ctx) })
	}
	var halves sync.WaitGroup
	halves.Go(c.receiver)
	halves.Go(c.sender)
	halves.Wait()
	hung.Stop()
	c.net.strays.Wait() // the late ones, too
	if n := c.starts.Load(); n > 1 || n == 0 && !c.plan.quits && !c.plan.stops {
		c.t.Errorf("the app was started %d times", n)
	}
	if ctx.Err() == nil {
		c.check()
	}
	time.Sleep(2*c.plan.grace + time.Minute) // once for the end, once for the opening
	if n := h.Sessions(); n != 0 {
		c.t.Errorf("%d sessions are left", n)
	}
	if n := session.Taken(limits); n != 0 {
		c.t.Errorf("%d places are taken", n)
	}
	if n := session.Remembered(h); n != 0 {
		c.t.Errorf("%d openings are remembered", n)
	}
	if text := log.String(); strings.Contains(text, c.key) || c.id != "" && strings.Contains(text, c.id) {
		c.t.Error("the log has secrets")
	}
	cancel()
	c.net.good.CloseIdleConnections()
	srv.Close()
	<-served
	if c.t.Failed() {
		c.t.Logf("seed %d, %v, plan %+v, attempts %d\n%s", c.seed, time.Since(begun), c.plan, c.attempt, log.String())
	}
}

// check compares what has come with what the app sent.
func (c *model) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) > len(c.plan.down) || !slices.Equal(c.got, c.plan.down[:len(c.got)]) {
		c.t.Errorf("the client received %.200q", c.got)
	}
	if c.plan.quits || c.plan.stops {
		return
	}
	if len(c.got) != len(c.plan.down) {
		c.t.Errorf("the client received %d messages of %d", len(c.got), len(c.plan.down))
	}
	if c.closed == nil || c.closed.Code != frame.CodeProgramExited || c.closed.Reason != "exit status 7" {
		c.t.Errorf("the session ended with %+v", c.closed)
	}
}

// TestModel: whatever the network does with the requests of a session, over all
// transports and moves between them: each message arrives exactly once and in order,
// both ways; the app is started once; its last words and its status arrive; and
// nothing is left. CASES=n runs more cases, SEED=n a certain one.
func TestModel(t *testing.T) {
	cases := 60
	if n, err := strconv.Atoi(os.Getenv("CASES")); err == nil {
		cases = n
	}
	first := 0
	if n, err := strconv.Atoi(os.Getenv("SEED")); err == nil {
		first, cases = n, 1
	}
	for seed := first; seed < first+cases; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(seed), 0))
				c := &model{t: t, seed: uint64(seed), plan: newPlan(rng), key: fmt.Sprintf("key-of-case-%016x", rng.Uint64())}
				for _, text := range c.plan.up {
					for data, seq := []byte(text), len(c.out); ; {
						n := frame.Cut(data, true)
						seq++
						c.out = append(c.out, frame.Frame{Type: frame.TypeMessage, Seq: uint64(seq), Data: data[:n], Text: true, More: n < len(data)})
						if data = data[n:]; len(data) == 0 {
							break
						}
					}
				}
				c.window = cost{64 << 10, 64}
				c.run()
			})
		})
	}
}
