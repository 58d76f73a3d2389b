package frame

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// The long way through a line of the json codec: any JSON object, and the error
// for what is none. The open frame of the binary codec comes here too, where it is
// not in the usual form.

// decodeObject fills f from a line of JSON.
func decodeObject(line []byte, f *Frame) error {
	o := parseObject("json", line)
	o.kind = o.typeName()
	if o.err != nil {
		return o.err
	}
	t := Type(max(0, slices.Index(typeNames[:], o.kind))) // unknown: empty
	switch t {
	case TypeOpen:
		o.open(f)
	case TypeMessage:
		o.message(f)
	case TypeAck:
		f.Received = o.number("received", 0, MaxInt, required)
		f.Window = o.number("window", 0, MaxInt, required)
		f.Messages = o.number("messages", 0, MaxInt, required)
	case TypePing, TypePong:
		f.Nonce = o.number("nonce", 0, MaxInt, optional)
	case TypeEnd:
		f.Seq = o.number("seq", 0, MaxInt, required)
	case TypeClose:
		f.Seq = o.number("seq", 0, MaxInt, optional)
		f.Code = Code(o.number("code", minCode, maxCode, required))
		f.RetryMS = o.number("retry_ms", 0, MaxInt, optional)
		reason, _ := o.text("reason")
		f.Reason = CleanReason(reason)
	case TypeDetach:
		f.Code = Code(o.number("code", minCode, maxCode, required))
		f.RetryMS = o.number("retry_ms", 0, MaxInt, optional)
	}
	f.Type = t
	return o.err
}

// object reads the fields of one JSON object by name, exact in case; the first
// error stays. Of a name that comes twice the last value counts.
type object struct {
	codec, kind string // for error texts
	values      map[string]json.RawMessage
	err         error
}

const (
	required = true
	optional = false
)

// parseObject takes JSON that is UTF-8 through and through. encoding/json would
// put U+FFFD in the place of what is not; a message must not change on its way.
func parseObject(codec string, p []byte) *object {
	o := &object{codec: codec}
	if !utf8.Valid(p) {
		o.err = badText(codec, p)
		return o
	}
	if err := json.Unmarshal(p, &o.values); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			o.err = Errorf(CodeProtocol, "%s: expected one JSON object, got %s: %s at byte %d", codec, clip(p), syntax, syntax.Offset)
		} else {
			o.err = Errorf(CodeProtocol, "%s: expected one JSON object, got another JSON value: %s", codec, clip(p))
		}
		return o
	}
	if o.values == nil {
		o.err = Errorf(CodeProtocol, "%s: expected one JSON object, got null", codec)
		return o
	}
	if i := loneSurrogate(p); i >= 0 {
		o.err = Errorf(CodeBadUTF8, "%s: expected a surrogate pair, got half of one at byte %d: %s", codec, i, clip(p[i:]))
	}
	return o
}

// loneSurrogate finds the first \uXXXX in valid JSON that is half of a pair and
// stands alone, or returns -1.
func loneSurrogate(p []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(p[i:], '\\')
		if n < 0 {
			return -1
		}
		i += n
		r, ok := hexEscape(p[i:])
		switch {
		case !ok:
			i += 2
		case !utf16.IsSurrogate(r):
			i += 6
		default:
			low, _ := hexEscape(p[i+6:])
			if utf16.DecodeRune(r, low) == utf8.RuneError {
				return i
			}
			i += 12
		}
	}
}

func (o *object) typeName() string {
	name, ok := o.text("type")
	if !ok && o.err == nil {
		o.err = Errorf(CodeProtocol, `%s: expected an object with a "type", got one without`, o.codec)
	}
	return name
}

// open reads the fields of an open frame. All may be absent: it is for the
// session to say which it needs.
func (o *object) open(f *Frame) {
	f.Version = o.number("version", 0, MaxInt, optional)
	f.Session, _ = o.text("session")
	f.Transport, _ = o.text("transport")
	f.Heartbeat = o.number("heartbeat", 0, MaxInt, optional)
	f.Window = o.number("window", 0, MaxInt, optional)
	f.Messages = o.number("messages", 0, MaxInt, optional)
	f.Grace = o.number("grace", 0, MaxInt, optional)
	f.MaxMessage = o.number("max_message", 0, MaxInt, optional)
	f.Hold = !o.boolean("start", true)
}

func (o *object) message(f *Frame) {
	f.Seq = o.number("seq", 1, MaxInt, required)
	f.More = o.boolean("more", false)
	text, isText := o.text("data")
	coded, isBinary := o.text("data64")
	if o.err != nil {
		return
	}
	if isText && isBinary {
		o.err = Errorf(CodeProtocol, `%s: expected a message with either "data" or "data64", got both`, o.codec)
		return
	}
	f.Text = !isBinary
	f.Data = []byte(text)
	if isBinary {
		data, err := decode64([]byte(coded))
		if err != nil {
			o.err = Errorf(CodeProtocol, `%s: expected "data64" in base64 with padding (RFC 4648 section 4), got %s: %s`, o.codec, clip([]byte(coded)), err)
			return
		}
		f.Data = data
	}
	if len(f.Data) > MaxData {
		o.err = tooMuchData(o.codec, len(f.Data))
	}
}

func (o *object) number(name string, min, max uint64, need bool) uint64 {
	raw, ok := o.get(name)
	if !ok {
		if need && o.err == nil {
			o.err = Errorf(CodeProtocol, "%s: %s frame: expected a %q from %d to %d, got none", o.codec, o.kind, name, min, max)
		}
		return 0
	}
	v, ok := parseNumber(raw)
	if !ok || v < min || v > max {
		o.err = Errorf(CodeProtocol, "%s: %s frame: expected %q to be an integer from %d to %d in plain digits, got %s", o.codec, o.kind, name, min, max, clip(raw))
		return 0
	}
	return v
}

func (o *object) boolean(name string, absent bool) bool {
	raw, ok := o.get(name)
	if !ok {
		return absent
	}
	v := string(raw) == "true"
	if !v && string(raw) != "false" {
		o.err = Errorf(CodeProtocol, "%s: %s frame: expected %q to be true or false, got %s", o.codec, o.kind, name, clip(raw))
	}
	return v
}

// text also tells whether the field is there.
func (o *object) text(name string) (s string, ok bool) {
	raw, ok := o.get(name)
	if !ok {
		return "", false
	}
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		o.err = Errorf(CodeProtocol, "%s: expected %q to be a string, got %s", o.codec, name, clip(raw))
		return "", false
	}
	return s, true
}

// get finds a field, as long as there was no error.
func (o *object) get(name string) (json.RawMessage, bool) {
	if o.err != nil {
		return nil, false
	}
	raw, ok := o.values[name]
	return raw, ok
}

// parseNumber reads plain digits, as all numbers on the wire are written:
// without sign, fraction, exponent or leading zero, and at most MaxInt.
func parseNumber(digits []byte) (v uint64, ok bool) {
	if len(digits) == 0 || len(digits) > 16 || (digits[0] == '0' && len(digits) > 1) {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		v = v*10 + uint64(d-'0')
	}
	return v, v <= MaxInt
}

var base64Strict = base64.StdEncoding.Strict()

// decode64 reads base64 in its one canonical form.
func decode64(s []byte) ([]byte, error) {
	if i := bytes.IndexAny(s, "\r\n"); i >= 0 {
		return nil, base64.CorruptInputError(i) // encoding/base64 skips these
	}
	return base64Strict.AppendDecode(nil, s)
}
