package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"tandem/session/frame"
)

// raw is a session over a bare TCP connection: one chunked request, one chunked
// response, written and read by hand.
type raw struct {
	conn  net.Conn
	wire  *wire
	out   []byte // a chunk being made
	in    []byte
	plain []byte // the response's body, what of it was not taken yet
	body  dechunker
}

// chunkHead is room for the chunk's size, four hexadecimal digits: all chunks here
// are below 64 KiB, and a size may have leading zeros.
const chunkHead = len("ffff\r\n")

// dialRaw opens a session of this codec.
func dialRaw(host, path string, codec frame.Codec) (*raw, error) {
	conn, err := net.DialTimeout("tcp", host, patience)
	if err != nil {
		return nil, err
	}
	s := &raw{conn: conn, wire: newWire(codec), in: make([]byte, 16<<10)}
	if err := s.open(host, path); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// open sends the header and the session's beginning, and waits for the answer.
func (s *raw) open(host, path string) error {
	s.conn.SetDeadline(time.Now().Add(patience))
	header := "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: " + s.wire.codec.MediaType() +
		"\r\nTransfer-Encoding: chunked\r\nAccept-Encoding: identity\r\nIncremental: ?1\r\n\r\n"
	first, err := s.wire.open(nil)
	if err != nil {
		return err
	}
	if len(first) == 0 { // nothing starts before the first byte of a body
		if first, err = s.wire.send(nil, 1); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(s.conn, "%s%04x\r\n%s\r\n", header, len(first), first); err != nil {
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
			return err
		}
	}
}

// header reads the response's header.
func (s *raw) header() error {
	var got []byte
	for {
		n, err := s.conn.Read(s.in)
		got = append(got, s.in[:n]...)
		if head, body, ok := strings.Cut(string(got), "\r\n\r\n"); ok {
			if !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.Contains(head, "\r\nTransfer-Encoding: chunked") {
				return fmt.Errorf("expected status 200 and a chunked response, got %.500q", got)
			}
			s.plain, err = s.body.take([]byte(body), s.plain)
			return err
		}
		if err != nil {
			return fmt.Errorf("expected a response's header, got %.500q and %w", got, err)
		}
	}
}

// send sends n messages in one chunk, or as many as the server's window has room for.
func (s *raw) send(n int) (sent int, err error) {
	sent = min(n, s.wire.room())
	if sent == 0 {
		return 0, nil
	}
	b := append(s.out[:0], "0000\r\n"...)
	if b, err = s.wire.send(b, sent); err != nil {
		return 0, err
	}
	s.out = b
	return sent, s.writeChunk()
}

// writeChunk writes out, whose head is still to be filled in.
func (s *raw) writeChunk() error {
	const hex = "0123456789abcdef"
	size := len(s.out) - chunkHead
	if size > 0xffff {
		return fmt.Errorf("a chunk of %d bytes: expected at most 65535", size)
	}
	for i := range 4 {
		s.out[i] = hex[size>>(12-4*i)&0xf]
	}
	s.out = append(s.out, "\r\n"...)
	_, err := s.conn.Write(s.out)
	return err
}

// receive waits for messages and tells how many came.
func (s *raw) receive() (int, error) {
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

func (s *raw) deadline(t time.Time) { s.conn.SetDeadline(t) }

// close ends the session in order, and waits for the response's end.
func (s *raw) close() error {
	defer s.conn.Close()
	s.deadline(time.Now().Add(patience))
	b := append(s.out[:0], "0000\r\n"...)
	b, err := s.wire.end(b)
	if err != nil {
		return err
	}
	s.out = b
	if len(b) > chunkHead {
		if err := s.writeChunk(); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(s.conn, "0\r\n\r\n"); err != nil {
		return err
	}
	for !s.body.ended {
		s.plain = s.plain[:0]
		if err := s.read(); err != nil {
			return fmt.Errorf("expected the response's end, got %w", err)
		}
	}
	return nil
}

// dechunker takes the chunks' heads out of a response's body.
type dechunker struct {
	left  int // of the chunk's data
	head  []byte
	ended bool
}

var errChunk = errors.New("malformed chunk in the response")

// take appends the data in p to plain.
func (d *dechunker) take(p, plain []byte) ([]byte, error) {
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
		if c != '\n' {
			if d.head = append(d.head, c); len(d.head) > 20 {
				return plain, errChunk
			}
			continue
		}
		line := strings.TrimSuffix(string(d.head), "\r")
		d.head = d.head[:0]
		if line == "" {
			continue // the end of the chunk before
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil {
			return plain, errChunk
		}
		d.left = int(n)
		d.ended = n == 0
	}
	return plain, nil
}
