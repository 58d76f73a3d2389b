package frame

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// body is what came out of the bytes of one body.
type body struct {
	frames []Frame
	err    error // io.ErrUnexpectedEOF for a framed body that was cut
}

// decodeAll feeds in to a new decoder, step bytes at a time, as a reader of a
// body would.
func decodeAll(t testing.TB, c Codec, in []byte, step int) body {
	t.Helper()
	var b body
	var f Frame
	keep := func() {
		f.Data = bytes.Clone(f.Data) // valid only until the next call
		b.frames = append(b.frames, f)
	}
	d := c.NewDecoder()
	start := 0
	for end := 0; end < len(in); {
		end = min(end+step, len(in))
		for {
			n, err := d.Decode(in[start:end:end], &f)
			if n < 0 || n > end-start {
				t.Fatalf("%s: Decode took %d bytes of %d", c.Name(), n, end-start)
			}
			if err != nil {
				b.err = err
				return b
			}
			if n == 0 {
				break
			}
			start += n
			keep()
		}
	}
	ok, err := d.EOF(in[start:], &f)
	if ok {
		keep()
	}
	b.err = err
	return b
}

// same compares frames; no data is empty data.
func same(a, b Frame) bool {
	if !bytes.Equal(a.Data, b.Data) {
		return false
	}
	a.Data, b.Data = nil, nil
	return equalFields(a, b)
}

func equalFields(a, b Frame) bool {
	return a.Type == b.Type && a.Seq == b.Seq && a.Text == b.Text && a.More == b.More &&
		a.Received == b.Received && a.Window == b.Window && a.Messages == b.Messages &&
		a.Nonce == b.Nonce && a.Code == b.Code && a.Reason == b.Reason && a.RetryMS == b.RetryMS &&
		a.Version == b.Version && a.Session == b.Session && a.Transport == b.Transport &&
		a.Heartbeat == b.Heartbeat && a.MaxMessage == b.MaxMessage && a.Hold == b.Hold
}

func sameBody(t testing.TB, what string, got, expected body) {
	t.Helper()
	if !slices.EqualFunc(got.frames, expected.frames, same) {
		t.Errorf("%s: got %d frames %.200v, expected %d frames %.200v", what, len(got.frames), got.frames, len(expected.frames), expected.frames)
	}
	if codeOf(got.err) != codeOf(expected.err) || (got.err == nil) != (expected.err == nil) {
		t.Errorf("%s: got error %v, expected %v", what, got.err, expected.err)
	}
}

// codeOf is the code that a session would be closed with: 0 for no error or a
// cut body.
func codeOf(err error) Code {
	var e *CloseError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestByMediaType(t *testing.T) {
	for value, expected := range map[string]Codec{
		"":                                        Lines,
		"text/plain":                              Lines,
		"Text/Plain; charset=UTF-8":               Lines,
		`text/plain; charset="us-ascii"`:          Lines,
		"text/plain; format=flowed":               Lines,
		"text/plain; charset=iso-8859-1":          nil,
		"application/x-ndjson":                    JSON,
		"application/x-ndjson; charset=utf-8":     JSON,
		"application/x-ndjson; charset=utf-16":    nil,
		"application/vnd.tandem":                  Binary,
		"application/vnd.tandem; v=1":             Binary,
		"application/json":                        nil,
		"application/x-www-form-urlencoded":       nil,
		"text/plain; charset":                     nil,
		"text/plain, application/x-ndjson":        nil,
		"text/plain; charset=utf-8; charset=utf8": nil,
		"/": nil,
	} {
		got, ok := ByMediaType(value)
		if got != expected || ok != (expected != nil) {
			t.Errorf("ByMediaType(%q) = %v, %v, expected %v", value, got, ok, expected)
		}
	}
}

func TestCodecsAreFound(t *testing.T) {
	if n := len(Codecs()); n != 3 {
		t.Errorf("got %d codecs, expected 3", n)
	}
	for _, c := range Codecs() {
		if got, ok := ByName(c.Name()); got != c || !ok {
			t.Errorf("ByName(%q) = %v, %v", c.Name(), got, ok)
		}
		if got, ok := ByMediaType(c.MediaType()); got != c || !ok {
			t.Errorf("ByMediaType(%q) = %v, %v", c.MediaType(), got, ok)
		}
		if c.Framed() != (c != Lines) {
			t.Errorf("%s: Framed() = %v", c.Name(), c.Framed())
		}
	}
	if c, ok := ByName("xml"); ok {
		t.Errorf("ByName(xml) = %v, expected none", c)
	}
}

func TestCut(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name     string
		data     string
		text     bool
		expected int
	}{
		{"empty", "", true, 0},
		{"full", x(MaxData), true, MaxData},
		{"one more", x(MaxData + 1), true, MaxData},
		{"rune ends at the limit", x(MaxData-2) + "éé", true, MaxData},
		{"rune of 2 across", x(MaxData-1) + "é", true, MaxData - 1},
		{"rune of 4 across by 1", x(MaxData-3) + "😀", true, MaxData - 3},
		{"rune of 4 across by 3", x(MaxData-1) + "😀", true, MaxData - 1},
		{"binary", x(MaxData-1) + "😀", false, MaxData},
		{"not UTF-8", strings.Repeat("\x80", 2*MaxData), true, MaxData},
	} {
		if got := Cut([]byte(c.data), c.text); got != c.expected {
			t.Errorf("%s: Cut = %d, expected %d", c.name, got, c.expected)
		}
	}
}

