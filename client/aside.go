package client

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tandem/session/frame"
)

// When short requests are worth it, and when they are not trusted. Changed in tests.
var (
	// shortLength is what a request may declare for lighttpd to keep its body in memory:
	// over HTTP/1.1 it puts each piece of a longer one into a file (docs/servers.md trap 26).
	shortLength = int64(64 << 10)
	shortRate   = 100         // messages that went back and forth in shortTime
	shortPieces = 128         // that make a request full: larger ones are too few to be worth it
	shortRest   = time.Minute // without them after one has failed
)

const (
	shortTime = time.Second
	shortTick = 500 * time.Millisecond // a message that is not acked from one to the next is stuck
	shortWait = 3 * time.Second        // for the answer to a request that has come to its end
)

// An aside is the outlet of single. Its body is that of the session's one request, and
// stays open. Behind lighttpd, while messages go back and forth, what the client says
// goes in short requests beside that one, one after the other on a connection that is
// kept: send halves, as in split. Nothing depends on them. They begin when one has been
// answered that had nothing to say; what they carry is kept until they are answered; and
// where one is refused, cut or held back, the body says it all once more: the server
// knows by the seqs what it has.
//
// One way must not overtake the other. So a short request begins when the server has
// acked all messages, and the body goes on when the short request was answered, or has
// failed.
type aside struct {
	*body
	attach *attach
	rt     *http.Transport // nil where allow is false
	ctx    context.Context
	cancel context.CancelFunc
	runs   sync.WaitGroup
	allow  atomic.Bool           // the server is one where it is worth it
	live   atomic.Pointer[short] // what the connection's end is told

	sent  atomic.Uint64 // last seq in a Write
	acked atomic.Uint64 // last seq that the server has acked
	quiet atomic.Bool   // it had acked all before the first message of the next Write
	last  atomic.Bool   // the end, or the close, is in the next Write, or was in one

	turn    sync.Mutex // held to write; guards:
	short   *short     // takes what is written; nil: the body does
	not     time.Time  // none before
	proving bool       // the first one runs
	proved  time.Time  // one was answered
	since   time.Time  // pieces counts from then
	pieces  int        // messages that went back and forth
	said    time.Time  // when the body last was written to
}

// A short is one of the requests.
type short struct {
	*body
	conn atomic.Pointer[watched]
	sent []byte
	done chan struct{} // closed when it was answered, or has failed
	ok   bool          // then: which of the two

	pieces int
	tick   *time.Timer
	ticked struct { // at the last one
		pieces int
		sent   uint64
	}
}

func newAside(a *attach, b *body) *aside {
	s := &aside{body: b, attach: a}
	s.ctx, s.cancel = context.WithCancel(a.ctx)
	return s
}

// answered takes in the answer to the session's request.
func (s *aside) answered(resp *http.Response) {
	if s.attach.conn.dialer.url.Scheme == "http" && strings.HasPrefix(resp.Header.Get("Server"), "lighttpd") {
		s.rt = s.roundTripper()
		s.allow.Store(true)
	}
}

// roundTripper is for the short requests. The one that has a connection is told when that
// is closed, as in an upload.
func (s *aside) roundTripper() *http.Transport {
	options := s.attach.conn.dialer.options
	dial := options.DialContext
	options.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := &watched{Conn: conn}
		w.lost = func(error) {
			if r := s.live.Load(); r != nil && r.conn.Load() == w {
				r.end()
			}
		}
		return w, nil
	}
	return options.roundTripper(true)
}

// trace sees each frame before it is written, and when it has come.
func (s *aside) trace(sent bool, f *frame.Frame) {
	switch {
	case f.Type == frame.TypeAck && !sent:
		s.acked.Store(max(s.acked.Load(), f.Received))
	case f.Type == frame.TypeMessage && sent:
		s.sent.Store(f.Seq)
		if f.Seq == s.acked.Load()+1 {
			s.quiet.Store(true)
		}
	case (f.Type == frame.TypeEnd || f.Type == frame.TypeClose) && sent:
		s.last.Store(true)
	}
}

// Write passes p on, by the one way or the other.
func (s *aside) Write(p []byte) (int, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	quiet := s.quiet.Swap(false)
	if !s.allow.Load() {
		return s.body.Write(p)
	}
	now := time.Now()
	if r := s.short; r != nil {
		if !s.last.Load() && r.fits(p) {
			return s.say(p, now)
		}
		quiet = s.finish()
		if s.since = now; r.pieces >= shortPieces {
			s.pieces = shortRate
		}
	}
	if s.busy(p, quiet, now) {
		s.begin(now)
		if s.short != nil && s.short.fits(p) {
			return s.say(p, now)
		}
	}
	s.said = now
	return s.body.Write(p)
}

// busy tells whether messages go back and forth, each by itself, so quickly that short
// requests are worth it, and whether p may begin one.
func (s *aside) busy(p []byte, quiet bool, now time.Time) bool {
	if now.Sub(s.since) > shortTime {
		s.pieces, s.since = 0, now
	}
	if !quiet || s.last.Load() || int64(len(p)) > shortLength/int64(shortPieces) {
		return false
	}
	s.pieces++
	return s.pieces >= shortRate
}

