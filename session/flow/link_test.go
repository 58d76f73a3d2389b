package flow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"tandem/session/flow"
	"tandem/session/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a carrier whose other end is an io.Reader.
type pipe struct {
	*io.PipeWriter
	in interface{ Close() error } // what the same end reads
}

func (p pipe) Flush() error { return nil }
func (p pipe) Finished()    { p.PipeWriter.Close(); p.in.Close() }
func (p pipe) Abort()       { p.PipeWriter.CloseWithError(io.ErrClosedPipe) }

func config() flow.Config {
	return flow.Config{MaxMessage: 4 << 20, Window: flow.InitialWindow, Messages: flow.InitialMessages, Buffer: 1 << 20}
}

func open(cfg flow.Config) *frame.Frame {
	return &frame.Frame{Type: frame.TypeOpen, Version: frame.Version, Window: cfg.Window, Messages: cfg.Messages,
		Heartbeat: uint64(cfg.Heartbeat / time.Millisecond)}
}

// pair joins two links with codec; wait returns when both sides have stopped reading.
func pair(codec frame.Codec, ca, cb flow.Config) (a, b *flow.Link, wait func()) {
	a, b = flow.New(ca), flow.New(cb)
	ra, wb := io.Pipe()
	rb, wa := io.Pipe()
	var wg sync.WaitGroup
	run := func(l *flow.Link, cfg flow.Config, r *io.PipeReader, w *io.PipeWriter) {
		at := l.Attach(pipe{w, r}, codec, flow.Streaming, open(cfg))
		wg.Go(func() {
			if err := at.Feed(r, codec, func(*frame.Frame) error { return nil }); err != nil {
				l.Lost(err.Error())
			}
			r.Close()
		})
	}
	run(a, ca, ra, wa)
	run(b, cb, rb, wb)
	return a, b, wg.Wait
}

func framed(t *testing.T, test func(t *testing.T, codec frame.Codec)) {
	for _, c := range []frame.Codec{frame.JSON, frame.Binary} {
		t.Run(c.Name(), func(t *testing.T) { test(t, c) })
	}
}

func wantCode(t *testing.T, err error, code frame.Code) {
	t.Helper()
	var e *frame.CloseError
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
}

// TestBothWays sends messages of all sizes and both kinds from both ends at
// once, and wants them complete and in order.
func TestBothWays(t *testing.T) {
	framed(t, func(t *testing.T, codec frame.Codec) {
		a, b, wait := pair(codec, config(), config())
		ctx := t.Context()
		message := func(rng *rand.Rand, i int) frame.Message {
			size := rng.IntN(200)
			if i%100 == 0 {
				size = rng.IntN(200_000)
			}
			if i%2 == 0 {
				return frame.Text(strings.Repeat("é", size/2))
			}
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			return frame.Message{Data: data}
		}
		const n = 2000
		var wg sync.WaitGroup
		end := func(l *flow.Link, mine, others uint64) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(mine, 0))
				for i := range n {
					if err := l.Send(ctx, message(rng, i)); err != nil {
						t.Errorf("send %d: %v", i, err)
						return
					}
				}
				l.CloseSend()
			})
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(others, 0))
				for i := range n {
					m, err := l.Receive(ctx)
					want := message(rng, i)
					if err != nil || m.Text != want.Text || !bytes.Equal(m.Data, want.Data) {
						t.Errorf("message %d: got %d bytes, text %v, %v; want %d bytes, text %v", i, len(m.Data), m.Text, err, len(want.Data), want.Text)
						return
					}
				}
				if _, err := l.Receive(ctx); err != io.EOF {
					t.Errorf("after the last message: %v, want EOF", err)
				}
			})
		}
		end(a, 1, 2)
		end(b, 2, 1)
		wg.Wait()
		a.Finish(ctx, frame.CodeNormal, "done")
		wait()
		wantCode(t, b.Err(), frame.CodeNormal)
	})
}

