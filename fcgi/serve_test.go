package fcgi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/internal/gateway"
)

// echoLines answers each line at once.
func echoLines(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return
	}
	buf := make([]byte, 1024)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			fmt.Fprintf(w, "echo:%s", buf[:n])
			if err := rc.Flush(); err != nil {
				return
			}
		}
		if err != nil {
			fmt.Fprintf(w, "end:%v", err)
			return
		}
	}
}

const complete = "\x00\x00\x00\x00\x00\x00\x00\x00" // END_REQUEST's content

func TestFullDuplex(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(echoLines)}).dial(t)
	s.open(1, 0, post...)
	// The header comes before any byte of the body was sent.
	if h := s.stdout(1, "\r\n\r\n"); !strings.HasPrefix(h, "Status: 200 OK\r\n") {
		t.Errorf("header %q", h)
	}
	s.stdin(1, "one")
	s.stdout(1, "echo:one")
	s.stdin(1, "two")
	s.stdout(1, "echo:two")
	s.stdin(1, "")
	out, end := s.response(1)
	if out != "end:EOF" || end != complete {
		t.Errorf("got %q, %q", out, end)
	}
	if recs := s.closed(); len(recs) > 0 {
		t.Errorf("records after END_REQUEST: %+v", recs)
	}
}

func TestRequestAndInfo(t *testing.T) {
	type seen struct {
		r    *http.Request
		info *gateway.Info
	}
	got := make(chan seen, 1)
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- seen{r, gateway.Of(r)}
	})}).dial(t)
	// Params in two records, cut within a name, and the body of unknown length.
	p := pairs(slices.Concat(post, []string{"HTTP_X_A", "b", "CONTENT_LENGTH", ""})...)
	b := beginRecord(1, roleResponder, 0)
	b = appendRecord(b, typeParams, 1, p[:20])
	b = appendRecord(b, typeParams, 1, p[20:])
	b = appendRecord(b, typeParams, 1, nil)
	s.send(appendRecord(b, typeStdin, 1, nil))
	g := wait(t, "handler", got)
	if g.r.Method != "POST" || g.r.URL.Path != "/app/x" || g.r.Host != "example.org" || g.r.Header.Get("X-A") != "b" || g.r.ContentLength != -1 {
		t.Errorf("request %+v", g.r)
	}
	if g.info.Interface != gateway.FastCGI || g.info.Software != "speaker/1" || g.info.User != "ada" {
		t.Errorf("info %+v", g.info)
	}
	for k, v := range map[string]string{"REQUEST_METHOD": "POST", "SCRIPT_NAME": "/app", "QUERY_STRING": "q=1", "REMOTE_ADDR": "192.0.2.1", "REMOTE_USER": "ada", "HTTP_X_A": ""} {
		if g.info.Vars[k] != v {
			t.Errorf("Vars[%s] = %q, want %q", k, g.info.Vars[k], v)
		}
	}
	s.response(1)
}

func TestKeepConn(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(echoLines)}).dial(t)
	for id := range uint16(3) {
		s.open(id+1, flagKeepConn, post...)
		s.stdin(id+1, "x")
		s.stdin(id+1, "")
		if out, end := s.response(id + 1); !strings.HasSuffix(out, "end:EOF") || end != complete {
			t.Errorf("request %d: %q, %q", id+1, out, end)
		}
	}
	s.open(9, 0, post...)
	s.stdin(9, "")
	s.response(9)
	s.closed()
}

// causes runs requests whose handler tells, by the request's path, why its context
// was cancelled.
func causes() (http.Handler, <-chan struct{}, <-chan error) {
	started, cause := make(chan struct{}, 16), make(chan error, 16)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		started <- struct{}{}
		<-r.Context().Done()
		cause <- context.Cause(r.Context())
	}), started, cause
}

func TestAbort(t *testing.T) {
	for _, keep := range []byte{0, flagKeepConn} {
		for _, ended := range []bool{false, true} {
			t.Run(fmt.Sprintf("keep %d, body ended %v", keep, ended), func(t *testing.T) {
				h, started, cause := causes()
				s := serve(t, &Server{Handler: h}).dial(t)
				s.open(1, keep, post...)
				if ended {
					s.stdin(1, "")
				}
				wait(t, "handler", started)
				s.stdout(1, "\r\n\r\n")
				s.send(appendRecord(nil, typeAbortRequest, 1, nil))
				if err := wait(t, "cause", cause); !errors.Is(err, ErrRequestAborted) {
					t.Errorf("cause %v", err)
				}
				// END_REQUEST, and nothing of the handler's after it.
				if out, end := s.response(1); out != "" || end != complete {
					t.Errorf("got %q, %q", out, end)
				}
				if keep == 0 {
					if recs := s.closed(); len(recs) > 0 {
						t.Errorf("after END_REQUEST: %+v", recs)
					}
					return
				}
				s.open(1, 0, post...)
				wait(t, "next request", started)
			})
		}
	}
}

