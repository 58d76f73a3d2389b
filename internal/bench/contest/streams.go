package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"tandem/internal/bench"
)

// The clients of contestants that don't speak Tandem, by hand as bench.Wire is, so
// that the servers are compared and not the clients.

// payload is the message that all contestants carry.
var payload = bench.Payload(64)

// stream is a connection that carries messages of one size in each direction.
type stream struct {
	conn    net.Conn
	message []byte // as it is sent
	end     []byte // what a session ends with in order; nil: with the connection
	out     []byte
	in      []byte
	plain   []byte // what was read and not taken yet
	// take looks at whole messages: how many bytes they are, and how many messages.
	take func(p []byte) (used, messages int, err error)
}

func dialStream(ctx context.Context, address string, i, buffer int) (*stream, error) {
	conn, err := bench.Dial(ctx, address, i)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(bench.Patience))
	return &stream{conn: conn, in: make([]byte, buffer)}, nil
}

func (s *stream) Send(n int) (int, error) {
	b := s.out[:0]
	for range n {
		b = append(b, s.message...)
	}
	s.out = b
	_, err := s.conn.Write(b)
	return n, err
}

func (s *stream) Receive() (int, error) {
	for {
		used, messages, err := s.take(s.plain)
		s.plain = s.plain[:copy(s.plain, s.plain[used:])]
		if messages > 0 || err != nil {
			return messages, err
		}
		n, err := s.conn.Read(s.in)
		if err != nil {
			return 0, err
		}
		s.plain = append(s.plain, s.in[:n]...)
	}
}

func (s *stream) Deadline(t time.Time) { s.conn.SetDeadline(t) }

// Close waits for the server's end: what it still did after this would fall into
// the time of whoever is measured next.
func (s *stream) Close() error {
	defer s.conn.Close()
	if s.end == nil {
		return nil
	}
	s.Deadline(time.Now().Add(bench.Patience))
	if _, err := s.conn.Write(s.end); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, s.conn)
	return err
}

// tcp opens plain connections.
func tcp(address string, buffer int) bench.Opener {
	return func(ctx context.Context, i int) (bench.Session, error) {
		s, err := dialStream(ctx, address, i, buffer)
		if err != nil {
			return nil, err
		}
		s.message = payload
		s.take = func(p []byte) (int, int, error) {
			n := len(p) / len(payload)
			return n * len(payload), n, nil
		}
		return s, nil
	}
}

// webSocket opens WebSocket connections (RFC 6455).
func webSocket(host, path string, buffer int) bench.Opener {
	return func(ctx context.Context, i int) (bench.Session, error) {
		s, err := dialStream(ctx, host, i, buffer)
		if err != nil {
			return nil, err
		}
		if err := s.handshake(host, path); err != nil {
			s.conn.Close()
			return nil, err
		}
		// FIN and text; a mask of zeros leaves the payload as it is, and costs the server as much as another.
		s.message = append([]byte{0x81, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
		s.end = []byte{0x88, 0x82, 0, 0, 0, 0, 1000 >> 8, 1000 & 0xff} // FIN and close, normal
		s.take = takeWebSocket
		return s, nil
	}
}

func (s *stream) handshake(host, path string) error {
	if _, err := fmt.Fprintf(s.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, host); err != nil {
		return err
	}
	for {
		n, err := s.conn.Read(s.in)
		s.plain = append(s.plain, s.in[:n]...)
		if head, rest, ok := bytes.Cut(s.plain, []byte("\r\n\r\n")); ok {
			if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
				return fmt.Errorf("expected status 101, got %.500q", head)
			}
			s.plain = bytes.Clone(rest)
			return nil
		}
		if err != nil {
			return fmt.Errorf("expected a response's header, got %.500q and %w", s.plain, err)
		}
	}
}

// takeWebSocket takes frames as a server sends them: short ones, without a mask.
func takeWebSocket(p []byte) (used, messages int, err error) {
	for len(p)-used >= 2 {
		size := int(p[used+1])
		switch {
		case p[used] != 0x81:
			return used, messages, fmt.Errorf("expected a text frame, got %.20x", p[used:])
		case size != len(payload):
			return used, messages, errors.New("expected the message that was sent, got one of another size")
		case len(p)-used < 2+size:
			return used, messages, nil
		}
		used += 2 + size
		messages++
	}
	return used, messages, nil
}
