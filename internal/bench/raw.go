package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tandem/session/frame"
)

// Wire opens sessions with the transport single over connections of their own, and
// writes and reads HTTP/1.1 by hand. Its fields must not change while it is in use.
type Wire struct {
	URL    *url.URL
	Header http.Header // beside what the protocol needs
	TLS    *tls.Config // for https
	// Dial makes the connection for session i; nil: to the URL's host, from as many
	// loopback addresses as the number of sessions needs.
	Dial    func(ctx context.Context, i int) (net.Conn, error)
	Codec   frame.Codec
	Payload []byte // of messages, at most frame.MaxData
	// Declared is the length that requests declare, which some servers need; 0: the
	// request is chunked, as others need it.
	Declared int64
	// Heartbeat is promised to the server. Who opens an idle session keeps the promise
	// with [Beater].
	Heartbeat time.Duration
	// Buffer is what a session reads into, in bytes; 0: 16 KiB.
	Buffer int
}

// raw is a session over a bare TCP connection: one request, one response.
type raw struct {
	conn    net.Conn
	wire    *wire
	chunked bool   // the request is
	out     []byte // a chunk being made
	in      []byte
	plain   []byte // the response's body, what of it was not taken yet
	body    dechunker
}

// chunkHead is room for the chunk's size, five hexadecimal digits: all chunks here
// are below 1 MiB, and a size may have leading zeros.
const chunkHead = len("fffff\r\n")

// Open is an [Opener].
func (w *Wire) Open(ctx context.Context, i int) (Session, error) { return orNone(w.dial(ctx, i)) }

func (w *Wire) dial(ctx context.Context, i int) (*raw, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	conn, err := connect(ctx, w.URL, w.TLS, w.Dial, i)
	if err != nil {
		return nil, err
	}
	size := w.Buffer
	if size == 0 {
		size = 16 << 10
	}
	s := &raw{conn: conn, wire: newWire(w.Codec, w.Payload, w.Heartbeat), chunked: w.Declared == 0, in: make([]byte, size)}
	if err := s.open(w); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// connect makes the connection for session i with u's server. dial nil: Dial.
func connect(ctx context.Context, u *url.URL, c *tls.Config, dial func(ctx context.Context, i int) (net.Conn, error), i int) (net.Conn, error) {
	if dial == nil {
		dial = func(ctx context.Context, i int) (net.Conn, error) { return Dial(ctx, hostPort(u), i) }
	}
	conn, err := dial(ctx, i)
	if err != nil || u.Scheme != "https" {
		return conn, err
	}
	if c = c.Clone(); c == nil {
		c = &tls.Config{}
	}
	if c.ServerName == "" {
		c.ServerName = u.Hostname()
	}
	return tls.Client(conn, c), nil
}

// hostPort is where u's server listens.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = u.Scheme // a service's name
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// perAddress is how many sessions one local address is used for. A server's address
// and port can be reached from some 28,000 ports of each, of which those of closed
// connections are not free for a minute.
const perAddress = 10_000

// Dial makes a TCP connection for session i.
func Dial(ctx context.Context, address string, i int) (net.Conn, error) {
	d := net.Dialer{Timeout: Patience}
	if host, _, _ := net.SplitHostPort(address); i >= perAddress && net.ParseIP(host).IsLoopback() && net.ParseIP(host).To4() != nil {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/perAddress))}
	}
	return d.DialContext(ctx, "tcp", address)
}

// open sends the header and the session's beginning, and waits for the answer.
func (s *raw) open(w *Wire) error {
	s.conn.SetDeadline(time.Now().Add(Patience))
	b, err := s.wire.open(s.begin())
	if err != nil {
		return err
	}
	if len(b) == len(s.begin()) { // nothing starts before the first byte of a body
		if b, err = s.wire.send(b, 1); err != nil {
			return err
		}
	}
	if b, err = s.finish(b); err != nil {
		return err
	}
	if _, err := s.conn.Write(append(w.header(), b...)); err != nil {
		return err
	}
	if err := s.header(); err != nil {
		return err
	}
	for {
		if echoed, err := s.take(); err != nil || echoed > 0 || s.wire.opened {
			return err
		}
		if err := s.read(); err != nil {
			return fmt.Errorf("expected the server's open, got %w", err)
		}
	}
}

// header is the request's header.
func (w *Wire) header() []byte {
	b := make([]byte, 0, 1<<10)
	b = append(append(append(b, "POST "...), w.URL.RequestURI()...), " HTTP/1.1\r\nHost: "...)
	b = append(append(append(b, w.URL.Host...), "\r\nContent-Type: "...), w.Codec.MediaType()...)
	b = append(b, "\r\nTandem-Transport: single\r\nAccept-Encoding: identity\r\nIncremental: ?1\r\n"...)
	if w.Declared == 0 {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	} else {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), w.Declared, 10), "\r\n"...)
	}
	if len(w.Header) > 0 {
		more := bytes.NewBuffer(b)
		w.Header.Write(more) // to memory, which doesn't fail
		b = more.Bytes()
	}
	return append(b, "\r\n"...)
}

// header reads the response's header.
func (s *raw) header() error {
	body, chunked, err := readHeader(s.conn, s.in)
	if err != nil {
		return err
	}
	s.body.plain = !chunked
	s.plain, err = s.body.take(body, s.plain)
	return err
}

