package frame

import (
	"io"
	"unicode/utf8"
)

// The binary codec, both ways: type (1 byte), length (varint), payload. It is
// the compact one, for programs.

const binaryMediaType = "application/vnd.tandem"

// Limits of the length field. Decode refuses a frame by its length alone, so
// that nobody buffers towards one that is too big.
const (
	maxPayload        = MaxData + 64 // a full fragment, and fields to come
	maxUnknownPayload = 64 << 10     // for types of later versions
)

// Flags of a message.
const (
	flagText = 1 << iota
	flagMore
)

type binaryCodec struct{}

func (binaryCodec) Name() string        { return "binary" }
func (binaryCodec) MediaType() string   { return binaryMediaType }
func (binaryCodec) Framed() bool        { return true }
func (binaryCodec) NewDecoder() Decoder { return binaryDecoder{} }

func (binaryCodec) Append(dst []byte, f *Frame) ([]byte, error) {
	if err := check("binary", f); err != nil {
		return dst, err
	}
	switch f.Type {
	case TypeMessage:
		var flags byte
		if f.Text {
			flags |= flagText
		}
		if f.More {
			flags |= flagMore
		}
		dst = appendHead(dst, f.Type, 1+len(f.Data), f.Seq)
		return append(append(dst, flags), f.Data...), nil
	case TypeAck:
		return appendHead(dst, f.Type, 0, f.Received, f.Window, f.Messages), nil
	case TypePing, TypePong:
		return appendHead(dst, f.Type, 0, f.Nonce), nil
	case TypeEnd:
		return appendHead(dst, f.Type, 0, f.Seq), nil
	case TypeClose:
		reason := CleanReason(f.Reason)
		dst = appendHead(dst, f.Type, len(reason), f.Seq, uint64(f.Code), f.RetryMS)
		return append(dst, reason...), nil
	case TypeDetach:
		return appendHead(dst, f.Type, 0, uint64(f.Code), f.RetryMS), nil
	case TypeOpen:
		// Rare, and it must stay open to new fields: the JSON object.
		open := append(appendOpen(append(make([]byte, 0, usualOpen), '{'), f), '}')
		if len(open) > maxPayload {
			return dst, Errorf(CodeTooBig, "binary: expected an open frame of at most %d bytes, got %d", maxPayload, len(open))
		}
		return append(appendHead(dst, f.Type, len(open)), open...), nil
	}
	return appendHead(dst, f.Type, 0), nil // empty, start
}

// usualOpen is what an open frame's payload takes, in bytes, with room to spare.
const usualOpen = 256

// appendHead appends type and length, and the numbers that the payload starts
// with; more bytes of payload follow.
func appendHead(dst []byte, t Type, more int, numbers ...uint64) []byte {
	size := more
	for _, v := range numbers {
		size += varintLen(v)
	}
	dst = appendVarint(append(dst, byte(t)), uint64(size))
	for _, v := range numbers {
		dst = appendVarint(dst, v)
	}
	return dst
}

type binaryDecoder struct{}

func (binaryDecoder) Decode(p []byte, f *Frame) (int, error) {
	*f = Frame{}
	if len(p) == 0 {
		return 0, nil
	}
	t := Type(p[0])
	size, n := varint(p[1:])
	if n == 0 {
		return 0, nil
	}
	limit := uint64(maxPayload)
	if t > TypeDetach {
		limit = maxUnknownPayload
	}
	if size > limit {
		return 0, Errorf(CodeTooBig, "binary: expected a frame of type %d (%s) to have a length of at most %d, got %d", t, t, limit, size)
	}
	start, end := 1+n, 1+n+int(size)
	if len(p) < end {
		return 0, nil
	}
	r := payload{rest: p[start:end:end], kind: t}
	r.decode(f)
	return end, r.err
}

func (binaryDecoder) EOF(p []byte, f *Frame) (bool, error) { return framedEOF(p, f) }

// framedEOF is EOF of the codecs in which a frame tells its own end.
func framedEOF(p []byte, f *Frame) (bool, error) {
	*f = Frame{}
	if len(p) > 0 {
		return false, io.ErrUnexpectedEOF
	}
	return false, nil
}

// payload reads the fields of one whole frame; the first error stays.
type payload struct {
	rest []byte
	kind Type
	err  error
}

// decode fills f. Bytes after the known fields are fields to come, and ignored.
func (r *payload) decode(f *Frame) {
	switch r.kind {
	case TypeMessage:
		r.message(f)
	case TypeAck:
		f.Received = r.number("received", 0, MaxInt)
		f.Window = r.number("window", 0, MaxInt)
		f.Messages = r.number("messages", 0, MaxInt)
	case TypePing, TypePong:
		f.Nonce = r.number("nonce", 0, MaxInt)
	case TypeEnd:
		f.Seq = r.number("seq", 0, MaxInt)
	case TypeClose:
		f.Seq = r.number("seq", 0, MaxInt)
		f.Code = Code(r.number("code", minCode, maxCode))
		f.RetryMS = r.number("retry_ms", 0, MaxInt)
		f.Reason = CleanReason(string(r.text(r.rest)))
	case TypeDetach:
		f.Code = Code(r.number("code", minCode, maxCode))
		f.RetryMS = r.number("retry_ms", 0, MaxInt)
	case TypeOpen:
		if !decodeFastOpen(r.rest, f) {
			o := parseObject("binary", r.rest)
			o.kind = "open"
			o.open(f)
			r.err = o.err
		}
	}
	if r.kind <= TypeDetach {
		f.Type = r.kind
	}
}

func (r *payload) message(f *Frame) {
	f.Seq = r.number("seq", 1, MaxInt)
	if r.err == nil && len(r.rest) == 0 {
		r.fail("expected flags after seq, got the end of the payload")
	}
	if r.err != nil {
		return
	}
	flags, data := r.rest[0], r.rest[1:]
	if flags&^(flagText|flagMore) != 0 {
		r.fail("expected only the flags 0x01 (text) and 0x02 (more), got 0x%02x", flags)
		return
	}
	if len(data) > MaxData {
		r.err = tooMuchData("binary", len(data))
		return
	}
	f.Text, f.More = flags&flagText != 0, flags&flagMore != 0
	if f.Text {
		data = r.text(data)
	}
	f.Data = data
}

// number takes a varint from min to max off the payload.
func (r *payload) number(name string, min, max uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := varint(r.rest)
	if n == 0 {
		r.fail("expected the varint %s, got %d bytes that end before it does", name, len(r.rest))
		return 0
	}
	if v < min || v > max {
		r.fail("expected %s from %d to %d, got %d", name, min, max, v)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// text returns p if it is UTF-8.
func (r *payload) text(p []byte) []byte {
	if r.err == nil && !utf8.Valid(p) {
		r.err = badText("binary", p)
	}
	if r.err != nil {
		return nil
	}
	return p
}

func (r *payload) fail(format string, args ...any) {
	r.err = Errorf(CodeProtocol, "binary: "+r.kind.String()+" frame: "+format, args...)
}
