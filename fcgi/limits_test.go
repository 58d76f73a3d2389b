package fcgi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener hands out the connections it is given, and then errors.
type pipeListener struct {
	accepts chan any // net.Conn or error
	closed  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{accepts: make(chan any, 16), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case v := <-l.accepts:
		if err, ok := v.(error); ok {
			return nil, &net.OpError{Op: "accept", Net: "pipe", Err: err}
		}
		return v.(net.Conn), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// Params that don't become complete in time end the connection; a request whose
// body takes its time doesn't.
func TestParamsTimeout(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		ends bool
	}{
		{"nothing", nil, true},
		{"no params", beginRecord(1, roleResponder, 0), true},
		{"half a record", beginRecord(1, roleResponder, 0)[:9], true},
		{"complete", openRecords(1, 0, post...), false},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newPipeListener()
			r := serveOn(t, &Server{Handler: http.HandlerFunc(echoLines)}, l)
			ours, theirs := net.Pipe()
			defer ours.Close()
			l.accepts <- theirs
			if _, err := ours.Write(tt.in); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			ours.SetReadDeadline(start.Add(time.Hour))
			_, err := io.Copy(io.Discard, ours)
			if took := time.Since(start); tt.ends != (err == nil) || tt.ends && took != DefaultParamsTimeout {
				t.Errorf("%s: ended after %v: %v", tt.name, took, err)
			}
			if n := len(r.log.lines("no complete params")); tt.ends != (n == 1) {
				t.Errorf("%s: log: %s", tt.name, r.log)
			}
		})
	}
}

// A web server that takes nothing can't hold a finished request for good.
func TestFinishIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}
		serveOn(t, s, l)
		ours, theirs := net.Pipe()
		defer ours.Close()
		l.accepts <- theirs
		if _, err := ours.Write(openRecords(1, 0, post...)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		synctest.Wait()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Second || took > 2*finishTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

func TestLingerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		serveOn(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}, l)
		ours, theirs := net.Pipe()
		defer ours.Close()
		l.accepts <- theirs
		s := &speaker{t: t, nc: ours, br: bufio.NewReader(ours)}
		s.open(1, 0, post...)
		s.response(1)
		start := time.Now()
		s.closed()
		if took := time.Since(start); took > lingerTime {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		r := serveOn(t, &Server{Handler: http.HandlerFunc(echoLines)}, l)
		start := time.Now()
		errs := []error{os.NewSyscallError("accept4", syscall.EMFILE), syscall.EMFILE, syscall.ECONNABORTED, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE}
		for _, err := range errs {
			l.accepts <- err
		}
		ours, theirs := net.Pipe()
		defer ours.Close()
		l.accepts <- theirs
		s := &speaker{t: t, nc: ours, br: bufio.NewReader(ours)}
		s.open(1, 0, post...)
		s.stdout(1, "\r\n\r\n")
		// 5 ms, doubled each time, at most 1 s.
		want := (5 + 10 + 20 + 40 + 80 + 160 + 320 + 640 + 1000 + 1000) * time.Millisecond
		if took := time.Since(start); took != want {
			t.Errorf("served after %v, want %v", took, want)
		}
		if n := len(r.log.lines("accept failed")); n != len(errs) {
			t.Errorf("%d log lines for %d errors", n, len(errs))
		}
	})
}

func TestAcceptErrorForGood(t *testing.T) {
	l := newPipeListener()
	gone := errors.New("gone for good")
	l.accepts <- gone
	if err := (&Server{}).Serve(l); !errors.Is(err, gone) {
		t.Errorf("Serve: %v", err)
	}
	l = newPipeListener()
	l.Close()
	if err := (&Server{}).Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve of a closed listener: %v", err)
	}
}