func TestAbortOfOneOfTwo(t *testing.T) {
	h, started, cause := causes()
	mux := http.NewServeMux()
	mux.Handle("/abort", h)
	mux.HandleFunc("/echo", echoLines)
	s := serve(t, &Server{Handler: mux}).dial(t)
	s.open(1, flagKeepConn, "REQUEST_METHOD", "POST", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/abort")
	wait(t, "handler", started)
	s.stdout(1, "\r\n\r\n")
	s.open(2, flagKeepConn, "REQUEST_METHOD", "POST", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/echo")
	s.stdout(2, "\r\n\r\n")
	s.send(appendRecord(nil, typeAbortRequest, 1, nil))
	wait(t, "cause", cause)
	s.response(1)
	s.stdin(2, "still here")
	s.stdout(2, "echo:still here")
	s.stdin(2, "")
	if out, _ := s.response(2); out != "end:EOF" {
		t.Errorf("got %q", out)
	}
}

func TestAbortDuringParams(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(echoLines)}).dial(t)
	s.send(beginRecord(1, roleResponder, flagKeepConn))
	s.send(appendRecord(nil, typeAbortRequest, 1, nil))
	if out, end := s.response(1); out != "" || end != complete {
		t.Errorf("got %q, %q", out, end)
	}
}

func TestConnectionClosed(t *testing.T) {
	for _, body := range []string{"none read", "full"} {
		t.Run(body, func(t *testing.T) {
			h, started, cause := causes()
			s := serve(t, &Server{Handler: h}).dial(t)
			s.open(1, 0, post...)
			wait(t, "handler", started)
			if body == "full" {
				// More than is read ahead, and less than fits with the socket's buffer.
				for range BodyBuffer/maxContent + 2 {
					s.stdin(1, strings.Repeat("x", maxContent))
				}
			}
			s.nc.Close()
			if err := wait(t, "cause", cause); !errors.Is(err, ErrConnClosed) {
				t.Errorf("cause %v", err)
			}
		})
	}
}

func TestBodyKeepsWhatCameBeforeTheCut(t *testing.T) {
	type read struct {
		data string
		err  error
	}
	got, started := make(chan read, 1), make(chan struct{})
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		b, err := io.ReadAll(r.Body)
		got <- read{string(b), err}
	})}).dial(t)
	s.open(1, 0, post...)
	s.stdin(1, "last words")
	wait(t, "handler", started)
	s.nc.Close()
	if r := wait(t, "body", got); r.data != "last words" || !errors.Is(r.err, ErrConnClosed) {
		t.Errorf("got %+v", r)
	}
}

func TestWriteDeadlineUnblocksWrite(t *testing.T) {
	type result struct{ write, flush, cause error }
	full, got := make(chan *http.ResponseController, 1), make(chan result, 1)
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		full <- rc
		var res result
		for res.write == nil {
			_, res.write = w.Write(make([]byte, 1<<20))
		}
		res.flush = rc.Flush()
		res.cause = context.Cause(r.Context())
		got <- res
	})}).dial(t)
	s.open(1, 0, post...)
	rc := wait(t, "handler", full)
	if err := rc.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	res := wait(t, "write", got)
	for _, err := range []error{res.write, res.flush, res.cause} {
		if !errors.Is(err, ErrWrite) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
}

// The deadline of one request is not that of the connection.
func TestWriteDeadlineOfOneOfTwo(t *testing.T) {
	got := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Now().Add(-time.Second))
		got <- rc.Flush()
	})
	mux.HandleFunc("/app/x", echoLines)
	s := serve(t, &Server{Handler: mux}).dial(t)
	s.open(1, flagKeepConn, post...)
	s.stdout(1, "\r\n\r\n")
	s.open(2, flagKeepConn, "REQUEST_METHOD", "POST", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/late")
	if err := wait(t, "flush", got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("flush: %v", err)
	}
	if out, _ := s.response(2); out != "" {
		t.Errorf("got %q", out)
	}
	s.stdin(1, "x")
	s.stdout(1, "echo:x")
}

// Two goroutines of a handler may use the response at once.
func TestConcurrentWrites(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		done := make(chan struct{})
		for range 2 {
			go func() {
				for range 100 {
					fmt.Fprint(w, "xy")
					_ = rc.Flush()
					_ = rc.SetWriteDeadline(time.Now().Add(time.Hour))
				}
				done <- struct{}{}
			}()
		}
		<-done
		<-done
	})}).dial(t)
	s.open(1, 0, post...)
	out, _ := s.response(1)
	if _, body, _ := strings.Cut(out, "\r\n\r\n"); body != strings.Repeat("xy", 200) {
		t.Errorf("got %q", body)
	}
}

