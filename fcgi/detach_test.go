package fcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"tandem/internal/gateway"
)

// tape is a Sink that tells what it gets.
type tape struct{ got chan string }

func (s tape) Input(p []byte)   { s.got <- string(p) }
func (s tape) End()             { s.got <- "end" }
func (s tape) Turn(func())      {}
func (s tape) Lost(cause error) { s.got <- "lost: " + cause.Error() }

// detached serves requests whose handler returns at once. What each leaves behind
// comes over the channel.
type detached struct {
	http.ResponseWriter
	in     tape
	finish func()
}

func serveDetached(t *testing.T, before func(*http.Request)) (*running, <-chan detached) {
	requests := make(chan detached, 8)
	return serve(t, &Server{Detach: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before(r)
		}
		d := detached{ResponseWriter: w, in: tape{make(chan string, 100)}}
		var ok bool
		if d.finish, ok = w.(gateway.Detacher).Detach(d.in); !ok {
			t.Error("the server does not detach")
			return
		}
		requests <- d
	})}), requests
}

// TestDetach: a request goes on without its handler, both ways; what came before it
// was detached comes, too.
func TestDetach(t *testing.T) {
	detach := make(chan bool)
	s, requests := serveDetached(t, func(r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 1))
		<-detach
	})
	c := s.dial(t)
	c.open(1, flagKeepConn, post...)
	c.stdin(1, "one")
	c.send(appendRecord(nil, typeGetValues, 0, pairs("FCGI_MPXS_CONNS", "")))
	if r, err := c.next(); err != nil || r.typ != typeGetValuesResult { // so what was sent before has been read
		t.Fatalf("%+v %v", r, err)
	}
	detach <- true
	d := wait(t, "the request", requests)
	c.stdin(1, "two")
	for _, want := range []string{"ne", "two"} {
		if got := wait(t, "input", d.in.got); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	fmt.Fprint(d, "answer")
	http.NewResponseController(d.ResponseWriter).Flush()
	c.stdout(1, "answer")
	c.stdin(1, "")
	if got := wait(t, "the end", d.in.got); got != "end" {
		t.Errorf("got %q", got)
	}
	fmt.Fprint(d, " and more")
	d.finish()
	if out, _ := c.response(1); out != " and more" {
		t.Errorf("the rest is %q", out)
	}
	if _, err := d.Write([]byte("x")); err == nil {
		t.Error("a finished response can be written to")
	}
}

// TestDetachedLost: the web server aborts, or is gone, before or after the body's end,
// or takes nothing.
func TestDetachedLost(t *testing.T) {
	for name, tt := range map[string]struct {
		lose func(c *speaker)
		want string
	}{
		"abort":           {func(c *speaker) { c.send(appendRecord(nil, typeAbortRequest, 1, nil)) }, ErrRequestAborted.Error()},
		"hang up":         {func(c *speaker) { c.nc.Close() }, ErrConnClosed.Error()},
		"within a record": {func(c *speaker) { c.send([]byte{1, typeStdin, 0, 1, 0, 9, 0, 0, 'x'}); c.nc.Close() }, ErrConnClosed.Error()},
		"after the end":   {func(c *speaker) { c.stdin(1, ""); c.nc.Close() }, ErrConnClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s, requests := serveDetached(t, nil)
			c := s.dial(t)
			c.open(1, 0, post...)
			d := wait(t, "the request", requests)
			tt.lose(c)
			for {
				got := wait(t, "the loss", d.in.got)
				if got == "end" || got == "x" {
					continue
				}
				if !strings.Contains(got, tt.want) {
					t.Errorf("got %q, want lost: %s", got, tt.want)
				}
				break
			}
			if err := http.NewResponseController(d.ResponseWriter).Flush(); err == nil {
				t.Error("the response can still be written")
			}
			d.finish()
		})
	}
}

// TestDetachedWriteFails: who writes in vain hears of it, and the sink does.
func TestDetachedWriteFails(t *testing.T) {
	s, requests := serveDetached(t, nil)
	c := s.dial(t)
	c.open(1, 0, post...)
	d := wait(t, "the request", requests)
	rc := http.NewResponseController(d.ResponseWriter)
	rc.SetWriteDeadline(time.Now().Add(-time.Second))
	fmt.Fprint(d, "x")
	if err := rc.Flush(); err == nil {
		t.Error("a write after its deadline is no error")
	}
	if got := wait(t, "the loss", d.in.got); !strings.HasPrefix(got, "lost: ") {
		t.Errorf("got %q", got)
	}
	d.finish()
	c.closed()
}

// TestShutdownWaitsForDetached: a request without a handler is open all the same.
func TestShutdownWaitsForDetached(t *testing.T) {
	s, requests := serveDetached(t, nil)
	c := s.dial(t)
	c.open(1, 0, post...)
	d := wait(t, "the request", requests)
	ctx, cancel := context.WithCancel(context.Background())
	down := make(chan error)
	go func() { down <- s.Shutdown(ctx) }()
	cancel()
	if err := wait(t, "Shutdown", down); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown did not wait: %v", err)
	}
	d.finish()
	go func() { down <- s.Shutdown(context.Background()) }()
	c.closed()
	if err := wait(t, "Shutdown", down); err != nil {
		t.Error(err)
	}
}

// TestPanicAfterDetach: the sink hears of it, and ends the request.
func TestPanicAfterDetach(t *testing.T) {
	in := tape{make(chan string, 9)}
	finish := make(chan func(), 1)
	s := serve(t, &Server{Detach: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, _ := w.(gateway.Detacher).Detach(in)
		finish <- f
		panic("oh")
	})})
	c := s.dial(t)
	c.open(1, 0, post...)
	if got := wait(t, "the loss", in.got); !strings.HasPrefix(got, "lost: ") {
		t.Errorf("got %q", got)
	}
	(<-finish)()
	c.response(1)
	s.log.waitFor(t, "oh")
}

// TestNoDetach: unless the server is told, a handler has to stay.
func TestNoDetach(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(gateway.Detacher).Detach(tape{}); ok {
			t.Error("it was detached")
		}
		io.Copy(w, r.Body)
	})})
	c := s.dial(t)
	c.open(1, 0, post...)
	c.stdin(1, "echo")
	c.stdin(1, "")
	if out, _ := c.response(1); !strings.HasSuffix(out, "echo") {
		t.Errorf("response %q", out)
	}
}