func TestMaxConns(t *testing.T) {
	r := serve(t, &Server{Handler: http.HandlerFunc(echoLines), MaxConns: 2})
	var held []*speaker
	for range 2 {
		s := r.dial(t)
		s.open(1, 0, post...)
		s.stdout(1, "\r\n\r\n")
		held = append(held, s)
	}
	s := r.dial(t)
	s.open(1, flagKeepConn, post...)
	out, _ := s.response(1)
	if !strings.HasPrefix(out, "Status: 503 ") || !strings.Contains(out, "Retry-After: ") || !strings.Contains(out, "max_connections") {
		t.Errorf("got %q", out)
	}
	s.closed()
	if n := len(r.log.lines("max_connections=2")); n != 1 {
		t.Errorf("log: %s", r.log)
	}
	for i, s := range held {
		s.stdin(1, strconv.Itoa(i))
		s.stdout(1, "echo:"+strconv.Itoa(i))
	}
	held[0].stdin(1, "")
	held[0].response(1)
	held[0].closed()
	// Its place is free once the server is through with it, which nothing shows outside.
	for end := time.Now().Add(patience); ; {
		s := r.dial(t)
		s.open(1, 0, post...)
		if r, err := s.next(); err == nil && strings.HasPrefix(r.content, "Status: 200") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no place became free")
		}
	}
}

// Beyond those that are answered, connections are closed at once.
func TestMaxRefusing(t *testing.T) {
	r := serve(t, &Server{Handler: http.HandlerFunc(echoLines), MaxConns: 1})
	first := r.dial(t)
	first.open(1, 0, post...)
	first.stdout(1, "\r\n\r\n")
	for range maxRefusing {
		r.dial(t)
	}
	last := r.dial(t)
	if recs := last.closed(); len(recs) > 0 {
		t.Errorf("got %+v", recs)
	}
	first.stdin(1, "x")
	first.stdout(1, "echo:x")
}

func TestAllowed(t *testing.T) {
	for list, ok := range map[string]bool{"": true, "127.0.0.1": true, "::ffff:127.0.0.1": true, "192.0.2.1,::1": false} {
		allowed, err := ParseAllowed(list)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r := serveOn(t, &Server{Handler: http.HandlerFunc(echoLines), Allowed: allowed}, l)
		for range 3 {
			nc, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			s := speak(t, nc)
			if ok {
				s.open(1, 0, post...)
				s.stdout(1, "\r\n\r\n")
			} else if recs := s.closed(); len(recs) > 0 {
				t.Errorf("%q: %+v", list, recs)
			}
		}
		if n := len(r.log.lines("isn't among those allowed")); (n == 0) != ok || n > 1 {
			t.Errorf("%q: %d log lines, want one at most: %s", list, n, r.log)
		}
	}
}

func TestShutdownWaits(t *testing.T) {
	r := serve(t, &Server{Handler: http.HandlerFunc(echoLines)})
	idle := r.dial(t)
	idle.open(1, flagKeepConn, post...)
	idle.stdin(1, "")
	idle.response(1)
	s := r.dial(t)
	s.open(1, flagKeepConn, post...)
	s.stdout(1, "\r\n\r\n")
	down := make(chan error, 1)
	go func() { down <- r.Shutdown(t.Context()) }()
	idle.closed()
	s.stdin(1, "x")
	s.stdout(1, "echo:x")
	select {
	case err := <-down:
		t.Errorf("Shutdown returned %v with a request open", err)
	default:
	}
	s.stdin(1, "")
	s.response(1)
	s.closed()
	s.nc.Close()
	if err := wait(t, "Shutdown", down); err != nil {
		t.Error(err)
	}
	if err := r.Serve(newPipeListener()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownGivesUpAndCloseCancels(t *testing.T) {
	h, started, cause := causes()
	r := serve(t, &Server{Handler: h})
	s := r.dial(t)
	s.open(1, 0, post...)
	wait(t, "handler", started)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, ctx.Err()) {
		t.Errorf("Shutdown: %v", err)
	}
	r.Close()
	if err := wait(t, "cause", cause); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("cause %v", err)
	}
}