func TestReadDeadlineUnblocksRead(t *testing.T) {
	reading, got := make(chan *http.ResponseController, 1), make(chan error, 3)
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		reading <- rc
		for range 2 {
			_, err := r.Body.Read(make([]byte, 1))
			got <- err
		}
		// Taken away, reads work again.
		_ = rc.SetReadDeadline(time.Time{})
		_, err := r.Body.Read(make([]byte, 1))
		got <- err
		fmt.Fprint(w, "fine")
	})}).dial(t)
	s.open(1, 0, post...)
	rc := wait(t, "handler", reading)
	if err := rc.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := wait(t, "read", got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	s.stdin(1, "x")
	if err := wait(t, "read", got); err != nil {
		t.Errorf("after the deadline was taken away: %v", err)
	}
	if out, _ := s.response(1); !strings.HasSuffix(out, "fine") {
		t.Errorf("got %q", out)
	}
}

func TestPanics(t *testing.T) {
	for _, tt := range []struct {
		name   string
		h      http.HandlerFunc
		prefix string
		logged int
	}{
		{"before the header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Secret", "1")
			w.WriteHeader(http.StatusCreated)
			panic("boom")
		}, "Status: 500 ", 1},
		{"after a write", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "partial")
			panic("boom")
		}, "Status: 200 ", 1},
		{"Goexit", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			runtime.Goexit()
		}, "Status: 200 ", 0},
		{"ErrAbortHandler", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "Status: 500 ", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/app/x", tt.h)
			mux.HandleFunc("/echo", echoLines)
			r := serve(t, &Server{Handler: mux})
			s := r.dial(t)
			s.open(2, 0, "REQUEST_METHOD", "POST", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/echo")
			s.stdout(2, "\r\n\r\n")
			s.open(1, 0, post...)
			out, end := s.response(1)
			if !strings.HasPrefix(out, tt.prefix) || strings.Contains(out, "Secret") || end != "\x00\x00\x00\x01\x00\x00\x00\x00" {
				t.Errorf("got %q, %q", out, end)
			}
			if n := len(r.log.lines("panic in the handler")); n != tt.logged {
				t.Errorf("%d log lines of the panic, want %d: %s", n, tt.logged, r.log)
			}
			if tt.logged > 0 && !strings.Contains(r.log.String(), "serve_test.go") {
				t.Errorf("no stack in the log: %s", r.log)
			}
			// The other request on this connection goes on.
			s.stdin(2, "x")
			s.stdout(2, "echo:x")
			s.stdin(2, "")
			s.response(2)
			s.closed()
		})
	}
}

// The web server is still sending its body when the handler has long returned:
// neither the response is lost, nor does the server wait for the body's end.
func TestBodyLeftUnread(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "enough")
	})}).dial(t)
	s.open(1, 0, post...)
	for range 40 {
		s.stdin(1, strings.Repeat("x", 16<<10))
	}
	if out, end := s.response(1); !strings.HasSuffix(out, "enough") || end != complete {
		t.Errorf("got %q, %q", out, end)
	}
	s.closed()
}

func TestUseAfterReturn(t *testing.T) {
	var w http.ResponseWriter
	var r *http.Request
	s := serve(t, &Server{Handler: http.HandlerFunc(func(hw http.ResponseWriter, hr *http.Request) { w, r = hw, hr })}).dial(t)
	s.open(1, flagKeepConn, post...)
	s.response(1)
	if _, err := w.Write([]byte("late")); err == nil {
		t.Error("Write worked")
	}
	if err := http.NewResponseController(w).Flush(); err == nil {
		t.Error("Flush worked")
	}
	if http.NewResponseController(w).SetWriteDeadline(time.Time{}) == nil || http.NewResponseController(w).SetReadDeadline(time.Time{}) == nil {
		t.Error("a deadline was set")
	}
	if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("Read: %v", err)
	}
	if r.Context().Err() == nil {
		t.Error("the context isn't cancelled")
	}
}

func TestBigBodyBothWays(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}).dial(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		b := openRecords(1, 0, post...)
		for p := want; len(p) > 0; p = p[min(len(p), 65535):] {
			b = appendRecord(b, typeStdin, 1, p[:min(len(p), 65535)])
		}
		s.send(appendRecord(b, typeStdin, 1, nil))
	}()
	out, _ := s.response(1)
	<-sent
	_, got, _ := strings.Cut(out, "\r\n\r\n")
	if got != string(want) {
		t.Errorf("got %d bytes back of %d", len(got), len(want))
	}
}
