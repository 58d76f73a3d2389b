package program

import (
	"errors"
	"io"
	"os"
	"time"

	"tandem/session/frame"
)

// After the program has exited, its output is read to the end. A process that
// it left behind can hold the pipe open, so reading also ends when
const (
	// drainTime passed in one read without a byte or an end. (Not in all: a slow
	// client holds up the reading, and gets all that the program had written.)
	drainTime = time.Second
	// or drainBytes came: no pipe holds more (/proc/sys/fs/pipe-max-size), so
	// it is not the program that wrote this.
	drainBytes = 1 << 20
)

const (
	minBuffer  = 4 << 10  // what a quiet session costs
	keepBuffer = 64 << 10 // a buffer grown beyond it for a long message is given back
)

// An output is one of the program's output pipes with the decoder for it.
type output struct {
	pipe   *os.File
	dec    decoder
	exited <-chan struct{}

	drained int // bytes read after exit
}

// copy hands each message to emit until the output's end, which gives nil, or
// what emit returned, or the decoder's *frame.CloseError; truncated tells that
// the latter came at the end: the program may have crashed in the middle.
//
// Back-pressure: while emit blocks nothing is read; the pipe fills, and the
// program blocks in its write. Memory is one message and a pipe's content.
func (o *output) copy(emit func(frame.Message) error) (truncated bool, err error) {
	buf := make([]byte, minBuffer)
	r, w := 0, 0 // buf[r:w] waits to be decoded
	for {
		for r < w {
			m, n, ok, err := o.dec.decode(buf[r:w])
			if err != nil {
				return false, err
			}
			if ok {
				if err := emit(m); err != nil {
					return false, err
				}
			}
			if n == 0 {
				break
			}
			r += n
		}
		switch {
		case r == w:
			r, w = 0, 0
			if len(buf) > keepBuffer {
				buf = make([]byte, minBuffer)
			}
		case w == len(buf):
			// The decoder refuses what exceeds its limit, so this ends.
			to := buf
			if r < len(buf)/2 {
				to = make([]byte, 2*len(buf))
			}
			w = copy(to, buf[r:w])
			r, buf = 0, to
		}
		n, err := o.read(buf[w:])
		w += n
		if err == io.EOF {
			m, ok, err := o.dec.eof(buf[r:w])
			if ok {
				return false, emit(m)
			}
			return err != nil, err
		}
		if err != nil {
			return false, err
		}
	}
}

// discard reads the output to its end and drops it: a program whose session is over
// shall come to its end of input, not block in a write or die of SIGPIPE.
func (o *output) discard() {
	buf := make([]byte, minBuffer)
	for {
		if _, err := o.read(buf); err != nil {
			return
		}
	}
}

// read is Read with the bounds that hold after the program's exit; beyond them
// it gives io.EOF.
func (o *output) read(p []byte) (int, error) {
	for {
		var due time.Time
		select {
		case <-o.exited:
			if o.drained >= drainBytes {
				return 0, io.EOF
			}
			due = time.Now().Add(drainTime)
			o.pipe.SetReadDeadline(due)
		default:
		}
		n, err := o.pipe.Read(p)
		if !due.IsZero() {
			o.drained += n
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if due.IsZero() || time.Now().Before(due) {
				continue // that was wake, not this read's own deadline
			}
			err = io.EOF
		}
		return n, err
	}
}

// wake lets a blocked read take notice of the program's exit.
func (o *output) wake() { o.pipe.SetReadDeadline(time.Now()) }
