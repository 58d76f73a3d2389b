package flow_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// echoing is a link with an app that echoes what a Feeder brings.
func echoing(t *testing.T, out flow.Carrier, before func(l *flow.Link, text string)) (*flow.Link, *flow.Feeder) {
	cfg := config()
	l := flow.New(cfg)
	l.React(func(m frame.Message, err error) bool {
		if err != nil {
			return false
		}
		if before != nil {
			before(l, string(m.Data))
		}
		return l.Pass(t.Context(), m) == nil
	})
	return l, l.Attach(out, frame.JSON, flow.Streaming, open(cfg)).Feeder(frame.JSON, ignore)
}

// lent is the yield of a Turn that must not need it.
func lent(t *testing.T) func() {
	return func() { t.Error("the Turn gave its goroutine up") }
}

// TestTurn: a Turn has the app called, and what it sends written, before it returns; what
// came together leaves in one write. Without a Turn nothing happens.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{}
		l, in := echoing(t, out, nil)
		synctest.Wait() // open has left
		in.Write([]byte(openLine))
		in.Turn(lent(t))
		writes := out.count()
		in.Write([]byte(messageLine(1, "one") + messageLine(2, "two")))
		in.Write([]byte(messageLine(3, "three") + `{"type":"ping","nonce":7}` + "\n"))
		synctest.Wait()
		if out.count() != writes {
			t.Errorf("something was written before the Turn: %q", out)
		}
		in.Turn(lent(t))
		if n := out.count() - writes; n != 1 {
			t.Errorf("%d writes, want one", n)
		}
		if s := out.String(); !strings.Contains(s, `"three"`) || !strings.Contains(s, `"pong","nonce":7`) {
			t.Errorf("written: %q, want the messages, and a pong", s)
		}
		l.Lost("the test is over")
		time.Sleep(time.Second) // of the bubble: what lingers ends
	})
}

// TestTurnAfterLinger: the goroutine that a Turn without a lent one has started waits for more, and
// steps back from a Turn that has one.
func TestTurnAfterLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{}
		l, in := echoing(t, out, nil)
		in.Write([]byte(openLine + messageLine(1, "one")))
		in.Turn(nil)
		synctest.Wait() // it is idle now
		for i, text := range []string{"two", "three"} {
			in.Write([]byte(messageLine(i+2, text)))
			in.Turn(lent(t))
			if !strings.Contains(out.String(), text) {
				t.Errorf("%q is not there at the end of its Turn", text)
			}
		}
		in.Write([]byte(messageLine(4, "four")))
		in.Turn(nil)
		synctest.Wait()
		if n := strings.Count(out.String(), `"message"`); n != 4 {
			t.Errorf("%d messages came back, want 4", n)
		}
		l.Lost("the test is over")
		time.Sleep(time.Second) // of the bubble: what lingers ends
	})
}

// TestTurnYields: an app that waits, for the peer's window or for something else, gives up
// the reader's goroutine, once. The reader goes on with other Turns, and the order stays.
func TestTurnYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := make(chan bool)
		out := &output{}
		l, in := echoing(t, out, func(l *flow.Link, text string) {
			if text == "wait" {
				l.WillBlock()
				l.WillBlock()
				<-wait
			}
		})
		synctest.Wait()
		in.Write([]byte(strings.Replace(openLine, "1024", "2", 1)))
		var yielded atomic.Int32
		yield := func() { yielded.Add(1) }
		in.Write([]byte(messageLine(1, "one") + messageLine(2, "wait") + messageLine(3, "three")))
		go in.Turn(yield)
		synctest.Wait()
		if n := yielded.Load(); n != 1 {
			t.Fatalf("yielded %d times, want once", n)
		}
		if !strings.Contains(out.String(), `"one"`) {
			t.Error("what was sent before the wait has not left")
		}
		in.Write([]byte(messageLine(4, "four")))
		in.Turn(lent(t)) // another one is at it
		wait <- true
		synctest.Wait() // the peer's window of two is full
		if s := out.String(); !strings.Contains(s, `"wait"`) || strings.Contains(s, `"three"`) {
			t.Errorf("written: %q", s)
		}
		in.Write([]byte(ackLine(2)))
		in.Turn(lent(t))
		synctest.Wait()
		if !strings.Contains(out.String(), `"four"`) {
			t.Errorf("written: %q", out)
		}
		// The window alone.
		in.Write([]byte(`{"type":"ack","received":4,"window":262144,"messages":1}` + "\n" + messageLine(5, "five") + messageLine(6, "six")))
		go in.Turn(yield)
		synctest.Wait()
		if n := yielded.Load(); n != 2 {
			t.Errorf("yielded %d times, want once more", n)
		}
		in.Write([]byte(ackLine(5)))
		in.Turn(lent(t))
		synctest.Wait()
		var last int
		for i, text := range []string{"one", "wait", "three", "four", "five", "six"} {
			at := strings.Index(out.String(), `"`+text+`"`)
			if at < last {
				t.Errorf("message %d, %q, is at %d, after %d", i+1, text, at, last)
			}
			last = at
		}
		l.Lost("the test is over")
		time.Sleep(time.Second) // of the bubble: what lingers ends
	})
}