// TestWindow has an app that takes nothing: the sender must stop within the
// window, and go on when the app takes.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		a, b, wait := pair(frame.Binary, cfg, cfg)
		sent := 0
		go func() {
			for a.Send(t.Context(), frame.Message{Data: make([]byte, 1000)}) == nil {
				sent++
			}
		}()
		synctest.Wait()
		if want := flow.InitialWindow / frame.Cost(1000); sent != want {
			t.Errorf("%d messages were sent into a closed window, want %d", sent, want)
		}
		for range 200 {
			if _, err := b.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if sent < 200 {
			t.Errorf("%d messages were sent after 200 were taken", sent)
		}
		b.Finish(t.Context(), frame.CodeNormal, "")
		wait()
	})
}

// TestLargeMessage needs many windows for one message while nobody receives.
func TestLargeMessage(t *testing.T) {
	framed(t, func(t *testing.T, codec frame.Codec) {
		a, b, wait := pair(codec, config(), config())
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		if err := a.Send(t.Context(), frame.Message{Data: data}); err != nil {
			t.Fatal(err)
		}
		m, err := b.Receive(t.Context())
		if err != nil || !bytes.Equal(m.Data, data) {
			t.Fatalf("got %d bytes, %v", len(m.Data), err)
		}
		b.Lost("test over")
		a.Lost("test over")
		wait()
	})
}

// TestCloseOrder: what was sent before the close is received before it.
func TestCloseOrder(t *testing.T) {
	framed(t, func(t *testing.T, codec frame.Codec) {
		a, b, wait := pair(codec, config(), config())
		for i := range 50 {
			if err := a.Send(t.Context(), frame.Text(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		a.Finish(t.Context(), frame.CodeProgramExited, "exit status 3")
		wait()
		for i := range 50 {
			m, err := b.Receive(t.Context())
			if err != nil || string(m.Data) != fmt.Sprint(i) {
				t.Fatalf("message %d: %q, %v", i, m.Data, err)
			}
		}
		_, err := b.Receive(t.Context())
		wantCode(t, err, frame.CodeProgramExited)
		wantCode(t, b.Send(t.Context(), frame.Text("x")), frame.CodeProgramExited)
		if reason := b.Err().Reason; reason != "exit status 3" {
			t.Errorf("reason %q", reason)
		}
	})
}

// TestViolations feeds a link what no peer may send.
func TestViolations(t *testing.T) {
	const opened = `{"type":"open","version":1,"window":65536,"messages":64}` + "\n"
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+"\n", i+1)
		}
		return b.String()
	}
	tests := []struct {
		name, in string
		code     frame.Code
	}{
		{"no open", `{"type":"message","seq":1,"data":"x"}` + "\n", frame.CodeProtocol},
		{"two opens", opened + opened, frame.CodeProtocol},
		{"version", `{"type":"open","version":2,"window":65536,"messages":64}` + "\n", frame.CodeProtocol},
		{"window too small", `{"type":"open","version":1,"window":100,"messages":64}` + "\n", frame.CodeProtocol},
		{"no window", `{"type":"open","version":1}` + "\n", frame.CodeProtocol},
		{"gap", opened + `{"type":"message","seq":2,"data":"x"}` + "\n", frame.CodeProtocol},
		{"ack of nothing", opened + `{"type":"ack","received":1,"window":65536,"messages":64}` + "\n", frame.CodeProtocol},
		{"end too early", opened + `{"type":"end","seq":1}` + "\n", frame.CodeProtocol},
		{"message after end", opened + `{"type":"end","seq":0}` + "\n" + `{"type":"message","seq":1,"data":"x"}` + "\n", frame.CodeProtocol},
		{"end in a message", opened + `{"type":"message","seq":1,"data":"x","more":true}` + "\n" + `{"type":"end","seq":1}` + "\n", frame.CodeProtocol},
		{"text and binary", opened + `{"type":"message","seq":1,"data":"x","more":true}` + "\n" + `{"type":"message","seq":2,"data64":"AA=="}` + "\n", frame.CodeProtocol},
		{"too many fragments", opened + many(65, `{"type":"message","seq":%d,"data":"x"}`), frame.CodePolicy},
		{"too many bytes", opened + many(5, `{"type":"message","seq":%d,"data":"`+strings.Repeat("x", 16000)+`"}`), frame.CodePolicy},
		{"malformed", opened + "{nonsense}\n", frame.CodeProtocol},
		{"not UTF-8", opened + "{\"type\":\"message\",\"seq\":1,\"data\":\"\xff\"}\n", frame.CodeBadUTF8},
		{"long line", strings.Repeat("x", frame.MaxLine+1), frame.CodeTooBig},
		{"client's close", opened + `{"type":"close","seq":0,"code":1001,"reason":"bye"}` + "\n", frame.CodeGoingAway},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := flow.New(config())
			r, w := io.Pipe()
			out := &output{stop: r}
			at := l.Attach(out, frame.JSON, flow.Streaming, open(config()))
			go func() { // a peer that does not stop: the rest must be dropped, not waited for
				io.WriteString(w, tt.in)
				for {
					if _, err := io.WriteString(w, "\n"); err != nil {
						return
					}
				}
			}()
			at.Feed(r, frame.JSON, func(*frame.Frame) error { return nil })
			wantCode(t, l.Err(), tt.code)
			<-at.Finished()
			at.Detach()
			if want := fmt.Sprintf(`"code":%d`, tt.code); !strings.Contains(out.String(), want) {
				t.Errorf("the peer was told %q, want %s", out.String(), want)
			}
		})
	}
}

