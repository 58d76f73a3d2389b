package frame

import (
	"strings"
	"testing"
)

func line(s string) Frame { return Frame{Type: TypeMessage, Data: []byte(s), Text: true} }
func fragment(s string) Frame {
	return Frame{Type: TypeMessage, Data: []byte(s), Text: true, More: true}
}

var terminated = Frame{Type: TypeClose, Code: CodeNormal}

func TestLinesReads(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, in string
		expected []Frame
	}{
		{"nothing", "", nil},
		{"one", "a\n", []Frame{line("a")}},
		{"blank between", "a\n\nb\n", []Frame{line("a"), line(""), line("b")}},
		{"CR is data", "a\r\n\r\n", []Frame{line("a\r"), line("\r")}},
		{"NUL is data", "\x00\n", []Frame{line("\x00")}},
		{"not ended", "a\nb", []Frame{line("a"), line("b")}},
		{"terminated", "a\n\x04\n", []Frame{line("a"), terminated}},
		{"terminated, not ended", "a\n\x04", []Frame{line("a"), terminated}},
		{"0x04 in a line", "\x04\x04\na\x04\n\x04\r\n", []Frame{line("\x04\x04"), line("a\x04"), line("\x04\r")}},
		{"full", x(MaxData) + "\n", []Frame{line(x(MaxData))}},
		{"full, not ended", x(MaxData), []Frame{line(x(MaxData))}},
		{"one more", x(MaxData) + "y\n", []Frame{fragment(x(MaxData)), line("y")}},
		{"one more, not ended", x(MaxData) + "y", []Frame{fragment(x(MaxData)), line("y")}},
		{"0x04 as the rest of a line", x(MaxData) + "\x04\n\x04\n", []Frame{fragment(x(MaxData)), line("\x04"), terminated}},
		{"0x04 as the rest, not ended", x(MaxData) + "\x04", []Frame{fragment(x(MaxData)), line("\x04")}},
		{"three fragments", x(2*MaxData+1) + "\nb\n", []Frame{fragment(x(MaxData)), fragment(x(MaxData)), line("x"), line("b")}},
		{"cut before a rune", x(MaxData-1) + "é\n", []Frame{fragment(x(MaxData - 1)), line("é")}},
		{"cut before a rune, not ended", x(MaxData-1) + "é", []Frame{fragment(x(MaxData - 1)), line("é")}},
		{"cut after a rune", x(MaxData-2) + "éé\n", []Frame{fragment(x(MaxData-2) + "é"), line("é")}},
	} {
		in := []byte(c.in)
		for _, step := range []int{1, 4096, len(in) + 1} {
			sameBody(t, c.name, decodeAll(t, Lines, in, step), body{frames: c.expected})
		}
	}
}

// The last byte of a long line can be gone before the line's end comes: an
// empty fragment completes it then.
func TestLinesEmptyRest(t *testing.T) {
	for _, rest := range []string{"\n", ""} {
		d := &linesDecoder{mid: true}
		f := Frame{Seq: 5}
		var err error
		ok := true
		if rest == "" {
			ok, err = d.EOF(nil, &f)
		} else {
			_, err = d.Decode([]byte(rest), &f)
		}
		if !ok || err != nil || !same(f, line("")) {
			t.Errorf("rest %q: got %v, %v, %v, expected an empty last fragment", rest, f, ok, err)
		}
		if ok, err := d.EOF(nil, &f); ok || err != nil {
			t.Errorf("rest %q: got another frame %v, %v", rest, f, err)
		}
	}
}

func TestLinesRefuses(t *testing.T) {
	x := strings.Repeat("x", MaxData-1)
	for name, in := range map[string]string{
		"not UTF-8":              "a\xff\n",
		"not ended":              "a\xff",
		"half a rune":            "\xc3\n",
		"half a rune at the end": "\xf0\x9f\x98",
		"a surrogate":            "\xed\xa0\x80\n",
		"at a cut":               x + "\xc3x\n",
		"half a rune at a cut":   x + "\xc3\n",
		"no rune starts":         strings.Repeat("\x80", 2*MaxData),
		"in a second fragment":   x + x + "\xff\n",
	} {
		for _, step := range []int{1, len(in)} {
			if b := decodeAll(t, Lines, []byte(in), step); codeOf(b.err) != CodeBadUTF8 {
				t.Errorf("%s, %d bytes at a time: got %.100v, %v, expected code 1007", name, step, b.frames, b.err)
			}
		}
	}
}

func TestLinesAppend(t *testing.T) {
	full := strings.Repeat("x", MaxData)
	for _, c := range []struct {
		name  string
		frame Frame
		wire  string
		code  Code
	}{
		{"text", Frame{Type: TypeMessage, Seq: 3, Data: []byte("hé"), Text: true}, "hé\n", 0},
		{"empty", Frame{Type: TypeMessage, Seq: 3, Text: true}, "\n", 0},
		{"CR", Frame{Type: TypeMessage, Data: []byte("a\r"), Text: true}, "a\r\n", 0},
		{"binary without LF", Frame{Type: TypeMessage, Data: []byte{0xff, 0}}, "\xff\x00\n", 0},
		{"more", Frame{Type: TypeMessage, Data: []byte("a"), More: true}, "a", 0},
		{"full", Frame{Type: TypeMessage, Data: []byte(full), Text: true}, full + "\n", 0},
		{"no seq", Frame{Type: TypeMessage}, "\n", 0},
		{"LF in text", Frame{Type: TypeMessage, Data: []byte("a\nb"), Text: true}, "", CodeUnsupported},
		{"LF in binary", Frame{Type: TypeMessage, Data: []byte("\n")}, "", CodeUnsupported},
		{"LF in a fragment", Frame{Type: TypeMessage, Data: []byte("a\n"), More: true}, "", CodeUnsupported},
		{"not UTF-8", Frame{Type: TypeMessage, Data: []byte("\xff"), Text: true}, "", CodeBadUTF8},
		{"too big", Frame{Type: TypeMessage, Data: []byte(full + "x")}, "", CodeTooBig},
		{"open", Frame{Type: TypeOpen, Version: 1}, "", 0},
		{"ack", Frame{Type: TypeAck, Window: 1}, "", 0},
		{"close", Frame{Type: TypeClose, Code: CodeNormal}, "", 0},
		{"empty frame", Frame{}, "", 0},
	} {
		got, err := Lines.Append([]byte("+"), &c.frame)
		if string(got) != "+"+c.wire || codeOf(err) != c.code || (err == nil) != (c.code == 0) {
			t.Errorf("%s: Append gave %.40q, %v, expected %.40q, code %d", c.name, got, err, "+"+c.wire, c.code)
		}
	}
}
