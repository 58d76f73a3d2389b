package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Streams are an [Audience] by Server-Sent Events, over connections of their own and HTTP/1.1 by hand. Where they can,
// a few goroutines read them all.
type Streams struct {
	URL    *url.URL // with the topic
	Header http.Header
	TLS    *tls.Config // for https
	// Dial makes the connection for subscriber i; nil: as Wire's.
	Dial func(ctx context.Context, i int) (net.Conn, error)

	mu      sync.Mutex
	streams []*stream
	stop    func() // ends the pollers; nil: there are none
	readers sync.WaitGroup
	over    bool
}

// A stream is one subscriber's.
type stream struct {
	i    int
	conn net.Conn // nil: fd is read by a poller
	fd   int
	body dechunker
	rest []byte // of a line
}

// Open is an Audience's.
func (a *Streams) Open(ctx context.Context, i int) error {
	conn, err := connect(ctx, a.URL, a.TLS, a.Dial, i)
	if err != nil {
		return err
	}
	s := &stream{i: i, conn: conn}
	if err := s.open(a); err != nil {
		conn.Close()
		return err
	}
	if fd, ok := detach(conn); ok {
		conn.Close()
		s.conn, s.fd = nil, fd
	}
	a.mu.Lock()
	a.streams = append(a.streams, s)
	a.mu.Unlock()
	return nil
}

// open sends the request and waits for the response's header.
func (s *stream) open(a *Streams) error {
	s.conn.SetDeadline(time.Now().Add(Patience))
	defer s.conn.SetDeadline(time.Time{})
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n", a.URL.RequestURI(), a.URL.Host)
	if err := a.Header.Write(&b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(s.conn, b.String()); err != nil {
		return err
	}
	body, chunked, err := readHeader(s.conn, make([]byte, 2<<10))
	if err != nil {
		return err
	}
	s.body.plain = !chunked
	s.rest, err = s.body.take(body, nil)
	return err
}

// take calls heard with the data of each event in p, for which each has one line. plain is scratch.
func (s *stream) take(p, plain []byte, heard func(data []byte)) (scratch []byte, err error) {
	plain, err = s.body.take(p, append(plain[:0], s.rest...))
	b := plain
	for {
		n := bytes.IndexByte(b, '\n')
		if n < 0 {
			break
		}
		if data, ok := bytes.CutPrefix(b[:n], dataField); ok {
			heard(bytes.TrimPrefix(data, space))
		}
		b = b[n+1:]
	}
	s.rest = append(s.rest[:0], b...)
	if err == nil && s.body.ended {
		err = io.EOF
	}
	return plain, err
}

var (
	dataField = []byte("data:")
	space     = []byte(" ")
)

// A reader reads streams one after the other.
type reader struct {
	worker    int
	listener  Listener
	in, plain []byte
}

func newReader(worker, size int, l Listener) *reader {
	return &reader{worker: worker, listener: l, in: make([]byte, size)}
}

// got takes the first n bytes of in.
func (r *reader) got(s *stream, n int) (err error) {
	at := time.Now()
	r.plain, err = s.take(r.in[:n], r.plain, func(data []byte) { r.listener.Heard(r.worker, s.i, data, at) })
	return err
}

// Listen is an Audience's.
func (a *Streams) Listen(l Listener) {
	polled := make([][]*stream, runtime.GOMAXPROCS(0))
	for n, s := range a.streams {
		if s.conn == nil {
			polled[n%len(polled)] = append(polled[n%len(polled)], s)
			continue
		}
		a.readers.Go(func() {
			r := newReader(n, 4<<10, l)
			for {
				n, err := s.conn.Read(r.in)
				if err == nil {
					err = r.got(s, n)
				}
				if err != nil {
					a.failed(l, s, err)
					return
				}
			}
		})
	}
	stop, err := a.poll(polled, l)
	a.stop = stop
	if err != nil {
		l.Failed(0, err)
	}
}

func (a *Streams) failed(l Listener, s *stream, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		l.Failed(s.i, fmt.Errorf("the stream ended: %w", err))
	}
}

// Close is an Audience's.
func (a *Streams) Close() {
	a.mu.Lock()
	a.over = true
	a.mu.Unlock()
	if a.stop != nil {
		a.stop()
	}
	for _, s := range a.streams {
		if s.conn != nil {
			s.conn.Close()
		}
	}
	a.readers.Wait()
	for _, s := range a.streams {
		if s.conn == nil {
			closeDetached(s.fd)
		}
	}
	a.streams = nil
}
