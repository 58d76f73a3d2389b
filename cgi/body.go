package cgi

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// body is the request's body: stdin, up to CONTENT_LENGTH where that is known. One
// goroutine reads at a time.
type body struct {
	in     *stream // nil: there is none, and left is 0
	left   int64   // negative: up to the end of stdin
	closed atomic.Bool
}

func newBody(r *http.Request, in *stream) *body {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return &body{}
	}
	return &body{in: in, left: r.ContentLength}
}

// Read returns io.ErrUnexpectedEOF where stdin ends before CONTENT_LENGTH: the web
// server lost its client.
func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.closed.Load():
		return 0, http.ErrBodyReadAfterClose
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.in.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
		if err == io.EOF && b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// drain takes in what is left of a short body of known length. Where stdin and stdout
// are one socket (Apache's mod_cgid), an exit with bytes unread would reset it, and
// Apache would drop the response.
func (b *body) drain() {
	if b.left <= 0 || b.left > maxDrain {
		return
	}
	_ = b.setDeadline(time.Now().Add(drainTime))
	for left := b.left; left > 0; {
		n, err := b.in.Read(make([]byte, min(left, 4<<10)))
		left -= int64(n)
		if err != nil {
			return
		}
	}
}

// Bounds of drain.
const (
	maxDrain  = 64 << 10
	drainTime = 100 * time.Millisecond
)

// Close makes further reads fail; stdin stays open.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

func (b *body) setDeadline(t time.Time) error {
	if b.in == nil {
		return nil
	}
	return b.in.setDeadline(t, b.in.file.SetReadDeadline)
}
