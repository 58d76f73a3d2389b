package fcgi

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestAbortsAtAnyMoment: a request aborted before its params end, with its handler
// running, and after it, many at once on one connection: ids come free, nothing stays open.
func TestAbortsAtAnyMoment(t *testing.T) {
	var running atomic.Int64
	s := serve(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		if r.URL.Query().Get("q") == "1" {
			<-r.Context().Done()
		}
	})})
	c := s.dial(t)
	ended := make(chan int)
	go func() {
		n := 0
		for {
			c.nc.SetReadDeadline(time.Now().Add(patience))
			var head [headerLen]byte
			if _, err := io.ReadFull(c.br, head[:]); err != nil {
				ended <- n
				return
			}
			h := parseHeader(head[:])
			if _, err := io.ReadFull(c.br, make([]byte, h.length+h.padding)); err != nil {
				ended <- n
				return
			}
			if h.typ == typeEndRequest {
				if n++; n == 300 {
					ended <- n
					return
				}
			}
		}
	}()
	for i := range 300 {
		id := uint16(i + 1)
		c.send(beginRecord(id, roleResponder, flagKeepConn))
		if i%3 > 0 {
			c.send(appendRecord(nil, typeParams, id, pairs(post...)))
		}
		if i%3 > 1 {
			c.send(appendRecord(nil, typeParams, id, nil))
		}
		c.send(appendRecord(nil, typeAbortRequest, id, nil))
		c.send(appendRecord(nil, typeStdin, id, []byte("late")))
	}
	if n := <-ended; n != 300 {
		t.Fatalf("%d of 300 requests ended", n)
	}
	for end := time.Now().Add(patience); running.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d handlers still run", running.Load())
		}
	}
}
