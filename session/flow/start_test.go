package flow

import (
	"bytes"
	"testing"

	"tandem/session/frame"
)

// collector is a carrier that keeps what is written.
type collector struct{ bytes.Buffer }

func (*collector) Flush() error { return nil }
func (*collector) Finished()    {}
func (*collector) Abort()       {}

func TestStartFollowsOpen(t *testing.T) {
	var out collector
	l := New(Config{MaxMessage: 1 << 20, Window: InitialWindow, Messages: InitialMessages})
	at := l.Attach(&out, frame.JSON, Streaming, &frame.Frame{Type: frame.TypeOpen, Version: frame.Version, Window: InitialWindow, Messages: InitialMessages, Hold: true})
	l.Start()
	l.Finish(t.Context(), frame.CodeNormal, "")
	<-at.Finished()
	dec := frame.JSON.NewDecoder()
	var got []frame.Type
	for rest := out.Bytes(); len(rest) > 0; {
		var f frame.Frame
		n, err := dec.Decode(rest, &f)
		if err != nil || n == 0 {
			t.Fatalf("took %d bytes of %q: %v", n, rest, err)
		}
		rest = rest[n:]
		got = append(got, f.Type)
	}
	if len(got) != 3 || got[0] != frame.TypeOpen || got[1] != frame.TypeStart {
		t.Fatalf("got frames %v, expected open, start, close", got)
	}
}
