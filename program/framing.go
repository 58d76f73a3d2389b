package program

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"tandem/session/frame"
)

// A framing turns messages into bytes for the program's stdin (encode) and
// finds messages in its stdout (a decoder for each child).
type framing interface {
	// encode appends m to dst. The error is for the client: its message does not
	// fit, and goes to the program in no form.
	encode(dst []byte, m frame.Message) ([]byte, *frame.CloseError)
	decoder(limit int) decoder
}

// A decoder takes messages from the program's output. limit is the largest
// message. Errors are *frame.CloseError.
type decoder interface {
	// decode takes one message from the front of p and says how many bytes it
	// took; ok tells whether there was one. n can be positive without a
	// message. n == 0: call again with p and what follows it. m.Data aliases p or is
	// new, and is valid until p changes.
	decode(p []byte) (m frame.Message, n int, ok bool, err error)
	// eof is called at the end of the output with what decode left.
	eof(p []byte) (m frame.Message, ok bool, err error)
}

func newFraming(f Framing) framing {
	switch f {
	case FramingNetstring:
		return netstrings{}
	case FramingJSON:
		return jsonLines{}
	}
	return lines{}
}

// message tells text from binary by what it is: programs write bytes.
func message(data []byte) frame.Message {
	return frame.Message{Data: data, Text: utf8.Valid(data)}
}

func tooBig(limit int) error {
	return frame.Errorf(frame.CodeTooBig, "the program wrote a message longer than max_message = %d bytes; raise max_message, or let the program write shorter ones", limit)
}

// badOutput is the program's fault, not the client's: CodeInternal.
func badOutput(f Framing, format string, args ...any) error {
	e := frame.Errorf(frame.CodeInternal, format, args...)
	e.Reason = "the program's output is not framing = \"" + string(f) + "\": " + e.Reason + "; correct the program, or set the framing it uses"
	return e
}

// lines: a message is a line.
type lines struct{}

func (lines) encode(dst []byte, m frame.Message) ([]byte, *frame.CloseError) {
	if bytes.IndexByte(m.Data, '\n') >= 0 {
		return dst, frame.Errorf(frame.CodeUnsupported,
			`the message contains a newline, and this program gets its messages as lines; set framing = "netstring" or "json" for it`)
	}
	return append(append(dst, m.Data...), '\n'), nil
}

func (lines) decoder(limit int) decoder { return &lineDecoder{limit: limit} }

type lineDecoder struct {
	limit   int
	scanned int // bytes of p known to hold no LF: a slow long line is not searched again and again
}

func (d *lineDecoder) decode(p []byte) (frame.Message, int, bool, error) {
	i := bytes.IndexByte(p[d.scanned:], '\n')
	if i < 0 {
		if d.scanned = len(p); d.scanned > d.limit {
			return frame.Message{}, 0, false, tooBig(d.limit)
		}
		return frame.Message{}, 0, false, nil
	}
	i += d.scanned
	d.scanned = 0
	if i > d.limit {
		return frame.Message{}, 0, false, tooBig(d.limit)
	}
	return message(p[:i]), i + 1, true, nil
}

// eof makes an unterminated last line a message: `printf 42` means to say 42.
func (d *lineDecoder) eof(p []byte) (frame.Message, bool, error) {
	return message(p), len(p) > 0, nil
}

// netstrings: a message is `length:data,` (https://cr.yp.to/proto/netstrings.txt).
type netstrings struct{}

func (netstrings) encode(dst []byte, m frame.Message) ([]byte, *frame.CloseError) {
	dst = strconv.AppendInt(dst, int64(len(m.Data)), 10)
	dst = append(dst, ':')
	dst = append(dst, m.Data...)
	return append(dst, ','), nil
}

func (netstrings) decoder(limit int) decoder { return netstringDecoder{limit} }

type netstringDecoder struct{ limit int }

func (d netstringDecoder) decode(p []byte) (m frame.Message, n int, ok bool, err error) {
	size, i := 0, 0
	for ; i < len(p) && p[i] != ':'; i++ {
		switch {
		case p[i] < '0' || p[i] > '9':
			return m, 0, false, badOutput(FramingNetstring, "expected a length in decimal and a colon, found %q", clip(p))
		case i == 1 && p[0] == '0':
			return m, 0, false, badOutput(FramingNetstring, "the length has a leading zero: %q", clip(p))
		}
		// Checked at each digit, so size can't overflow and no digits pile up.
		if size = size*10 + int(p[i]-'0'); size > d.limit {
			return m, 0, false, tooBig(d.limit)
		}
	}
	if i == len(p) {
		return m, 0, false, nil
	}
	if i == 0 {
		return m, 0, false, badOutput(FramingNetstring, "the length is missing before the colon")
	}
	end := i + 1 + size
	if len(p) <= end {
		return m, 0, false, nil
	}
	if p[end] != ',' {
		return m, 0, false, badOutput(FramingNetstring, "expected a comma after %d bytes of data, found %q", size, clip(p[end:]))
	}
	return message(p[i+1 : end]), end + 1, true, nil
}