func TestCleanReason(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"", ""},
		{"bye", "bye"},
		{"b\xffye", "b\uFFFDye"},
		{strings.Repeat("é", MaxReason), strings.Repeat("é", MaxReason/2)},
		{"x" + strings.Repeat("é", MaxReason), "x" + strings.Repeat("é", MaxReason/2-1)},
		{strings.Repeat("\xffx", MaxReason), strings.Repeat("\uFFFDx", MaxReason/4)},
	} {
		got := CleanReason(c.in)
		if got != c.out {
			t.Errorf("CleanReason(%.20q) = %.60q (%d bytes), expected %.60q (%d)", c.in, got, len(got), c.out, len(c.out))
		}
		if len(got) > MaxReason || !utf8.ValidString(got) || CleanReason(got) != got {
			t.Errorf("CleanReason(%.20q) is not clean", c.in)
		}
	}
}

// Both framed codecs refuse to send what their decoders would refuse to read.
func TestAppendRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame Frame
		code  Code
	}{
		{"data above MaxData", Frame{Type: TypeMessage, Seq: 1, Data: make([]byte, MaxData+1)}, CodeTooBig},
		{"text that is not UTF-8", Frame{Type: TypeMessage, Seq: 1, Data: []byte("a\xc3"), Text: true}, CodeBadUTF8},
		{"message without seq", Frame{Type: TypeMessage}, CodeInternal},
		{"number above 2^53-1", Frame{Type: TypeAck, Window: MaxInt + 1}, CodeInternal},
		{"close without code", Frame{Type: TypeClose}, CodeInternal},
		{"detach with code 5000", Frame{Type: TypeDetach, Code: 5000}, CodeInternal},
		{"unknown type", Frame{Type: TypeDetach + 1}, CodeInternal},
		{"session not UTF-8", Frame{Type: TypeOpen, Session: "\xff"}, CodeInternal},
		{"huge open", Frame{Type: TypeOpen, Session: strings.Repeat("x", MaxLine)}, CodeTooBig},
	} {
		for _, codec := range []Codec{JSON, Binary} {
			got, err := codec.Append([]byte("before"), &c.frame)
			if codeOf(err) != c.code {
				t.Errorf("%s: %s: got error %v, expected code %d", codec.Name(), c.name, err, c.code)
			}
			if string(got) != "before" {
				t.Errorf("%s: %s: dst became %.20q", codec.Name(), c.name, got)
			}
		}
	}
}

// A framed body that ends inside a frame was cut.
func TestCutBody(t *testing.T) {
	for _, codec := range []Codec{JSON, Binary} {
		wire, err := codec.Append(nil, &Frame{Type: TypeMessage, Seq: 300, Data: []byte("hello"), Text: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(wire); i++ {
			b := decodeAll(t, codec, wire[:i], len(wire))
			if len(b.frames) > 0 || b.err != io.ErrUnexpectedEOF {
				t.Errorf("%s: the first %d of %d bytes gave %v, %v, expected io.ErrUnexpectedEOF", codec.Name(), i, len(wire), b.frames, b.err)
			}
		}
	}
}

// No error text echoes more than a glimpse of what came, or breaks the limit of
// a reason.
func TestErrorTextIsShort(t *testing.T) {
	junk := bytes.Repeat([]byte("\x00\xff"), MaxLine)
	for _, codec := range Codecs() {
		b := decodeAll(t, codec, junk, len(junk))
		if b.err == nil {
			t.Errorf("%s: junk gave no error", codec.Name())
			continue
		}
		if n := len(b.err.Error()); n > 400 {
			t.Errorf("%s: error of %d bytes: %v", codec.Name(), n, b.err)
		}
	}
}

// A session sends and receives messages all the time, so that must not
// allocate.
func TestAllocs(t *testing.T) {
	for _, codec := range []Codec{JSON, Binary} {
		for _, f := range []Frame{
			{Type: TypeMessage, Seq: 12345, Data: bytes.Repeat([]byte("é\x7f"), 1000), Text: true, More: true},
			{Type: TypeMessage, Seq: 12345, Text: true},
			{Type: TypeAck, Received: 12345, Window: 65536, Messages: 64},
			{Type: TypeEmpty},
		} {
			wire, err := codec.Append(nil, &f)
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 0, len(wire))
			if n := testing.AllocsPerRun(100, func() { _, err = codec.Append(buf, &f) }); n != 0 || err != nil {
				t.Errorf("%s: Append of type %s: %v allocations, %v", codec.Name(), f.Type, n, err)
			}
			d := codec.NewDecoder()
			var got Frame
			if n := testing.AllocsPerRun(100, func() { _, err = d.Decode(wire, &got) }); n != 0 || err != nil {
				t.Errorf("%s: Decode of type %s: %v allocations, %v", codec.Name(), f.Type, n, err)
			}
			if !same(got, f) {
				t.Errorf("%s: got %v, expected %v", codec.Name(), got, f)
			}
		}
		binaryData := Frame{Type: TypeMessage, Seq: 1, Data: make([]byte, 1000)}
		buf := make([]byte, 0, 2000)
		if n := testing.AllocsPerRun(100, func() { codec.Append(buf, &binaryData) }); n != 0 {
			t.Errorf("%s: Append of a binary message: %v allocations", codec.Name(), n)
		}
	}
}
