package natsowner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// conn is a stream of bytes each way between two processes, over two subjects that are theirs alone.
//
// Core NATS keeps the order of messages, but may lose some. So each is numbered, and a number that isn't the next ends the
// conn with an error: what it carried, a session's request, is cut, and the session resumed by its client.
// Back-pressure: a writer sends no more than window bytes that the reader hasn't taken. What is received
// is at most that.
type conn struct {
	nc   *nats.Conn
	sub  *nats.Subscription
	mine string // where this end hears

	mu       sync.Mutex
	news     chan struct{} // closed, and a new one made, when anything below changes
	theirs   string        // where the other end hears; "" before it has said so
	err      error         // why it has ended
	eof      bool          // the other end writes no more
	buf      []byte        // received, not read
	taken    uint64        // bytes that were read
	told     uint64        // of these, known at the other end
	sent     uint64        // bytes
	credit   uint64        // of these, taken there
	received uint64        // number of the last message
	heard    time.Time     // when that was
	written  uint64        // number of the last message sent
	finished bool          // this end writes no more
	read     time.Time     // deadlines
	write    time.Time
	beat     *time.Timer
	over     chan struct{} // closed when it has ended
}

// Message types. Each message is one, its number (8 bytes), and:
const (
	typeOpen   = 'o' // nothing; its reply subject is where the other end hears
	typeData   = 'd' // data
	typeCredit = 'c' // how many bytes were taken in all (8 bytes)
	typeEOF    = 'e' // nothing: no more data
	typeReset  = 'r' // nothing: the conn is over
	typePing   = 'p' // nothing
)

const (
	window     = 256 << 10
	maxData    = 32 << 10 // of a message; servers take 1 MiB by default
	headLen    = 9
	pingEach   = 3 * time.Second
	deadAfter  = 10 * time.Second
	acceptTime = 5 * time.Second
)

// errNobody is for a subject that nobody hears.
var errNobody = errors.New("natsowner: nobody hears there")

var errLost = errors.New("natsowner: the connection has lost a message")

func newConn(nc *nats.Conn) (*conn, error) {
	c := &conn{nc: nc, mine: nats.NewInbox(), news: make(chan struct{}), over: make(chan struct{}), heard: time.Now()}
	var err error
	c.sub, err = nc.Subscribe(c.mine, c.message)
	if err != nil {
		return nil, fmt.Errorf("natsowner: %w", err)
	}
	c.mu.Lock()
	c.beat = time.AfterFunc(pingEach, c.ping)
	c.mu.Unlock()
	return c, nil
}

