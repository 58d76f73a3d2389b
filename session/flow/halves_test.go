package flow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// graceful is a link whose session outlives its carriers.
func graceful() (*flow.Link, flow.Config) {
	cfg := config()
	cfg.Grace = time.Hour
	return flow.New(cfg), cfg
}

func ignore(*frame.Frame) error { return nil }

const openLine = `{"type":"open","version":1,"window":262144,"messages":1024}` + "\n"

func messageLine(seq int, text string) string {
	return fmt.Sprintf(`{"type":"message","seq":%d,"data":%q}`+"\n", seq, text)
}

func ackLine(received int) string {
	return fmt.Sprintf(`{"type":"ack","received":%d,"window":262144,"messages":1024}`+"\n", received)
}

// TestAnswersThatNobodyReads: an ack in the answer to a request that its client has
// given up is given again, where the client hears it. It may have nothing to ask for:
// its window is full.
func TestAnswersThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, cfg := graceful()
		out := &output{}
		at := l.Stream(out, frame.JSON, open(cfg), 0)
		synctest.Wait() // open has left: no ack of more goes with it
		big := strings.Repeat("x", frame.MaxData)
		batch := l.Batch(frame.JSON, ignore)
		if err := batch.Feed(strings.NewReader(messageLine(1, big) + messageLine(2, big) + messageLine(3, big))); err != nil {
			t.Fatal(err)
		}
		l.Batch(frame.JSON, ignore)
		for i := range 3 {
			if _, err := l.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, ack := range []frame.Frame{batch.AckFrame(), l.AckFrame()} {
				if ack.Received != uint64(i+1) {
					t.Errorf("%d were taken, the answer acks %d", i+1, ack.Received)
				}
			}
			synctest.Wait() // an ack that is due leaves
		}
		if !strings.Contains(out.String(), `"ack","received":2`) { // half of the window
			t.Errorf("the receive half has %q, want an ack of the first 2", out.String())
		}
		// What an answer acked is room, too: it may have been read.
		if err := l.Batch(frame.JSON, ignore).Feed(strings.NewReader(messageLine(4, big) + messageLine(5, big) + messageLine(6, big))); err != nil {
			t.Error(err)
		}
		l.Lost("the test is over")
		at.Detach()
	})
}

// TestEndAfterGap: an end that overtook messages is a gap, as a message is.
func TestEndAfterGap(t *testing.T) {
	l, _ := graceful()
	var gap *flow.GapError
	if err := l.Batch(frame.JSON, ignore).Feed(strings.NewReader(messageLine(1, "x") + `{"type":"end","seq":3}` + "\n")); !errors.As(err, &gap) {
		t.Errorf("got %v, want a gap", err)
	}
	if err := l.Err(); err != nil {
		t.Errorf("the session ended: %v", err)
	}
	l.Lost("the test is over")
}

// TestReplacedInTheMiddle: what follows in a body whose attach has been replaced does
// not count, wherever its reader is just then.
func TestReplacedInTheMiddle(t *testing.T) {
	l, cfg := graceful()
	first := l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg))
	if err := first.Feed(strings.NewReader(openLine), frame.JSON, ignore); err == nil {
		t.Fatal("a body without end is a cut")
	}
	for i := range 3 {
		if err := l.Send(t.Context(), frame.Text(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	var later *flow.Attach
	second := l.Resume(&output{}, frame.JSON, flow.Streaming, open(cfg))
	second.Feed(strings.NewReader(openLine+ackLine(0)), frame.JSON, func(*frame.Frame) error {
		later = l.Resume(&output{}, frame.JSON, flow.Streaming, open(cfg))
		later.Feed(strings.NewReader(openLine+ackLine(3)), frame.JSON, ignore)
		return nil
	})
	if err := l.Err(); err != nil {
		t.Errorf("an ack that was overtaken ended the session: %v", err)
	}
	l.Lost("the test is over")
	for _, at := range []*flow.Attach{first, second, later} {
		at.Detach()
	}
}

// TestReplacedThatIsStuck: a carrier that takes nothing more is given up, however much
// its successor has to do.
func TestReplacedThatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, cfg := graceful()
		stuck := l.Stream(&output{block: make(chan struct{}), abort: make(chan struct{})}, frame.JSON, open(cfg), 0)
		synctest.Wait()
		next := l.Stream(&output{}, frame.JSON, open(cfg), 0)
		for i := range 50 {
			if err := l.Send(t.Context(), frame.Text("x")); err != nil {
				t.Fatal(err)
			}
			if err := l.Batch(frame.JSON, ignore).Feed(strings.NewReader(ackLine(i + 1))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		select {
		case <-stuck.Finished():
		default:
			t.Error("5 s later the carrier that was replaced is still there")
		}
		l.Lost("the test is over")
		stuck.Detach()
		next.Detach()
	})
}

// TestReplacedBeforeOpen: also the answer to a poll that another one replaces begins
// with open.
func TestReplacedBeforeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, cfg := graceful()
		var out output
		first := l.Poll(&out, frame.JSON, open(cfg), 0, time.Minute)
		next := l.Poll(&output{}, frame.JSON, open(cfg), 0, time.Minute)
		<-first.Finished()
		if got := out.String(); !strings.HasPrefix(got, `{"type":"open"`) || !strings.HasSuffix(got, `{"type":"detach","code":4004}`+"\n") {
			t.Errorf("the answer is %q", got)
		}
		l.Lost("the test is over")
		first.Detach()
		next.Detach()
	})
}

