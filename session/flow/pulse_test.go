package flow_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"tandem/session/flow"
	"tandem/session/frame"
)

// TestPulse: each read of the body earns one write of about one record, one
// credit is saved, and the body's end sets the output free.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		l := flow.New(cfg)
		r, w := io.Pipe()
		out := &output{stop: r}
		at := l.Attach(out, frame.Binary, flow.Pulsed, open(cfg))
		fed := make(chan error)
		go func() { fed <- at.Feed(r, frame.Binary, func(*frame.Frame) error { return nil }) }()
		step := func(in string, want int, what string) {
			t.Helper()
			if in != "" {
				io.WriteString(w, in)
			}
			synctest.Wait()
			if n := out.count(); n != want {
				t.Fatalf("%s: %d writes, want %d", what, n, want)
			}
		}
		step("", 0, "before the first byte")
		b, _ := frame.Binary.Append(nil, open(cfg))
		step(string(b), 1, "the open frame's credit")
		for range 3 {
			l.Send(t.Context(), frame.Message{Data: make([]byte, 10_000)})
		}
		step("", 1, "no credit")
		step("\x00\x00", 2, "one credit, one message of three")
		step("\x00\x00", 3, "one more")
		step("\x00\x00", 4, "the last")
		step("\x00\x00\x00\x00", 4, "nothing to write")
		step("\x00\x00", 4, "nothing to write, one credit is saved already")
		l.Send(t.Context(), frame.Text("now"))
		step("", 5, "the saved credit")
		l.Send(t.Context(), frame.Text("later"))
		l.Send(t.Context(), frame.Text("later"))
		step("", 5, "no second one")
		step("\x00\x00", 6, "both in one record")
		for _, n := range out.writes {
			if n > 16<<10+100 {
				t.Errorf("a write of %d bytes", n)
			}
		}
		l.Send(t.Context(), frame.Text("held"))
		end, _ := frame.Binary.Append(nil, &frame.Frame{Type: frame.TypeEnd})
		w.Write(end)
		w.Close()
		if err := <-fed; err != nil {
			t.Fatal(err)
		}
		l.Send(t.Context(), frame.Text("free"))
		l.Send(t.Context(), frame.Text("free"))
		synctest.Wait()
		if s := out.String(); strings.Count(s, "held") != 1 || strings.Count(s, "free") != 2 {
			t.Error("after the body's end output is still held back")
		}
		l.Finish(t.Context(), frame.CodeNormal, "")
		at.Detach()
	})
}