// output is a carrier that keeps what was written, and counts the writes.
type output struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes []int
	stop   io.Closer
	block  chan struct{} // if not nil, a Write waits for it, or for abort
	abort  chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	if o.block != nil {
		select {
		case <-o.block:
		case <-o.abort:
			return 0, io.ErrClosedPipe
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes = append(o.writes, len(p))
	return o.buf.Write(p)
}
func (o *output) Flush() error { return nil }
func (o *output) Finished() {
	if o.stop != nil {
		o.stop.Close()
	}
}
func (o *output) Abort() {
	if o.abort != nil { // else no Write blocks
		close(o.abort)
	}
}
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
func (o *output) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.writes)
}

// TestDuplicates: a fragment that came before is dropped.
func TestDuplicates(t *testing.T) {
	l := flow.New(config())
	in := open(config())
	b, _ := frame.JSON.Append(nil, in)
	for _, seq := range []uint64{1, 1, 2, 1, 2, 3} {
		b, _ = frame.JSON.Append(b, &frame.Frame{Type: frame.TypeMessage, Seq: seq, Data: fmt.Append(nil, seq), Text: true})
	}
	b, _ = frame.JSON.Append(b, &frame.Frame{Type: frame.TypeEnd, Seq: 3})
	if err := l.Attach(&output{}, frame.JSON, flow.Streaming, in).Feed(bytes.NewReader(b), frame.JSON, func(*frame.Frame) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 3; want++ {
		if m, err := l.Receive(t.Context()); err != nil || string(m.Data) != fmt.Sprint(want) {
			t.Fatalf("got %q, %v, want %d", m.Data, err, want)
		}
	}
	if _, err := l.Receive(t.Context()); err != io.EOF {
		t.Fatalf("got %v, want EOF", err)
	}
}

// TestCut: a framed body that just ends is no end of input.
func TestCut(t *testing.T) {
	for _, rest := range []string{"", `{"type":"mess`} {
		l := flow.New(config())
		b, _ := frame.JSON.Append(nil, open(config()))
		err := l.Attach(&output{}, frame.JSON, flow.Streaming, open(config())).Feed(strings.NewReader(string(b)+rest), frame.JSON, func(*frame.Frame) error { return nil })
		if err != io.ErrUnexpectedEOF {
			t.Errorf("body that ends with %q: %v", rest, err)
		}
	}
}

// TestLines: no acks; what is written is done with, what waits is bounded.
func TestLines(t *testing.T) {
	cfg := config()
	cfg.Buffer = 100 * (10 + 64) // a message counts 64 bytes beside its own
	l := flow.New(cfg)
	out := &output{}
	at := l.Attach(out, frame.Lines, flow.Streaming, open(cfg))
	for range 10 * flow.InitialMessages {
		if err := l.Send(t.Context(), frame.Text("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(out.String()), 10*flow.InitialMessages*11; got != want {
		t.Errorf("%d bytes were written, want %d", got, want)
	}
	at.Feed(strings.NewReader(strings.Repeat("0123456789\n", 101)), frame.Lines, func(*frame.Frame) error { return nil })
	wantCode(t, l.Err(), frame.CodePolicy)
	if !strings.Contains(l.Err().Reason, "lines_buffer") {
		t.Errorf("reason %q does not name the limit", l.Err().Reason)
	}
	<-at.Finished()
	at.Detach()
}

// TestSentIsSent: Send does not report an end of the session that came after its
// message had left.
func TestSentIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flow.New(config())
		out := &output{block: make(chan struct{}), abort: make(chan struct{})}
		at := l.Attach(out, frame.JSON, flow.Streaming, open(config()))
		out.block <- struct{}{} // open
		synctest.Wait()
		sent := make(chan error)
		go func() { sent <- l.Send(t.Context(), frame.Text("last words")) }()
		synctest.Wait() // the message is being written
		l.Fail(frame.Errorf(frame.CodeGoingAway, "bye"))
		close(out.block) // who has written the message writes the close, too
		if err := <-sent; err != nil {
			t.Errorf("Send of a message that was written: %v", err)
		}
		wantCode(t, l.Send(t.Context(), frame.Text("too late")), frame.CodeGoingAway)
		<-at.Finished()
		at.Detach()
		if !strings.Contains(out.String(), `"seq":1,"code":1001`) {
			t.Errorf("the close frame does not count the message: %s", out)
		}
	})
}

