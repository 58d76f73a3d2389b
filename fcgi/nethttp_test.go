package fcgi

// What net/http/fcgi as an engine shares with the other one. Its requests and responses are
// compared in FuzzEngines.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"tandem/internal/gateway"
)

func serveNetHTTP(t *testing.T, h http.HandlerFunc) *running {
	return serve(t, &Server{Handler: h, NetHTTP: true})
}

func TestNetHTTPFullDuplex(t *testing.T) {
	s := serveNetHTTP(t, echoLines).dial(t)
	for id := range uint16(3) {
		s.open(id+1, flagKeepConn, post...)
		s.stdin(id+1, "one")
		if h := s.stdout(id+1, "echo:one"); !strings.HasPrefix(h, "Status: 200 OK\r\n") {
			t.Errorf("header %q", h)
		}
		s.stdin(id+1, "two")
		s.stdout(id+1, "echo:two")
		s.stdin(id+1, "")
		if out, end := s.response(id + 1); out != "end:EOF" || end != complete {
			t.Errorf("got %q, %q", out, end)
		}
	}
	s.open(9, 0, post...)
	s.stdin(9, "")
	s.response(9)
	s.closed()
}

func TestNetHTTPFlushSendsTheHeader(t *testing.T) {
	s := serveNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Status", "999")
		w.Header().Set("X-A", gateway.Of(r).Vars["SCRIPT_NAME"])
		w.WriteHeader(http.StatusAccepted)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}).dial(t)
	s.open(1, 0, post...)
	s.stdin(1, "x")
	if h := s.stdout(1, "\r\n\r\n"); !strings.HasPrefix(h, "Status: 202 Accepted\r\n") || !strings.Contains(h, "X-A: /app\r\n") || strings.Contains(h, "999") {
		t.Errorf("header %q", h)
	}
	s.stdin(1, "")
	s.response(1)
}

// A request's context says why it has ended, and so does its body.
func TestNetHTTPCauses(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(s *speaker)
		want error
	}{
		{"abort", func(s *speaker) { s.send(appendRecord(nil, typeAbortRequest, 1, nil)) }, ErrRequestAborted},
		{"closed", func(s *speaker) { s.nc.Close() }, ErrConnClosed},
		{"closed within a record", func(s *speaker) { s.send([]byte{1, 5, 0}); s.nc.Close() }, io.ErrUnexpectedEOF},
	} {
		for _, keep := range []byte{0, flagKeepConn} {
			t.Run(fmt.Sprintf("%s, keep %d", tt.name, keep), func(t *testing.T) {
				started, body, cause := make(chan struct{}), make(chan error, 1), make(chan error, 1)
				r := serveNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
					close(started)
					_, err := io.Copy(io.Discard, r.Body)
					body <- err
					<-r.Context().Done()
					cause <- context.Cause(r.Context())
				})
				s := r.dial(t)
				s.open(1, keep, post...)
				s.stdin(1, "x")
				wait(t, "handler", started)
				tt.cut(s)
				if err := wait(t, "body", body); !errors.Is(err, tt.want) {
					t.Errorf("body: %v", err)
				}
				if err := wait(t, "cause", cause); !errors.Is(err, tt.want) {
					t.Errorf("cause: %v", err)
				}
				if tt.want != ErrRequestAborted {
					return
				}
				if out, end := s.response(1); out != "" || end != complete {
					t.Errorf("got %q, %q", out, end)
				}
				if recs := s.closed(); len(recs) > 0 {
					t.Errorf("after END_REQUEST: %+v", recs)
				}
			})
		}
	}
}

func TestNetHTTPWriteDeadlineUnblocksWrite(t *testing.T) {
	full, got := make(chan *http.ResponseController, 1), make(chan [3]error, 1)
	s := serveNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		full <- rc
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
		got <- [3]error{err, rc.Flush(), context.Cause(r.Context())}
	}).dial(t)
	s.open(1, 0, post...)
	s.stdin(1, "")
	rc := wait(t, "handler", full)
	if err := rc.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, err := range wait(t, "write", got) {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d: got %v", i, err)
		}
	}
}

// The response is whole though its request's body isn't at its end.
func TestNetHTTPReadDeadline(t *testing.T) {
	reading, got := make(chan *http.ResponseController, 1), make(chan error, 1)
	s := serveNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(time.Hour))
		_ = rc.SetReadDeadline(time.Time{})
		_, _ = io.ReadFull(r.Body, make([]byte, 1))
		reading <- rc
		_, err := r.Body.Read(make([]byte, 1))
		got <- err
		fmt.Fprint(w, "fine")
	}).dial(t)
	s.open(1, 0, post...)
	s.stdin(1, "x")
	rc := wait(t, "handler", reading)
	if err := rc.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, "read", got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	s.stdin(1, "dropped")
	if out, end := s.response(1); !strings.HasSuffix(out, "fine") || end != complete {
		t.Errorf("got %q, %q", out, end)
	}
	s.stdin(1, "dropped too")
	s.closed()
}

