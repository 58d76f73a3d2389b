package fcgi

// The web server's side of the wire, for the tests: it says what it is told to,
// right or wrong.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns the log's lines that contain s.
func (l *logBuffer) lines(s string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, s) {
			found = append(found, line)
		}
	}
	return found
}

// waitFor waits until a line contains s: a log line is the only trace of some ends.
func (l *logBuffer) waitFor(t *testing.T, s string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if len(l.lines(s)) > 0 {
			return
		}
	}
	t.Fatalf("no line with %q in the log:\n%s", s, l)
}

// running is a server under test.
type running struct {
	*Server
	log  *logBuffer
	addr string
}

// serve starts s on a unix socket until the test ends.
func serve(t *testing.T, s *Server) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "fcgi") // t.TempDir's paths can be too long for a socket.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, l)
}

func serveOn(t *testing.T, s *Server, l net.Listener) *running {
	t.Helper()
	log := &logBuffer{}
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("connections are left after Close: %v", err)
		}
	})
	return &running{Server: s, log: log, addr: l.Addr().String()}
}

// speaker is one connection of a web server.
type speaker struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
}

func (r *running) dial(t *testing.T) *speaker {
	t.Helper()
	nc, err := net.Dial("unix", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	return speak(t, nc)
}

func speak(t *testing.T, nc net.Conn) *speaker {
	t.Cleanup(func() { nc.Close() })
	return &speaker{t: t, nc: nc, br: bufio.NewReader(nc)}
}

// send writes bytes as they are; what the server does about them is seen on reading.
func (s *speaker) send(b []byte) {
	s.nc.SetWriteDeadline(time.Now().Add(patience))
	_, _ = s.nc.Write(b)
}

func beginRecord(id uint16, role byte, flags byte) []byte {
	return appendRecord(nil, typeBeginRequest, id, []byte{0, role, flags, 0, 0, 0, 0, 0})
}

// pairs takes names and values in turn.
func pairs(kv ...string) []byte {
	var b []byte
	for i := 0; i < len(kv); i += 2 {
		b = appendPair(b, kv[i], kv[i+1])
	}
	return b
}

var post = []string{
	"REQUEST_METHOD", "POST", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/app/x?q=1", "SCRIPT_NAME", "/app", "QUERY_STRING", "q=1",
	"HTTP_HOST", "example.org", "CONTENT_TYPE", "text/plain", "SERVER_SOFTWARE", "speaker/1", "REMOTE_ADDR", "192.0.2.1", "REMOTE_USER", "ada",
}

// open begins a request and sends its params as a whole.
func (s *speaker) open(id uint16, flags byte, kv ...string) {
	s.send(openRecords(id, flags, kv...))
}

func openRecords(id uint16, flags byte, kv ...string) []byte {
	b := beginRecord(id, roleResponder, flags)
	b = appendRecord(b, typeParams, id, pairs(kv...))
	return appendRecord(b, typeParams, id, nil)
}

func (s *speaker) stdin(id uint16, data string) {
	s.send(appendRecord(nil, typeStdin, id, []byte(data)))
}

type rec struct {
	typ     uint8
	id      uint16
	content string
}

// next reads a record; io.EOF where the server has closed.
func (s *speaker) next() (rec, error) {
	s.nc.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, headerLen)
	if _, err := io.ReadFull(s.br, b); err != nil {
		return rec{}, err
	}
	h := parseHeader(b)
	content := make([]byte, h.length+h.padding)
	if _, err := io.ReadFull(s.br, content); err != nil {
		return rec{}, err
	}
	return rec{h.typ, h.id, string(content[:h.length])}, nil
}

// stdout reads STDOUT of request id up to where it contains want, and returns it.
func (s *speaker) stdout(id uint16, want string) string {
	s.t.Helper()
	var out strings.Builder
	for !strings.Contains(out.String(), want) {
		r, err := s.next()
		if err != nil || r.typ != typeStdout || r.id != id {
			s.t.Fatalf("waiting for %q on request %d: got record %+v, error %v, after %q", want, id, r, err, out.String())
		}
		out.WriteString(r.content)
	}
	return out.String()
}

// response reads STDOUT up to END_REQUEST, and returns it with the END_REQUEST's
// content.
func (s *speaker) response(id uint16) (out, end string) {
	s.t.Helper()
	var b strings.Builder
	for {
		r, err := s.next()
		if err != nil || r.id != id {
			s.t.Fatalf("got record %+v, error %v, after %q", r, err, b.String())
		}
		switch r.typ {
		case typeStdout:
			b.WriteString(r.content)
		case typeEndRequest:
			return b.String(), r.content
		default:
			s.t.Fatalf("got record %+v after %q", r, b.String())
		}
	}
}

// closed waits until the server has closed the connection, and returns the records
// that came before.
func (s *speaker) closed() []rec {
	s.t.Helper()
	var recs []rec
	for {
		r, err := s.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.t.Fatalf("the connection stays open, after %+v", recs)
		}
		if err != nil {
			return recs
		}
		recs = append(recs, r)
	}
}

// wait waits for a channel, up to patience.
func wait[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing in %v", what, patience)
		panic("unreachable")
	}
}