// begin begins a short request, or, where none has been answered just before, one that
// has nothing to say.
func (s *aside) begin(now time.Time) {
	a := s.attach
	if s.proving || now.Before(s.not) || isClosed(s.ended) || !isClosed(a.opened) || a.conn.resumable() == 0 { // without grace each request is a process
		return
	}
	if now.Sub(s.proved) > shortTime {
		s.proving = true
		r := s.request(int64(len(s.empty)))
		r.Write(s.empty) // which is all
		return
	}
	r := s.request(shortLength)
	r.ticked.sent = s.acked.Load()
	r.tick = time.AfterFunc(shortTick, func() { s.tick(r) })
	s.short = r
	s.live.Store(r)
}

// request makes a request, and has it run.
func (s *aside) request(length int64) *short {
	r := &short{body: newBody(length, s.empty, func() {}), done: make(chan struct{})}
	s.runs.Go(func() {
		r.ok = s.exchange(r)
		r.end()
		close(r.done)
		s.turn.Lock()
		defer s.turn.Unlock()
		switch {
		case r.ok:
			s.proved = time.Now()
		case s.short == r:
			s.giveUp()
		default:
			s.not = time.Now().Add(shortRest)
		}
		if r.tick == nil {
			s.proving = false
		}
	})
	return r
}

// exchange sends r, and tells whether the server has taken all of it.
func (s *aside) exchange(r *short) bool {
	a := s.attach
	req := a.request(http.MethodPost)
	req.Header.Set("Tandem-Transport", Split)
	req.Header.Set("Incremental", "?1")
	req.Body, req.ContentLength = r, r.length
	req = req.WithContext(httptrace.WithClientTrace(s.ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		w, _ := i.Conn.(*watched)
		r.conn.Store(w)
	}}))
	resp, err := s.rt.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	codec := a.conn.dialer.codec
	if got, ok := frame.ByMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || !ok || got != codec {
		return false
	}
	err = a.conn.link.Batch(codec, func(*frame.Frame) error { return nil }).Feed(resp.Body)
	return err == nil && r.left() == 0
}

// say has the short request carry p, and the body a sign of life now and then.
func (s *aside) say(p []byte, now time.Time) (int, error) {
	r := s.short
	r.sent = append(r.sent, p...)
	r.pieces++
	_, err := r.Write(p)
	if err != nil {
		err = s.giveUp()
	} else if now.Sub(s.said) > s.attach.conn.dialer.options.Heartbeat {
		s.said = now
		_, err = s.body.Write(s.empty)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// tick ends r when nothing more is said, and does without it where what it was given is
// not acked: something on the way waits for all of a request, perhaps.
func (s *aside) tick(r *short) {
	s.turn.Lock()
	defer s.turn.Unlock()
	switch {
	case s.short != r:
		return
	case r.ticked.sent > s.acked.Load():
		s.giveUp()
	case r.ticked.pieces == r.pieces:
		s.finish()
	default:
		r.ticked.sent, r.ticked.pieces = s.sent.Load(), r.pieces
		r.tick.Reset(shortTick)
	}
}

// finish ends the short request, and tells whether the server has got all of it. If that
// does not come in time, the body says it once more.
func (s *aside) finish() bool {
	r := s.short
	r.Write(r.padding())
	timer := time.NewTimer(shortWait)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	case <-s.ended:
	}
	if !isClosed(r.done) || !r.ok {
		s.giveUp()
		return false
	}
	s.leave()
	s.proved = time.Now()
	return true
}

// giveUp has the body say what the short request has not brought for certain, and all
// that follows.
func (s *aside) giveUp() error {
	r := s.short
	s.leave()
	s.not = time.Now().Add(shortRest)
	r.end()
	_, err := s.body.Write(r.sent)
	return err
}

func (s *aside) leave() {
	s.short.tick.Stop()
	s.short, s.pieces = nil, 0
}

// left is how much the request's length still allows.
func (r *short) left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.rest) - len(r.first)
}

// fits tells whether p has room, and the padding after it.
func (r *short) fits(p []byte) bool { return len(p)+2 <= r.left() }

// padding is empty frames up to the request's length.
func (r *short) padding() []byte {
	n := r.left()
	pad := bytes.Repeat(r.empty, n/len(r.empty))
	if len(pad) < n { // binary: one with its length in two bytes
		pad = append(pad[:len(pad)-len(r.empty)], byte(frame.TypeEmpty), 0x40, 0)
	}
	return pad
}

// Abort has a Write return.
func (s *aside) Abort() { s.end() }

func (s *aside) end() {
	s.body.end()
	if r := s.live.Load(); r != nil {
		r.end()
	}
}

// wait returns when no request runs any more.
func (s *aside) wait() {
	s.end()
	s.cancel()
	s.turn.Lock() // whoever has it may make another one
	if s.short != nil {
		s.leave()
	}
	s.turn.Unlock()
	s.runs.Wait()
	if s.rt != nil {
		s.rt.CloseIdleConnections()
	}
}

var (
	_ outlet        = (*aside)(nil)
	_ io.ReadCloser = (*short)(nil)
)