// TestLinesCantCarry: a message with a newline ends the session, unmangled.
func TestLinesCantCarry(t *testing.T) {
	l := flow.New(config())
	out := &output{}
	at := l.Attach(out, frame.Lines, flow.Streaming, open(config()))
	wantCode(t, l.Send(t.Context(), frame.Text("a\nb")), frame.CodeUnsupported)
	<-at.Finished()
	at.Detach()
	if out.String() != "" {
		t.Errorf("%q was written", out.String())
	}
}

// TestMaxMessage: fragments that add up to too much.
func TestMaxMessage(t *testing.T) {
	cb := config()
	cb.MaxMessage = 100_000
	a, b, wait := pair(frame.Binary, config(), cb)
	a.Send(t.Context(), frame.Message{Data: make([]byte, 100_001)})
	wait()
	wantCode(t, b.Err(), frame.CodeTooBig)
	wantCode(t, a.Err(), frame.CodeTooBig)
}

// TestAckRides: an ack goes along with the next message, and alone only at half
// of a limit.
func TestAckRides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var acks int
		ca := config()
		ca.Trace = func(sent bool, f *frame.Frame) {
			if !sent && f.Type == frame.TypeAck {
				acks++
			}
		}
		a, b, wait := pair(frame.JSON, ca, config())
		for i := range flow.InitialMessages / 2 {
			a.Send(t.Context(), frame.Text("x"))
			synctest.Wait()
			b.Receive(t.Context())
			synctest.Wait()
			want := 0
			if i == flow.InitialMessages/2-1 {
				want = 1
			}
			if acks != want {
				t.Fatalf("after %d messages %d acks came", i+1, acks)
			}
		}
		a.Send(t.Context(), frame.Text("x"))
		synctest.Wait()
		b.Receive(t.Context())
		b.Send(t.Context(), frame.Text("answer"))
		synctest.Wait()
		if acks != 2 {
			t.Errorf("%d acks, want one to ride along with the answer", acks)
		}
		b.Finish(t.Context(), frame.CodeNormal, "")
		wait()
	})
}

// TestContext: a Send and a Receive that wait yield to their contexts.
func TestContext(t *testing.T) {
	l := flow.New(config())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Receive(ctx); err != context.Canceled {
		t.Errorf("Receive: %v", err)
	}
	for range flow.InitialMessages {
		if err := l.Send(ctx, frame.Text("fits")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Send(ctx, frame.Text("does not")); err != context.Canceled {
		t.Errorf("Send: %v", err)
	}
	if err := l.Err(); err != nil {
		t.Errorf("the session ended: %v", err)
	}
}

func TestPing(t *testing.T) {
	a, b, wait := pair(frame.Binary, config(), config())
	if _, err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	b.Lost("test over")
	_, err := b.Ping(t.Context())
	wantCode(t, err, frame.CodeHeartbeat)
	a.Lost("test over")
	wait()
}