func (d netstringDecoder) eof(p []byte) (m frame.Message, ok bool, err error) {
	if len(p) > 0 {
		err = badOutput(FramingNetstring, "it ended inside a netstring, after %q", clip(p))
	}
	return m, false, err
}

// jsonLines: a message is an object on a line.
type jsonLines struct{}

func (jsonLines) encode(dst []byte, m frame.Message) ([]byte, *frame.CloseError) {
	if !m.Text || !utf8.Valid(m.Data) {
		dst = append(dst, `{"data64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, m.Data)
		return append(dst, "\"}\n"...), nil
	}
	dst = append(dst, `{"data":`...)
	b := bytes.NewBuffer(dst)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(m.Data)); err != nil {
		// Can't be: every valid UTF-8 has a JSON form.
		return dst, frame.Errorf(frame.CodeInternal, "the message has no JSON form: %v", err)
	}
	dst = b.Bytes()
	return append(dst[:len(dst)-1], "}\n"...), nil
}

func (jsonLines) decoder(limit int) decoder {
	// Each byte can be escaped as \u00XX; the rest is for the object around it.
	return &jsonDecoder{limit: limit, lines: lineDecoder{limit: 6*limit + 1024}}
}

type jsonDecoder struct {
	limit int
	lines lineDecoder
}

func (d *jsonDecoder) decode(p []byte) (frame.Message, int, bool, error) {
	line, n, ok, err := d.lines.decode(p)
	if err != nil {
		return line, 0, false, tooBig(d.limit)
	}
	if !ok {
		return line, n, false, nil
	}
	m, ok, err := d.object(line.Data)
	return m, n, ok, err
}

// eof takes a last line without LF as a line, like decode; half an object is
// an error there.
func (d *jsonDecoder) eof(p []byte) (frame.Message, bool, error) { return d.object(p) }

// object decodes one line. Blank lines mean nothing, unknown members are
// ignored, names are matched exactly.
func (d *jsonDecoder) object(line []byte) (m frame.Message, ok bool, err error) {
	if len(bytes.TrimSpace(line)) == 0 {
		return m, false, nil
	}
	// encoding/json would quietly put U+FFFD for what is not UTF-8.
	if !utf8.Valid(line) {
		return m, false, badOutput(FramingJSON, "the line is not UTF-8: %q", clip(line))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil || members == nil {
		return m, false, badOutput(FramingJSON, "the line is not a JSON object: %q", clip(line))
	}
	text, isText := members["data"]
	binary, isBinary := members["data64"]
	if isText == isBinary {
		return m, false, badOutput(FramingJSON, `expected either "data" or "data64": %q`, clip(line))
	}
	var s *string
	raw := text
	if isBinary {
		raw = binary
	}
	if json.Unmarshal(raw, &s) != nil || s == nil || loneSurrogate(raw) {
		return m, false, badOutput(FramingJSON, "the value is not a string of Unicode characters: %q", clip(line))
	}
	m.Data, m.Text = []byte(*s), isText
	if isBinary {
		if m.Data, err = base64.StdEncoding.DecodeString(*s); err != nil {
			return m, false, badOutput(FramingJSON, "data64 is not base64 with padding (RFC 4648 section 4): %q", clip(line))
		}
	}
	if len(m.Data) > d.limit {
		return m, false, tooBig(d.limit)
	}
	return m, true, nil
}

// loneSurrogate finds a \uD800-\uDFFF that is not one of a pair in a valid
// JSON string: it stands for no character, and encoding/json would replace it.
func loneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // the escaped character, so that \\u is not taken for \u
		switch unit := escapedUnit(raw[i-1:]); {
		case unit>>10 == 0xD800>>10:
			if escapedUnit(raw[i+5:])>>10 != 0xDC00>>10 {
				return true
			}
			i += 10
		case unit>>10 == 0xDC00>>10:
			return true
		}
	}
	return false
}

// escapedUnit is the UTF-16 code unit that p starts with as \uXXXX, else 0.
func escapedUnit(p []byte) uint16 {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return 0
	}
	u, _ := strconv.ParseUint(string(p[2:6]), 16, 16)
	return uint16(u)
}

// clip is the start of p, short enough for an error text.
func clip(p []byte) []byte { return p[:min(len(p), 40)] }
