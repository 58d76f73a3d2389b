package frame

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// The short way through a line of the json codec: messages and acks in the form
// that Append gives them, open frames with their fields in any order, and any legal
// escapes in the text. It judges nothing: whatever else comes, errors too, goes the long
// way (json_object.go).

// decodeFast fills f and reports true if line has that form. It allocates only
// for data that must be unescaped or comes as base64.
func decodeFast(line []byte, f *Frame) bool {
	c := cursor(line)
	var g Frame
	ok := false
	switch {
	case c.literal(`{"type":"message","seq":`):
		g.Type = TypeMessage
		ok = c.message(&g)
	case c.literal(`{"type":"ack","received":`):
		g.Type = TypeAck
		ok = c.number(&g.Received) &&
			c.literal(`,"window":`) && c.number(&g.Window) &&
			c.literal(`,"messages":`) && c.number(&g.Messages)
	case c.literal(`{"type":"open",`):
		g.Type = TypeOpen
		ok = c.open(&g)
	}
	if !ok || !c.literal("}") || len(c) > 0 {
		return false
	}
	*f = g
	return true
}

// decodeFastOpen is decodeFast for the open frame of the binary codec.
func decodeFastOpen(object []byte, f *Frame) bool {
	c := cursor(object)
	var g Frame
	if !c.literal("{") || !c.open(&g) || !c.literal("}") || len(c) > 0 {
		return false
	}
	*f = g
	return true
}

// cursor is what is left of a line. Each method takes what it names off the
// start, or reports false.
type cursor []byte

func (c *cursor) literal(s string) bool {
	if len(*c) < len(s) || string((*c)[:len(s)]) != s {
		return false
	}
	*c = (*c)[len(s):]
	return true
}

func (c *cursor) number(v *uint64) bool {
	n := 0
	for n < len(*c) && '0' <= (*c)[n] && (*c)[n] <= '9' {
		n++
	}
	var ok bool
	*v, ok = parseNumber((*c)[:n])
	*c = (*c)[n:]
	return ok
}

func (c *cursor) message(f *Frame) bool {
	if !c.number(&f.Seq) || f.Seq == 0 {
		return false
	}
	var ok bool
	switch {
	case c.literal(`,"data":"`):
		f.Text = true
		f.Data, ok = c.text()
		ok = ok && utf8.Valid(f.Data)
	case c.literal(`,"data64":"`):
		f.Data, ok = c.base64()
	}
	f.More = c.literal(`,"more":true`)
	return ok && len(f.Data) <= MaxData
}

// open takes the fields of an open frame.
func (c *cursor) open(f *Frame) bool {
	for {
		ok := false
		switch {
		case c.literal(`"version":`):
			ok = c.number(&f.Version)
		case c.literal(`"session":"`):
			ok = c.name(&f.Session)
		case c.literal(`"transport":"`):
			ok = c.name(&f.Transport)
		case c.literal(`"heartbeat":`):
			ok = c.number(&f.Heartbeat)
		case c.literal(`"window":`):
			ok = c.number(&f.Window)
		case c.literal(`"messages":`):
			ok = c.number(&f.Messages)
		case c.literal(`"grace":`):
			ok = c.number(&f.Grace)
		case c.literal(`"max_message":`):
			ok = c.number(&f.MaxMessage)
		case c.literal(`"start":`):
			f.Hold = c.literal("false")
			ok = f.Hold || c.literal("true")
		}
		if !ok {
			return false
		}
		if !c.literal(",") {
			return true
		}
	}
}

func (c *cursor) name(s *string) bool {
	text, ok := c.text()
	*s = string(text)
	return ok && utf8.Valid(text)
}

// text takes the rest of a string and its closing quote. The result is the
// input itself unless there are escapes in it.
func (c *cursor) text() ([]byte, bool) {
	n := plain(*c)
	if n == len(*c) {
		return nil, false
	}
	if (*c)[n] == '\\' {
		return c.escaped(n)
	}
	s := (*c)[:n:n]
	return s, c.close(n)
}

func (c *cursor) base64() ([]byte, bool) {
	n := bytes.IndexByte(*c, '"')
	if n < 0 || n > base64.StdEncoding.EncodedLen(MaxData) {
		return nil, false
	}
	data, err := decode64((*c)[:n])
	return data, err == nil && c.close(n)
}

// close takes n bytes and the closing quote after them.
func (c *cursor) close(n int) bool {
	*c = (*c)[n:]
	return c.literal(`"`)
}

// escaped is text for a string whose first escape is at n.
func (c *cursor) escaped(n int) ([]byte, bool) {
	s := *c
	out := make([]byte, 0, min(len(s), MaxData)) // no escape is shorter than what it stands for
	for len(out) <= MaxData {
		out = append(out, s[:n]...)
		s = s[n:]
		if len(s) < 2 {
			break
		}
		if s[0] == '"' {
			*c = s[1:]
			return out, true
		}
		if s[0] != '\\' {
			break
		}
		r, took := unescape(s)
		if took == 0 {
			break
		}
		out = utf8.AppendRune(out, r)
		s = s[took:]
		n = plain(s)
	}
	return nil, false
}

// unescape reads the escape at the start of s, a surrogate pair as one, and
// tells how long it is: 0 for one that is not allowed.
func unescape(s []byte) (r rune, took int) {
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r, ok := hexEscape(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, _ := hexEscape(s[6:])
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hexEscape reads the \uXXXX at the start of s.
func hexEscape(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, b := range s[2:6] {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		case 'A' <= b && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(b)
	}
	return r, true
}

// plain counts the bytes at the start of s that stand for themselves in a JSON
// string: no quote, backslash or control character. It looks at eight bytes at
// once, for it sees every byte of every message.
func plain(s []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(s); n += 8 {
		x := binary.LittleEndian.Uint64(s[n:])
		quote, backslash := x^ones*'"', x^ones*'\\'
		// y-ones sets the top bit of a byte that was 0, x-ones*32 of one below
		// 32; those whose top bit was set before don't count.
		if ((quote-ones)&^quote|(backslash-ones)&^backslash|(x-ones*' ')&^x)&tops != 0 {
			break
		}
	}
	for n < len(s) && s[n] >= ' ' && s[n] != '"' && s[n] != '\\' {
		n++
	}
	return n
}
