package fcgi

import (
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"tandem/internal/gateway"
)

// BodyBuffer is how many bytes of a request's body are read ahead of the handler.
// It is that large for nginx, which stalls an upload for good once the socket to
// us is full and the response has begun (SERVERS.md trap 1): a burst that the
// handler takes in more slowly than nginx sends it waits here. It is memory only
// while a burst waits.
const BodyBuffer = 4 << 20

// keptBuffer is how much of the buffer an empty body keeps, in bytes.
const keptBuffer = 16 << 10

// hangUpInterval is how often the connection is looked at while a full body keeps
// it from being read.
const hangUpInterval = time.Second

// body is the STDIN stream of one request: written by the connection's reader, read
// by one goroutine of the handler at a time.
//
// Back-pressure: write blocks while BodyBuffer bytes wait, and with it the
// connection's reader; the rest waits in the socket, then in the web server.
type body struct {
	mu     sync.Mutex
	buf    []byte // buf[off:] waits to be read
	off    int
	end    error // what follows buf: io.EOF, or why the stream was cut; nil: not known yet
	closed bool
	sink   gateway.Sink // gets what comes instead of buf

	ready    chan struct{} // holds a token when something changed for Read; nil: nobody has waited
	space    chan struct{} // holds a token when something changed for write; nil: as ready
	deadline deadline
}

func newBody() *body { return new(body) }

// waiter makes c, with a token, if it is not there.
func waiter(c *chan struct{}) chan struct{} {
	if *c == nil {
		*c = make(chan struct{}, 1)
	}
	return *c
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Read blocks until there is data, the end, or the read deadline
// (os.ErrDeadlineExceeded). What came before a cut is still delivered.
func (b *body) Read(p []byte) (int, error) {
	for {
		if b.deadline.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		n, ready, err := b.take(p)
		if ready == nil {
			return n, err
		}
		select {
		case <-ready:
		case <-b.deadline.wait():
		}
	}
}

// take is Read without waiting; what to wait for is not nil when there is nothing yet.
func (b *body) take(p []byte) (n int, ready chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, nil, http.ErrBodyReadAfterClose
	case len(p) == 0:
		return 0, nil, nil
	case b.off < len(b.buf):
		n = copy(p, b.buf[b.off:])
		b.off += n
		if b.off == len(b.buf) {
			if cap(b.buf) > keptBuffer {
				b.buf = nil
			}
			b.buf, b.off = b.buf[:0], 0
		}
		signal(b.space)
		return n, nil, nil
	case b.end != nil:
		return 0, nil, b.end
	}
	return 0, waiter(&b.ready), nil
}

// write appends p, blocking while the buffer is full. It discards p once nobody
// will read it. While it is blocked it asks hungUp from time to time: a connection
// that isn't read shows its end in no other way. False: it has hung up.
func (b *body) write(p []byte, hungUp func() bool) bool {
	var tick *time.Ticker
	for {
		var space chan struct{}
		if p, space = b.put(p); len(p) == 0 {
			return true
		}
		if tick == nil {
			tick = time.NewTicker(hangUpInterval)
			defer tick.Stop()
		}
		select {
		case <-space:
		case <-tick.C:
			if hungUp() {
				return false
			}
		}
	}
}

// put takes what of p there is room for, and returns the rest, and what to wait for
// before it is put.
func (b *body) put(p []byte) (left []byte, space chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.end != nil {
		return nil, nil
	}
	if b.sink != nil {
		b.sink.Input(p)
		return nil, nil
	}
	n := min(len(p), BodyBuffer-(len(b.buf)-b.off))
	if n == 0 {
		return p, waiter(&b.space)
	}
	if b.off > 0 && len(b.buf)+n > cap(b.buf) {
		b.buf = b.buf[:copy(b.buf, b.buf[b.off:])]
		b.off = 0
	}
	b.buf = append(b.buf, p[:n]...)
	signal(b.ready)
	if n == len(p) {
		return nil, nil
	}
	return p[n:], waiter(&b.space)
}

// finish says what follows the last byte: io.EOF, or why there is no more. The
// first call holds.
func (b *body) finish(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end == nil {
		b.end = err
		b.tell()
	}
	signal(b.ready)
	signal(b.space)
}

// tell has the sink know the end. b.mu is held.
func (b *body) tell() {
	switch {
	case b.sink == nil:
	case b.end == io.EOF:
		b.sink.End()
	default:
		b.sink.Lost(b.end)
	}
}

// lost has the sink know that the request is gone, whether or not the body has ended.
func (b *body) lost(cause error) {
	b.mu.Lock()
	s := b.sink
	b.mu.Unlock()
	if s != nil {
		s.Lost(cause)
	}
}

// detach has s get what has come and all that follows.
func (b *body) detach(s gateway.Sink) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sink = s
	if b.off < len(b.buf) {
		s.Input(b.buf[b.off:])
	}
	b.buf, b.off = nil, 0
	if b.end != nil {
		b.tell()
	}
	signal(b.space)
}

// detachedTo is the Sink that gets the body; nil: a handler reads it.
func (b *body) detachedTo() gateway.Sink {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sink
}

// Close drops what is unread and what is still to come.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.buf, b.off = nil, 0
	signal(b.ready)
	signal(b.space)
	return nil
}

var _ io.ReadCloser = (*body)(nil)