// dial opens a conn with whoever accepts those of subject. The error is errNobody if there is none.
func dial(ctx context.Context, nc *nats.Conn, subject string) (*conn, error) {
	c, err := newConn(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	if err := nc.PublishRequest(subject, c.mine, nil); err != nil {
		c.end(err)
		return nil, fmt.Errorf("natsowner: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.theirs == "" && c.err == nil {
		if err := c.wait(ctx.Done(), time.Time{}); err != nil {
			c.endLocked(err)
			return nil, fmt.Errorf("natsowner: %w", ctx.Err())
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	return c, nil
}

// accept answers m, which dial has sent.
func accept(nc *nats.Conn, m *nats.Msg) (*conn, error) {
	c, err := newConn(nc)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = m.Reply
	if err := c.send(typeOpen, nil); err != nil {
		return nil, err
	}
	return c, nil
}

// send is one message. c.mu is held: numbers are sent in order.
func (c *conn) send(kind byte, body []byte) error {
	if c.err != nil {
		return c.err
	}
	c.written++
	m := make([]byte, headLen, headLen+len(body))
	m[0] = kind
	binary.BigEndian.PutUint64(m[1:], c.written)
	// With a reply subject servers tell when nobody hears there any more.
	if err := c.nc.PublishRequest(c.theirs, c.mine, append(m, body...)); err != nil {
		c.endLocked(fmt.Errorf("natsowner: %w", err))
		return c.err
	}
	return nil
}

// message takes one of the other end. It never blocks.
func (c *conn) message(m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if m.Header.Get("Status") == "503" {
		c.endLocked(errNobody)
		return
	}
	if len(m.Data) < headLen || binary.BigEndian.Uint64(m.Data[1:]) != c.received+1 {
		c.reset(errLost)
		return
	}
	c.received++
	c.heard = time.Now()
	body := m.Data[headLen:]
	switch m.Data[0] {
	case typeOpen:
		c.theirs = m.Reply
	case typeData:
		if len(c.buf)+len(body) > window {
			c.reset(errors.New("natsowner: the other end sends more than it may"))
			return
		}
		c.buf = append(c.buf, body...)
	case typeCredit:
		if len(body) == 8 {
			c.credit = min(binary.BigEndian.Uint64(body), c.sent)
		}
	case typeEOF:
		c.eof = true
	case typeReset:
		c.endLocked(net.ErrClosed)
		return
	}
	c.changed()
}

// ping finds out whether the other end is there.
func (c *conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return
	case time.Since(c.heard) > deadAfter:
		c.reset(errors.New("natsowner: the other end is silent"))
		return
	case c.theirs != "":
		_ = c.send(typePing, nil)
	}
	c.beat.Reset(pingEach)
}

func (c *conn) changed() {
	close(c.news)
	c.news = make(chan struct{})
}

// wait is until something changes. c.mu is held, and let go meanwhile.
func (c *conn) wait(done <-chan struct{}, deadline time.Time) error {
	var timer <-chan time.Time
	if !deadline.IsZero() {
		d := time.Until(deadline)
		if d <= 0 {
			return os.ErrDeadlineExceeded
		}
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	news := c.news
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-news:
		return nil
	case <-timer:
		return nil // whoever waits looks at the deadline of then
	case <-done:
		return context.Canceled
	}
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.buf) == 0 || passed(c.read) {
		switch {
		case passed(c.read):
			return 0, os.ErrDeadlineExceeded
		case c.eof:
			return 0, io.EOF
		case c.err != nil:
			return 0, c.err
		}
		if err := c.wait(nil, c.read); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.buf)
	c.buf = c.buf[n:]
	if len(c.buf) == 0 {
		c.buf = nil
	}
	c.taken += uint64(n)
	if c.taken-c.told >= window/4 && !c.eof && c.err == nil {
		c.told = c.taken
		_ = c.send(typeCredit, binary.BigEndian.AppendUint64(nil, c.taken))
	}
	return n, nil
}

func (c *conn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		room := window - int(c.sent-c.credit)
		switch {
		case c.err != nil:
			return n, c.err
		case c.finished:
			return n, net.ErrClosed
		case passed(c.write):
			return n, os.ErrDeadlineExceeded
		case room == 0:
			if err := c.wait(nil, c.write); err != nil {
				return n, err
			}
			continue
		}
		k := min(len(p), room, maxData)
		if err := c.send(typeData, p[:k]); err != nil {
			return n, err
		}
		c.sent += uint64(k)
		n, p = n+k, p[k:]
	}
	return n, nil
}

// CloseWrite tells the other end that no more comes.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return nil
	}
	c.finished = true
	return c.send(typeEOF, nil)
}

// Close ends it at both ends. What was written and is on its way is read there.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.finished && c.err == nil && c.theirs != "" {
		c.finished = true
		_ = c.send(typeEOF, nil)
	}
	c.reset(net.ErrClosed)
	return nil
}

// reset ends it, and tells the other end.
func (c *conn) reset(err error) {
	if c.err == nil && c.theirs != "" {
		_ = c.send(typeReset, nil)
	}
	c.endLocked(err)
}

func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(err)
}

func (c *conn) endLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.over)
	c.beat.Stop()
	_ = c.sub.Unsubscribe()
	c.changed()
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	c.changed()
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	c.changed()
	return nil
}

type addr string

func (addr) Network() string  { return "nats" }
func (a addr) String() string { return string(a) }

func (c *conn) LocalAddr() net.Addr { return addr(c.mine) }

func (c *conn) RemoteAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return addr(c.theirs)
}