// TestPongWaits: a pong that the carrier can't bring any more goes with the next one.
func TestPongWaits(t *testing.T) {
	ping := strings.NewReader
	for name, carry := range map[string]func(*flow.Link, flow.Config) *flow.Attach{
		"a poll that was answered": func(l *flow.Link, cfg flow.Config) *flow.Attach {
			at := l.Poll(&output{}, frame.JSON, open(cfg), 0, 0)
			<-at.Finished()
			l.Batch(frame.JSON, ignore).Feed(ping(`{"type":"ping","nonce":7}` + "\n"))
			return at
		},
		"a carrier that is stuck": func(l *flow.Link, cfg flow.Config) *flow.Attach {
			at := l.Stream(&output{block: make(chan struct{}), abort: make(chan struct{})}, frame.JSON, open(cfg), 0)
			synctest.Wait()
			l.Batch(frame.JSON, ignore).Feed(ping(`{"type":"ping","nonce":7}` + "\n"))
			return at
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, cfg := graceful()
				first := carry(l, cfg)
				var out output
				next := l.Stream(&out, frame.JSON, open(cfg), 0)
				synctest.Wait()
				if !strings.Contains(out.String(), `"pong","nonce":7`) {
					t.Errorf("the next carrier has %q, want the pong", out.String())
				}
				l.Lost("the test is over")
				first.Detach()
				next.Detach()
			})
		})
	}
}

// TestEndAfterAnAnswer: a session that ends while a poll's answer is on its way keeps
// its end for who comes back.
func TestEndAfterAnAnswer(t *testing.T) {
	l, cfg := graceful()
	at := l.Poll(&output{}, frame.JSON, open(cfg), 0, 0)
	<-at.Finished()
	l.Fail(frame.Errorf(frame.CodeExpired, "too old"))
	select {
	case <-l.Delivered():
		t.Error("nobody knows of the end, but it is not kept")
	default:
	}
	at.Detach()
	var out output
	at = l.Poll(&out, frame.JSON, open(cfg), 0, 0)
	<-at.Finished()
	if !strings.Contains(out.String(), `"code":4003`) {
		t.Errorf("the next poll is answered %q, want the end", out.String())
	}
	at.Detach()
}

// TestAckWhilePollWaits: what a poll has carried it does not keep back until its wait
// is over, whatever the peer acks meanwhile.
func TestAckWhilePollWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, cfg := graceful()
		out := &output{block: make(chan struct{}), abort: make(chan struct{})}
		first := l.Stream(&output{}, frame.JSON, open(cfg), 0)
		l.Batch(frame.JSON, ignore).Feed(strings.NewReader(openLine))
		for range 5 {
			if err := l.Send(context.Background(), frame.Message{Data: make([]byte, frame.MaxData)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		at := l.Poll(out, frame.JSON, open(cfg), 0, time.Minute) // more than one write
		synctest.Wait()
		l.Batch(frame.JSON, ignore).Feed(strings.NewReader(ackLine(5))) // they had come before
		close(out.block)
		begun := time.Now()
		<-at.Finished()
		if d := time.Since(begun); d > 0 {
			t.Errorf("the answer took %v to end", d)
		}
		l.Lost("the test is over")
		first.Detach()
		at.Detach()
	})
}
