package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
	"unicode/utf8"
)

// The fuzz targets: whatever comes, no panic, the same frames in whatever
// portions it comes, and what was read can be written and read again. Seeds are
// the byte tables of the other tests, and testdata/fuzz.

// steps decodes in in portions of several sizes and expects the same of each.
func steps(t *testing.T, c Codec, in []byte) body {
	whole := decodeAll(t, c, in, len(in)+1)
	for _, step := range []int{1, 7, 4096} {
		if step == 1 && len(in) > 4<<10 {
			continue // slow, and the long inputs differ only in length
		}
		sameBody(t, c.Name()+" in portions", decodeAll(t, c, in, step), whole)
	}
	if whole.err != nil && codeOf(whole.err) == 0 && whole.err != io.ErrUnexpectedEOF {
		t.Errorf("%s: error %v is neither a CloseError nor io.ErrUnexpectedEOF", c.Name(), whole.err)
	}
	return whole
}

// again writes frames and reads them back.
func again(t *testing.T, c Codec, frames []Frame) {
	var wire []byte
	var written body
	for _, f := range frames {
		longer, err := c.Append(wire, &f)
		var e *CloseError
		if errors.As(err, &e) && e.Code == CodeTooBig && f.Type == TypeOpen {
			continue // a name within the limit only in a shorter form
		}
		if err != nil {
			t.Fatalf("%s: Append refuses what Decode gave: %v: %v", c.Name(), f, err)
		}
		wire = longer
		written.frames = append(written.frames, f)
	}
	sameBody(t, c.Name()+" again", decodeAll(t, c, wire, len(wire)+1), written)
}

// asMessages sends data in message frames, as text if it can be that.
func asMessages(t *testing.T, c Codec, data []byte) {
	isText := utf8.Valid(data)
	var frames []Frame
	for seq := uint64(1); ; seq++ {
		n := Cut(data, isText)
		f := Frame{Type: TypeMessage, Seq: seq, Data: data[:n], Text: isText, More: n < len(data)}
		frames = append(frames, f)
		if data = data[n:]; !f.More {
			break
		}
	}
	again(t, c, frames)
}

func FuzzJSON(f *testing.F) {
	for _, c := range jsonTable {
		f.Add([]byte(c.wire))
	}
	for line := range badJSON() {
		if len(line) < 200 {
			f.Add([]byte(line + "\n"))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for line := range bytes.Lines(in) {
			fastAndSlow(t, bytes.TrimSuffix(line, []byte("\n")))
		}
		again(t, JSON, steps(t, JSON, in).frames)
		asMessages(t, JSON, in)
		// The fuzzer seldom makes a whole line; put its bytes into one.
		for _, around := range [][2]string{
			{`{"type":"message","seq":1,"data":"`, `"}`},
			{`{"type":"message","seq":1,"data64":"`, `","more":true}`},
			{`{"type":"message","seq":`, `,"data":"x"}`},
			{`{"type":"ack","received":1,"window":`, `,"messages":3}`},
			{`{"type":"open","version":1,`, `}`},
			{`{"type":"open","session":"`, `","start":false}`},
		} {
			line := slices.Concat([]byte(around[0]), in, []byte(around[1]))
			if !bytes.Contains(line, []byte("\n")) {
				fastAndSlow(t, line)
			}
		}
	})
}

// fastAndSlow: what the short way accepts, the long way reads the same.
func fastAndSlow(t *testing.T, line []byte) {
	var fast, slow Frame
	if !decodeFast(line, &fast) {
		return
	}
	if err := decodeObject(line, &slow); err != nil || !same(fast, slow) {
		t.Errorf("%q: the short way gives %v, the long way %v, %v", line, fast, slow, err)
	}
}

func FuzzBinary(f *testing.F) {
	for _, c := range binaryTable {
		f.Add(unhex(f, c.wire))
	}
	for wire := range badBinary() {
		if p, err := hex.DecodeString(wire); err == nil && len(p) < 200 {
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		again(t, Binary, steps(t, Binary, in).frames)
		asMessages(t, Binary, in)
	})
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "a\n\nb\n", "a\r\n", "\x04", "a\n\x04\n", "\x04\x04\n", "not ended", "\xff\n", "\xc3", "é\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		wholeLines(t, in)
		// The same with a line of several fragments before it.
		wholeLines(t, slices.Concat(bytes.Repeat([]byte("é"), MaxData), in))
	})
}

// wholeLines expects of the decoder what splitting at each LF gives, and of the
// encoder the input again.
func wholeLines(t *testing.T, in []byte) {
	got := steps(t, Lines, in)
	if !utf8.Valid(in) {
		if codeOf(got.err) != CodeBadUTF8 {
			t.Errorf("%.80q: got error %v, expected code 1007", in, got.err)
		}
		return
	}
	if got.err != nil {
		t.Fatalf("%.80q: %v", in, got.err)
	}
	lines := bytes.Split(in, []byte("\n"))
	if last := len(lines) - 1; len(lines[last]) == 0 {
		lines = lines[:last]
	}
	var joined, wire []byte
	for _, f := range got.frames {
		if len(lines) == 0 {
			t.Fatalf("%.80q: frame %v more than lines", in, f)
		}
		if f.Type == TypeClose {
			if string(lines[0]) != "\x04" {
				t.Fatalf("line %.80q: taken for the termination", lines[0])
			}
			wire = append(wire, "\x04\n"...)
			lines = lines[1:]
			continue
		}
		if len(f.Data) > MaxData {
			t.Fatalf("fragment of %d bytes", len(f.Data))
		}
		var err error
		if wire, err = Lines.Append(wire, &f); err != nil {
			t.Fatal(err)
		}
		joined = append(joined, f.Data...)
		if f.More {
			continue
		}
		if !bytes.Equal(joined, lines[0]) || string(joined) == "\x04" {
			t.Fatalf("got %.80q, expected line %.80q", joined, lines[0])
		}
		joined, lines = nil, lines[1:]
	}
	if len(lines) > 0 || joined != nil {
		t.Errorf("%.80q: %d lines have no frame", in, len(lines))
	}
	if expected := slices.Concat(bytes.TrimSuffix(in, []byte("\n")), []byte("\n")); len(in) > 0 && !bytes.Equal(wire, expected) {
		t.Errorf("wrote %.80q, expected %.80q", wire, expected)
	}
}
