package fcgi

import (
	"bytes"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// writeLog is a connection that takes note of what each Write was given.
type writeLog struct {
	net.Conn
	writes chan []byte
}

func (c *writeLog) Write(p []byte) (int, error) {
	c.writes <- bytes.Clone(p)
	return c.Conn.Write(p)
}

// written runs h for one request and returns the records of each write.
func written(t *testing.T, h http.HandlerFunc) [][]rec {
	t.Helper()
	l := newPipeListener()
	serveOn(t, &Server{Handler: h}, l)
	ours, theirs := net.Pipe()
	log := &writeLog{Conn: theirs, writes: make(chan []byte, 100)}
	l.accepts <- log
	s := speak(t, ours)
	s.open(1, 0, post...)
	s.response(1)
	s.nc.Close()
	close(log.writes) // END_REQUEST is the last record.
	var all [][]rec
	for b := range log.writes {
		var recs []rec
		for len(b) > 0 {
			h := parseHeader(b)
			if h.padding > 7 || (h.length+h.padding)%8 != 0 {
				t.Errorf("record of %d bytes with %d of padding", h.length, h.padding)
			}
			recs = append(recs, rec{h.typ, h.id, string(b[headerLen : headerLen+h.length])})
			b = b[headerLen+h.length+h.padding:]
		}
		all = append(all, recs)
	}
	return all
}

// shape tells the records of each write: STDOUT by the length of its content, less
// that of the response's header, others by minus their type.
func shape(writes [][]rec) [][]int {
	var all [][]int
	for i, recs := range writes {
		var one []int
		for j, r := range recs {
			if i == 0 && j == 0 {
				_, r.content, _ = strings.Cut(r.content, "\r\n\r\n")
			}
			n := len(r.content)
			if r.typ != typeStdout {
				n = -int(r.typ)
			}
			one = append(one, n)
		}
		all = append(all, one)
	}
	return all
}

func TestWrites(t *testing.T) {
	const end = -typeEndRequest
	full := largeBuffer - headerLen
	header := len("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n")
	for _, tt := range []struct {
		name string
		h    func(w http.ResponseWriter, rc *http.ResponseController)
		want [][]int // for each write the content's lengths of its records
	}{
		{"nothing", func(http.ResponseWriter, *http.ResponseController) {}, [][]int{{0, 0, end}}},
		{"short", func(w http.ResponseWriter, _ *http.ResponseController) { _, _ = w.Write(make([]byte, 100)) }, [][]int{{100, 0, end}}},
		{"header alone", func(_ http.ResponseWriter, rc *http.ResponseController) { _ = rc.Flush(); _ = rc.Flush() }, [][]int{{0}, {0, end}}},
		{"pieces", func(w http.ResponseWriter, rc *http.ResponseController) {
			for range 3 {
				_, _ = w.Write(make([]byte, 5))
				_, _ = w.Write(nil)
				_, _ = w.Write(make([]byte, 6))
				_ = rc.Flush()
			}
		}, [][]int{{11}, {11}, {11}, {0, end}}},
		{"more than a small buffer", func(w http.ResponseWriter, rc *http.ResponseController) {
			_, _ = w.Write(make([]byte, 4000))
			_, _ = w.Write(make([]byte, 4000))
			_ = rc.Flush()
		}, [][]int{{8000}, {0, end}}},
		{"more than a record", func(w http.ResponseWriter, rc *http.ResponseController) { _, _ = w.Write(make([]byte, 150_000)) },
			[][]int{{full - header}, {full}, {150_000 - 2*full + header, 0, end}}},
		{"a full record", func(w http.ResponseWriter, rc *http.ResponseController) {
			_ = rc.Flush()
			_, _ = w.Write(make([]byte, full))
		}, [][]int{{0}, {full}, {0, end}}},
		{"a record with no room for the end", func(w http.ResponseWriter, rc *http.ResponseController) {
			_ = rc.Flush()
			_, _ = w.Write(make([]byte, full-endRequestLen-1))
		}, [][]int{{0}, {full - endRequestLen - 1}, {0, end}}},
	} {
		got := shape(written(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			tt.h(w, http.NewResponseController(w))
		}))
		if !slices.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestResponseHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		want string
	}{
		{"sorted, one line each", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{"x/y"}
			w.Header()["B"] = []string{"1\r\nInjected: yes", "2"}
			w.Header()["A"] = []string{"n\nn"}
			w.Header()["bad name\r\n"] = []string{"x"}
			w.Header().Set("Status", "500 Mine")
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		}, "Status: 418 I'm a teapot\r\nA: n n\r\nB: 1  Injected: yes\r\nB: 2\r\nContent-Type: x/y\r\n\r\n"},
		{"type from the body", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
			"Status: 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>"},
		{"no type wanted", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = w.Write([]byte("<html>"))
		}, "Status: 200 OK\r\n\r\n<html>"},
		{"not modified", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "Status: 304 Not Modified\r\n\r\n"},
		{"informational", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNoContent)
		}, "Status: 204 No Content\r\n\r\n"},
		{"set too late", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("x"))
			w.Header().Set("A", "b")
			w.WriteHeader(http.StatusTeapot)
		}, "Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx"},
		{"Goexit before it", func(http.ResponseWriter, *http.Request) { runtime.Goexit() },
			"Status: 500 Internal Server Error\r\nCache-Control: no-store\r\nContent-Type: application/problem+json\r\n\r\n" +
				`{"title":"Internal Server Error","status":500,"detail":"The application failed. Its log says why."}` + "\n"},
	} {
		s := serve(t, &Server{Handler: tt.h}).dial(t)
		s.open(1, 0, post...)
		if out, _ := s.response(1); out != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, out, tt.want)
		}
	}
}

// A header larger than a record is sent whole.
func TestLargeHeader(t *testing.T) {
	large := strings.Repeat("x", 3*largeBuffer)
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", large) })}).dial(t)
	s.open(1, 0, post...)
	if out, _ := s.response(1); !strings.Contains(out, "\r\nX: "+large+"\r\n\r\n") {
		t.Errorf("got %d bytes", len(out))
	}
}

// What is flushed leaves no buffer behind.
func TestIdleHoldsNoBuffer(t *testing.T) {
	held, next := make(chan bool), make(chan struct{})
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		rw := w.(*response)
		for _, n := range []int{0, 1, 5000, 200_000} {
			_, _ = w.Write(make([]byte, n))
			_ = rw.FlushError()
			held <- rw.out.b != nil
		}
		close(next)
	})}).dial(t)
	s.open(1, 0, post...)
	out := make(chan string, 1)
	go func() {
		var b strings.Builder
		for {
			r, err := s.next()
			if err != nil || r.typ == typeEndRequest {
				break
			}
			b.WriteString(r.content)
		}
		out <- b.String()
	}()
	for range 4 {
		if wait(t, "flush", held) {
			t.Error("a buffer is held")
		}
	}
	wait(t, "handler", next)
	if _, body, _ := strings.Cut(wait(t, "response", out), "\r\n\r\n"); len(body) != 205_001 {
		t.Errorf("got %d bytes", len(body))
	}
}
