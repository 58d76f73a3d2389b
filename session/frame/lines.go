package frame

import (
	"bytes"
	"unicode/utf8"
)

// The lines codec, both ways: a message is a line. It is for people with curl
// and for shells, and has no other frames.

const linesMediaType = "text/plain"

// endOfTransmission alone on a line is the client's termination.
const endOfTransmission = 0x04

type linesCodec struct{}

func (linesCodec) Name() string        { return "lines" }
func (linesCodec) MediaType() string   { return linesMediaType + "; charset=utf-8" }
func (linesCodec) Framed() bool        { return false }
func (linesCodec) NewDecoder() Decoder { return new(linesDecoder) }

// Append appends a message's bytes, and a LF after its last fragment. A binary
// message passes if it has no LF in it. The codec can't tell a message of the
// single byte 0x04 from the termination, and passes it on.
func (linesCodec) Append(dst []byte, f *Frame) ([]byte, error) {
	if f.Type != TypeMessage {
		return dst, nil
	}
	if err := checkData("lines", f); err != nil {
		return dst, err
	}
	if i := bytes.IndexByte(f.Data, '\n'); i >= 0 {
		return dst, Errorf(CodeUnsupported, "lines: expected a message of one line, got a line feed at byte %d of %s: "+
			"use the codec json (%s) or binary (%s)", i, clip(f.Data), jsonMediaType, binaryMediaType)
	}
	dst = append(dst, f.Data...)
	if !f.More {
		dst = append(dst, '\n')
	}
	return dst, nil
}

// linesDecoder gives a line longer than MaxData out in fragments, so that
// nobody needs a buffer for a long line.
type linesDecoder struct {
	mid bool // fragments of the present line are out, its end is not
}

func (d *linesDecoder) Decode(p []byte, f *Frame) (int, error) {
	*f = Frame{}
	head := p[:min(len(p), MaxData+1)] // the LF of a line that fits is in here
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		return end + 1, d.last(p[:end:end], f)
	}
	if len(head) <= MaxData {
		return 0, nil
	}
	n := Cut(head, true)
	d.mid = true
	return n, text(p[:n:n], true, f)
}

// EOF makes an unterminated last line a message, also one of which only
// fragments came before. There is no other way to end a message here.
func (d *linesDecoder) EOF(p []byte, f *Frame) (bool, error) {
	*f = Frame{}
	if len(p) == 0 && !d.mid {
		return false, nil
	}
	if err := d.last(p, f); err != nil {
		return false, err
	}
	return true, nil
}

// last makes a frame of a line, or of the rest of one.
func (d *linesDecoder) last(line []byte, f *Frame) error {
	whole := !d.mid
	d.mid = false
	if whole && len(line) == 1 && line[0] == endOfTransmission {
		f.Type, f.Code = TypeClose, CodeNormal
		return nil
	}
	return text(line, false, f)
}

func text(data []byte, more bool, f *Frame) error {
	if !utf8.Valid(data) {
		return badText("lines", data)
	}
	f.Type, f.Data, f.Text, f.More = TypeMessage, data, true, more
	return nil
}