func TestNetHTTPPanics(t *testing.T) {
	for _, tt := range []struct {
		name   string
		h      http.HandlerFunc
		prefix string // empty: the response is cut
		logged int
	}{
		{"before the header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Secret", "1")
			w.WriteHeader(http.StatusCreated)
			panic("boom")
		}, "Status: 500 ", 1},
		{"after a flush", func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			panic("boom")
		}, "", 1},
		{"Goexit", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, "", 0},
		{"ErrAbortHandler", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "Status: 500 ", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := serveNetHTTP(t, tt.h)
			s := r.dial(t)
			s.open(1, 0, post...)
			s.stdin(1, "")
			if tt.prefix == "" {
				for _, rec := range s.closed() {
					if rec.typ == typeEndRequest {
						t.Errorf("END_REQUEST %+v", rec)
					}
				}
			} else if out, _ := s.response(1); !strings.HasPrefix(out, tt.prefix) || strings.Contains(out, "Secret") {
				t.Errorf("got %q", out)
			}
			if n := len(r.log.lines("panic in the handler")); n != tt.logged {
				t.Errorf("%d log lines of the panic, want %d: %s", n, tt.logged, r.log)
			}
		})
	}
}

func TestNetHTTPOneAtATime(t *testing.T) {
	s := serveNetHTTP(t, echoLines).dial(t)
	s.open(1, flagKeepConn, post...)
	s.stdin(1, "x")
	s.stdout(1, "echo:x")
	s.open(2, flagKeepConn, post...)
	if out, end := s.response(2); out != "" || end[4] != statusCantMultiplex {
		t.Errorf("got %q, %q", out, end)
	}
	s.stdin(1, "y")
	s.stdout(1, "echo:y")
	s.send(beginRecord(1, roleResponder, 0))
	s.closed()
}

// HAProxy begins the next request before it has seen the end of one that it knows to be
// complete.
func TestNetHTTPNextBeforeTheEnd(t *testing.T) {
	answered, leave := make(chan struct{}), make(chan struct{})
	s := serveNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
		_ = http.NewResponseController(w).Flush()
		answered <- struct{}{}
		<-leave
	}).dial(t)
	for id := range uint16(3) {
		s.open(id+1, flagKeepConn, post...)
		s.stdin(id+1, "x")
		s.stdin(id+1, "")
		if id > 0 {
			leave <- struct{}{}
			if _, end := s.response(id); end != complete {
				t.Errorf("request %d: %q", id, end)
			}
		}
		wait(t, "answer", answered)
		s.stdout(id+1, "\r\n\r\nx")
	}
	leave <- struct{}{}
	s.response(3)
}

func TestNetHTTPShutdownWaits(t *testing.T) {
	started := make(chan struct{})
	r := serveNetHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		_, _ = io.Copy(w, r.Body)
	})
	idle, s := r.dial(t), r.dial(t)
	s.open(1, flagKeepConn, post...)
	s.stdin(1, "x")
	wait(t, "handler", started)
	ended := make(chan error, 1)
	go func() { ended <- r.Shutdown(t.Context()) }()
	idle.closed()
	s.stdin(1, "")
	if out, end := s.response(1); !strings.HasSuffix(out, "x") || end != complete {
		t.Errorf("got %q, %q", out, end)
	}
	s.closed()
	if err := wait(t, "Shutdown", ended); err != nil {
		t.Error(err)
	}
}

func TestNetHTTPLimits(t *testing.T) {
	r := serve(t, &Server{Handler: http.HandlerFunc(echoLines), NetHTTP: true, MaxParams: 1000, MaxConns: 1, ParamsTimeout: 100 * time.Millisecond})
	s := r.dial(t)
	s.open(1, flagKeepConn, post...)
	s.stdin(1, "x")
	s.stdout(1, "echo:x")
	second := r.dial(t)
	second.open(1, 0, post...)
	second.stdin(1, "")
	if out, _ := second.response(1); !strings.HasPrefix(out, "Status: 503 ") {
		t.Errorf("beyond MaxConns: %q", out)
	}
	second.closed()
	s.stdin(1, "")
	s.response(1)
	s.send(appendRecord(beginRecord(2, roleResponder, flagKeepConn), typeParams, 2, make([]byte, 1001)))
	s.closed()
	r.log.waitFor(t, "max_params")
	for r.isServing() {
		runtime.Gosched()
	}
	s = r.dial(t)
	s.send(beginRecord(1, roleResponder, 0))
	s.closed()
	r.log.waitFor(t, "no complete params in time")
}

func (r *running) isServing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serving > 0
}