// readHeader reads a response's header into in, and returns what of its body came with it, which may be a part of in.
func readHeader(from io.Reader, in []byte) (body []byte, chunked bool, err error) {
	var got []byte
	for {
		n, err := from.Read(in)
		if got == nil {
			got = in[:n] // all of it, usually
		} else {
			got = append(got, in[:n]...)
		}
		if head, body, ok := bytes.Cut(got, []byte("\r\n\r\n")); ok {
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
				return nil, false, fmt.Errorf("expected status 200, got %.500q", got)
			}
			return body, isChunked(head), nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("expected a response's header, got %.500q and %w", got, err)
		}
		got = bytes.Clone(got)
	}
}

// isChunked tells whether a response with this header is.
func isChunked(head []byte) bool {
	field := []byte("\r\ntransfer-encoding: chunked")
	for ; len(head) >= len(field); head = head[1:] {
		if head[0] == '\r' && bytes.EqualFold(head[:len(field)], field) {
			return true
		}
	}
	return false
}

// begin begins a piece of the request's body.
func (s *raw) begin() []byte {
	if s.chunked {
		return append(s.out[:0], "00000\r\n"...)
	}
	return s.out[:0]
}

// finish makes a chunk of a piece that was begun.
func (s *raw) finish(b []byte) ([]byte, error) {
	if s.out = b; !s.chunked {
		return b, nil
	}
	const hex = "0123456789abcdef"
	size := len(b) - chunkHead
	if size > 0xfffff {
		return nil, fmt.Errorf("a chunk of %d bytes: expected less than 1 MiB", size)
	}
	for i := range 5 {
		b[i] = hex[size>>(16-4*i)&0xf]
	}
	s.out = append(b, "\r\n"...)
	return s.out, nil
}

// Send sends n messages in one chunk, or as many as the server's window has room for.
func (s *raw) Send(n int) (sent int, err error) {
	sent = min(n, s.wire.room(), max(1, (512<<10)/len(s.wire.payload)))
	if sent == 0 {
		return 0, nil
	}
	b, err := s.wire.send(s.begin(), sent)
	if err != nil {
		return 0, err
	}
	return sent, s.write(b)
}

// write writes a piece that was begun.
func (s *raw) write(b []byte) error {
	b, err := s.finish(b)
	if err != nil {
		return err
	}
	_, err = s.conn.Write(b)
	return err
}

// Receive waits for messages and tells how many came.
func (s *raw) Receive() (int, error) {
	for {
		if n, err := s.take(); n > 0 || err != nil {
			return n, err
		}
		if err := s.read(); err != nil {
			return 0, err
		}
	}
}

// take takes what has been read, and tells how many messages that was.
func (s *raw) take() (int, error) {
	used, messages, err := s.wire.take(s.plain)
	s.plain = s.plain[:copy(s.plain, s.plain[used:])]
	return messages, err
}

// read waits for more of the response's body.
func (s *raw) read() error {
	if s.body.ended {
		return io.ErrUnexpectedEOF
	}
	n, err := s.conn.Read(s.in)
	if err == nil {
		s.plain, err = s.body.take(s.in[:n], s.plain)
	}
	return err
}

func (s *raw) Deadline(t time.Time) { s.conn.SetDeadline(t) }

// Beat writes an empty frame, while nothing else is written.
func (s *raw) Beat() error {
	beat := []byte{'\n'} // of json
	if s.wire.codec == frame.Binary {
		beat = []byte{byte(frame.TypeEmpty), 0}
	}
	if s.chunked {
		beat = fmt.Appendf(nil, "%x\r\n%s\r\n", len(beat), beat)
	}
	_, err := s.conn.Write(beat)
	return err
}

// Leave tells the server that the session is over; the answer is for Receive to read.
func (s *raw) Leave() error {
	b, err := s.wire.end(s.begin())
	if err != nil {
		return err
	}
	if len(b) > len(s.begin()) {
		if err := s.write(b); err != nil {
			return err
		}
	}
	if s.chunked {
		_, err = io.WriteString(s.conn, "0\r\n\r\n")
	} else if !s.wire.codec.Framed() {
		err = s.conn.Close() // no other way to tell that the declared length won't come
	}
	return err
}

// Drop leaves the session without a word.
func (s *raw) Drop() error { return s.conn.Close() }

// Close ends the session in order, and waits for the response's end.
func (s *raw) Close() error {
	defer s.conn.Close()
	s.Deadline(time.Now().Add(Patience))
	if err := s.Leave(); err != nil {
		return err
	}
	for !s.body.ended {
		s.plain = s.plain[:0]
		err := s.read()
		if s.body.plain && (err == io.EOF || errors.Is(err, net.ErrClosed)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("expected the response's end, got %w", err)
		}
	}
	return nil
}

// dechunker takes the chunks' heads out of a response's body.
type dechunker struct {
	plain  bool // there are none
	left   int  // of the chunk's data
	size   int  // of the next chunk, as far as its digits came
	digits int
	ended  bool
}

var errChunk = errors.New("malformed chunk in the response")

// take appends the data in p to plain.
func (d *dechunker) take(p, plain []byte) ([]byte, error) {
	if d.plain {
		return append(plain, p...), nil
	}
	for len(p) > 0 && !d.ended {
		if d.left > 0 {
			n := min(d.left, len(p))
			plain = append(plain, p[:n]...)
			d.left -= n
			p = p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		switch digit := strings.IndexByte("0123456789abcdef", c|0x20); {
		case c == '\r':
		case c == '\n' && d.digits == 0: // the end of the chunk before
		case c == '\n':
			d.left, d.ended = d.size, d.size == 0
			d.size, d.digits = 0, 0
		case digit < 0 || d.digits == 7:
			return plain, errChunk
		default:
			d.size = d.size<<4 | digit
			d.digits++
		}
	}
	return plain, nil
}
