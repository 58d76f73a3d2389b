package fcgi

// The content of STDOUT records, on its way from the handler to the connection.

import "sync"

// Sizes of the buffers that records are made in, in bytes. Less their header they
// are multiples of 8: a full one needs no padding.
const (
	smallBuffer = 4 << 10 // a message and a response header fit
	largeBuffer = 64 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// stdout collects the content of one record, in a buffer that it has only as long
// as there is any. The zero stdout is empty. One goroutine at a time.
type stdout struct {
	b []byte // room for the record's header, then content; nil: empty
}

// add takes as much of p as one record has room for.
func (o *stdout) add(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	need := max(len(o.b), headerLen) + len(p)
	if o.b == nil {
		o.b = buffer(need)[:headerLen]
	} else if need > cap(o.b) && cap(o.b) < largeBuffer {
		small := o.b
		o.b = append(buffer(need)[:0], small...)
		giveBack(small)
	}
	n := min(len(p), cap(o.b)-len(o.b))
	o.b = append(o.b, p[:n]...)
	return n
}

// record makes a STDOUT record of what was collected. It is valid until reset.
func (o *stdout) record(id uint16) []byte {
	o.b = sealRecord(o.b, 0, typeStdout, id)
	return o.b
}

// last is record with what ends the stream behind it (section 5.3): an empty record. after
// is how many bytes more the buffer must have room for; false: it has not.
func (o *stdout) last(id uint16, after int) ([]byte, bool) {
	if o.b == nil {
		o.b = buffer(0)[:0]
	} else if len(o.b)+7+headerLen+after > cap(o.b) {
		return nil, false
	} else {
		o.record(id)
	}
	o.b = appendRecord(o.b, typeStdout, id, nil)
	return o.b, true
}

func (o *stdout) reset() {
	giveBack(o.b)
	o.b = nil
}

// buffer returns a small buffer if n bytes fit in it, else a large one.
func buffer(n int) []byte {
	if n <= smallBuffer {
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:]
}

func giveBack(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}
