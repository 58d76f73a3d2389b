package program

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tandem/internal/nowait"
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
	bufferSize = 16 << 10
	keepBuffer = 64 << 10 // a buffer grown beyond it for a long message is given back
)

// buffers are for pipes that have something, and for messages on their way to stdin; a
// quiet session has none. They are of bufferSize.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// giveBack is the end of the use of a buffer, whatever it has grown to.
func giveBack(buf []byte) {
	if cap(buf) == bufferSize {
		buffers.Put((*[bufferSize]byte)(buf[:bufferSize]))
	}
}

func buffer() []byte { return buffers.Get().(*[bufferSize]byte)[:] }

// An output is one of the program's output pipes with the decoder for it.
type output struct {
	pipe   *os.File
	dec    decoder
	exited <-chan struct{}

	emit    func(frame.Message) error // nil: what comes is dropped
	buf     []byte                    // nil while nothing waits
	r, w    int                       // buf[r:w] waits to be decoded
	drained int                       // bytes read after exit
	due     time.Time                 // the deadline of the read after exit; zero: there is none

	// What ended copy.
	over      bool
	truncated bool
	err       error
}

// copy hands each message to emit until the output's end. err is nil then, or what emit
// returned, or the decoder's *frame.CloseError; truncated tells that the latter came at
// the end: the program may have crashed in the middle.
//
// Back-pressure: while emit blocks nothing is read; the pipe fills, and the
// program blocks in its write. Memory is one message and a pipe's content, and
// nothing while nothing comes.
func (o *output) copy(emit func(frame.Message) error) {
	o.emit = emit
	o.read()
}

// discard reads the output to its end and drops it: a program whose session is over
// shall come to its end of input, not block in a write or die of SIGPIPE.
func (o *output) discard() {
	o.emit, o.over = nil, false
	o.read()
}

// read takes what comes until o is over, with the bounds that hold after the program's exit.
func (o *output) read() {
	defer o.letGo() // also before discard: r and w are of what it drops
	conn, err := o.pipe.SyscallConn()
	if err != nil {
		o.end(err)
		return
	}
	take := o.take // once: it is an allocation
	for !o.over {
		o.bound()
		if o.over {
			return
		}
		if err := conn.Read(take); err != nil && !o.over {
			o.failed(err)
		}
	}
}

// letGo is the end of buf.
func (o *output) letGo() {
	giveBack(o.buf)
	o.buf, o.r, o.w = nil, 0, 0
}

// bound bounds the next read, after the program's exit.
func (o *output) bound() {
	if !isClosed(o.exited) {
		return
	}
	if o.drained >= drainBytes {
		o.end(io.EOF)
		return
	}
	o.due = time.Now().Add(drainTime)
	o.pipe.SetReadDeadline(o.due)
}

// failed looks at why nothing could be read.
func (o *output) failed(err error) {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		o.end(err)
	case !o.due.IsZero() && !time.Now().Before(o.due):
		o.end(io.EOF)
	} // else that was wake, not the read's own deadline
}

// take reads and decodes what is there. False: nothing more is, wait.
func (o *output) take(fd uintptr) bool {
	for {
		if o.buf == nil {
			o.buf = buffer()
		}
		room := len(o.buf) - o.w
		n, err := nowait.Read(fd, o.buf[o.w:])
		switch {
		case err == unix.EAGAIN:
			if o.w == 0 {
				giveBack(o.buf)
				o.buf = nil
			}
			return false
		case err != 0:
			o.end(os.NewSyscallError("read", err))
			return true
		case n == 0:
			o.end(io.EOF)
			return true
		}
		o.w += n
		exited := isClosed(o.exited)
		if exited {
			o.drained += n
		}
		messages := o.decode()
		switch {
		case o.over || exited: // after an exit each read has its own deadline
			return true
		case n < room && o.w == 0 && messages == 1:
			// The pipe was empty, and its program has likely nothing to add. An end
			// that came together with this is not seen then, and means nothing
			// before the exit.
			giveBack(o.buf)
			o.buf = nil
			return false
		}
	}
}

// decode hands over the messages that are there, which it counts, and makes room.
func (o *output) decode() (messages int) {
	if o.emit == nil {
		o.w = 0
		return 0
	}
	for o.r < o.w {
		m, n, ok, err := o.dec.decode(o.buf[o.r:o.w])
		if err == nil && ok {
			messages++
			err = o.emit(m)
		}
		if err != nil {
			o.over, o.err = true, err
			return messages
		}
		if n == 0 {
			break
		}
		o.r += n
	}
	switch {
	case o.r == o.w:
		o.r, o.w = 0, 0
		if len(o.buf) > keepBuffer {
			o.buf = nil
		}
	case o.w == len(o.buf):
		// The decoder refuses what exceeds its limit, so this ends.
		from, to := o.buf, o.buf
		if o.r < len(from)/2 {
			to = make([]byte, 2*len(from))
			defer giveBack(from)
		}
		o.w = copy(to, from[o.r:o.w])
		o.r, o.buf = 0, to
	}
	return messages
}

// end is the end of the output, io.EOF, or of what could be read of it.
func (o *output) end(err error) {
	o.over = true
	if err != io.EOF {
		o.err = err
		return
	}
	if o.emit == nil {
		return
	}
	m, ok, err := o.dec.eof(o.buf[o.r:o.w])
	if ok {
		err = o.emit(m)
	} else {
		o.truncated = err != nil
	}
	o.err = err
}

// wake lets a blocked read take notice of the program's exit.
func (o *output) wake() { o.pipe.SetReadDeadline(time.Now()) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
