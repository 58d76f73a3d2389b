package frame

import (
	"bytes"
	"encoding/base64"
	"strconv"
)

// The json codec, both ways: one frame is one JSON object on one line. It is
// the one that any language speaks without a library.
//
// json_fast.go reads the usual lines without an allocation, json_object.go all
// others; a fuzz test holds the two to the same answers.

const jsonMediaType = "application/x-ndjson"

type jsonCodec struct{}

func (jsonCodec) Name() string        { return "json" }
func (jsonCodec) MediaType() string   { return jsonMediaType }
func (jsonCodec) Framed() bool        { return true }
func (jsonCodec) NewDecoder() Decoder { return new(jsonDecoder) }

func (jsonCodec) Append(dst []byte, f *Frame) ([]byte, error) {
	if err := check("json", f); err != nil {
		return dst, err
	}
	if f.Type == TypeEmpty {
		return append(dst, '\n'), nil
	}
	before := len(dst)
	dst = append(dst, `{"type":"`...)
	dst = append(dst, f.Type.String()...)
	dst = append(dst, '"')
	switch f.Type {
	case TypeMessage:
		dst = appendMessage(dst, f)
	case TypeAck:
		dst = appendNumber(dst, `,"received":`, f.Received)
		dst = appendNumber(dst, `,"window":`, f.Window)
		dst = appendNumber(dst, `,"messages":`, f.Messages)
	case TypePing, TypePong:
		dst = appendNumber(dst, `,"nonce":`, f.Nonce)
	case TypeEnd:
		dst = appendNumber(dst, `,"seq":`, f.Seq)
	case TypeClose:
		dst = appendNumber(dst, `,"seq":`, f.Seq)
		dst = appendNumber(dst, `,"code":`, uint64(f.Code))
		if f.Reason != "" {
			dst = appendString(append(dst, `,"reason":`...), []byte(CleanReason(f.Reason)))
		}
		dst = appendRetry(dst, f)
	case TypeDetach:
		dst = appendNumber(dst, `,"code":`, uint64(f.Code))
		dst = appendRetry(dst, f)
	case TypeOpen:
		dst = appendOpen(append(dst, ','), f)
	}
	dst = append(dst, '}')
	if n := len(dst) - before; n > MaxLine { // only an open frame's names can do that
		return dst[:before], Errorf(CodeTooBig, "json: expected an open frame of at most %d bytes, got %d", MaxLine, n)
	}
	return append(dst, '\n'), nil
}

func appendMessage(dst []byte, f *Frame) []byte {
	dst = appendNumber(dst, `,"seq":`, f.Seq)
	if f.Text {
		dst = appendString(append(dst, `,"data":`...), f.Data)
	} else {
		dst = append(dst, `,"data64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, f.Data)
		dst = append(dst, '"')
	}
	if f.More {
		dst = append(dst, `,"more":true`...)
	}
	return dst
}

// appendOpen appends the fields of an open frame, which the binary codec sends
// in the same form. What is absent is zero, and start is true.
func appendOpen(dst []byte, f *Frame) []byte {
	dst = appendNumber(dst, `"version":`, f.Version)
	if f.Session != "" {
		dst = appendString(append(dst, `,"session":`...), []byte(f.Session))
	}
	if f.Transport != "" {
		dst = appendString(append(dst, `,"transport":`...), []byte(f.Transport))
	}
	dst = appendNumber(dst, `,"heartbeat":`, f.Heartbeat)
	dst = appendNumber(dst, `,"window":`, f.Window)
	dst = appendNumber(dst, `,"messages":`, f.Messages)
	if f.Grace != 0 {
		dst = appendNumber(dst, `,"grace":`, f.Grace)
	}
	if f.MaxMessage != 0 {
		dst = appendNumber(dst, `,"max_message":`, f.MaxMessage)
	}
	if f.Hold {
		dst = append(dst, `,"start":false`...)
	}
	return dst
}

func appendRetry(dst []byte, f *Frame) []byte {
	if f.RetryMS == 0 {
		return dst
	}
	return appendNumber(dst, `,"retry_ms":`, f.RetryMS)
}

func appendNumber(dst []byte, name string, v uint64) []byte {
	return strconv.AppendUint(append(dst, name...), v, 10)
}

// appendString appends UTF-8 text as a JSON string, with no escapes but those
// that JSON demands.
func appendString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		switch c := s[n]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[n+1:]
	}
}

// jsonDecoder remembers where it looked for a LF in vain, so that a line that
// comes byte by byte is not searched again with each one.
type jsonDecoder struct {
	searched int
}

func (d *jsonDecoder) Decode(p []byte, f *Frame) (int, error) {
	*f = Frame{}
	from := min(d.searched, len(p))
	end := bytes.IndexByte(p[from:], '\n')
	if end < 0 {
		if len(p) > MaxLine {
			return 0, lineTooLong(p)
		}
		d.searched = len(p)
		return 0, nil
	}
	d.searched = 0
	end += from
	if end > MaxLine {
		return 0, lineTooLong(p)
	}
	line := bytes.TrimSuffix(p[:end], []byte("\r"))
	if len(line) == 0 || decodeFast(line, f) {
		return end + 1, nil
	}
	return end + 1, decodeObject(line, f)
}

func (*jsonDecoder) EOF(p []byte, f *Frame) (bool, error) { return framedEOF(p, f) }

func lineTooLong(p []byte) error {
	return Errorf(CodeTooBig, "json: expected a line of at most %d bytes, got a longer one that starts %s: "+
		"send fragments of at most %d bytes of data with more set", MaxLine, clip(p), MaxData)
}
