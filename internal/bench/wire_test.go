package bench

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"tandem/session/frame"
)

var payload = Payload(64)

// TestWire: what a wire sends is what the codec's decoder understands, and it
// counts what the codec's encoder makes, however the bytes are cut.
func TestWire(t *testing.T) {
	for _, codec := range frame.Codecs() {
		t.Run(codec.Name(), func(t *testing.T) {
			w := newWire(codec, payload, time.Second)
			b, err := w.open(nil)
			if err != nil {
				t.Fatal(err)
			}
			w.received = 5
			if b, err = w.send(b, 3); err != nil {
				t.Fatal(err)
			}
			if b, err = w.end(b); err != nil {
				t.Fatal(err)
			}
			want := []frame.Type{frame.TypeOpen, frame.TypeAck, frame.TypeMessage, frame.TypeMessage, frame.TypeMessage, frame.TypeClose}
			if !codec.Framed() {
				want = []frame.Type{frame.TypeMessage, frame.TypeMessage, frame.TypeMessage}
			}
			for i, kind := range want {
				var f frame.Frame
				n, err := codec.NewDecoder().Decode(b, &f)
				if err != nil || n == 0 || f.Type != kind {
					t.Fatalf("frame %d: %d bytes, %+v, %v; want a frame %v", i, n, f, err, kind)
				}
				if kind == frame.TypeMessage && !bytes.Equal(f.Data, payload) || kind == frame.TypeAck && f.Received != 5 {
					t.Errorf("frame %d: %+v", i, f)
				}
				b = b[n:]
			}
			if len(b) > 0 {
				t.Errorf("left over: %q", b)
			}

			var answer []byte
			for _, f := range []frame.Frame{
				{Type: frame.TypeOpen, Version: 1, Session: "a.b", Window: 40000, Messages: 50},
				{Type: frame.TypeAck, Received: 3, Window: 40000, Messages: 50},
				{Type: frame.TypeMessage, Seq: 1, Data: payload, Text: true},
				{Type: frame.TypeEmpty},
				{Type: frame.TypeMessage, Seq: 2, Data: payload, Text: true},
			} {
				if answer, err = codec.Append(answer, &f); err != nil {
					t.Fatal(err)
				}
			}
			for cut := range answer {
				w := newWire(codec, payload, time.Second)
				w.sent = 3
				used, first, err := w.take(answer[:cut])
				if err != nil {
					t.Fatal(err)
				}
				rest, second, err := w.take(answer[used:])
				if err != nil || used+rest != len(answer) || first+second != 2 {
					t.Fatalf("cut at %d: %d + %d of %d bytes, %d + %d messages, %v; want 2", cut, used, rest, len(answer), first, second, err)
				}
				if codec.Framed() && (!w.opened || w.acked != 3 || w.received != 2 || w.room() != 50) {
					t.Fatalf("cut at %d: %+v, room for %d", cut, w, w.room())
				}
			}
		})
	}
}

// TestWireWindow: no more is sent than the server's window takes.
func TestWireWindow(t *testing.T) {
	w := newWire(frame.JSON, payload, 0)
	w.sent, w.acked = 100, 40
	if got := w.room(); got != 4 { // of 64 messages
		t.Errorf("room for %d, want 4", got)
	}
	w.window = 61*96 + 95
	if got := w.room(); got != 1 {
		t.Errorf("room for %d, want 1", got)
	}
	w.window = 16 << 10 / 3
	if got := w.room(); got > 0 {
		t.Errorf("room for %d, want none", got)
	}
}

// TestWireClose: a session that the server ends is an error that says how.
func TestWireClose(t *testing.T) {
	for _, codec := range []frame.Codec{frame.Binary, frame.JSON} {
		b, err := codec.Append(nil, &frame.Frame{Type: frame.TypeClose, Code: frame.CodePolicy})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = newWire(codec, payload, time.Second).take(b)
		var e *frame.CloseError
		if !errors.As(err, &e) || e.Code != frame.CodePolicy {
			t.Errorf("%s: %v, want %v", codec.Name(), err, frame.CodePolicy)
		}
	}
}

func TestDechunker(t *testing.T) {
	const body = "5\r\nhello\r\n00b\r\n, you there\r\n0\r\n\r\n"
	for cut := range body {
		var d dechunker
		plain, err := d.take([]byte(body[:cut]), nil)
		if err == nil {
			plain, err = d.take([]byte(body[cut:]), plain)
		}
		if err != nil || string(plain) != "hello, you there" || !d.ended {
			t.Errorf("cut at %d: %q, ended %v, %v", cut, plain, d.ended, err)
		}
	}
	for _, bad := range []string{"x\r\n", "-1\r\n", "123456789\r\n", "000000000000000000000000000000"} {
		var d dechunker
		if _, err := d.take([]byte(bad), nil); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
