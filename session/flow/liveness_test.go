package flow_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// TestHeartbeat: both ends keep their promise through an hour of silence; then
// one vanishes and the other notices within 2.5 intervals.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Heartbeat = 10 * time.Second
		l := flow.New(cfg)
		r, w := io.Pipe()
		out := &output{stop: r}
		at := l.Attach(out, frame.JSON, flow.Streaming, open(cfg))
		go at.Feed(r, frame.JSON, func(*frame.Frame) error { return nil })
		b, _ := frame.JSON.Append(nil, open(cfg))
		w.Write(b)
		for range 360 {
			time.Sleep(10 * time.Second)
			w.Write([]byte("\n"))
		}
		synctest.Wait()
		if err := l.Err(); err != nil {
			t.Fatalf("the session ended in silence with heartbeats: %v", err)
		}
		if n := out.count(); n < 360 || n > 363 {
			t.Errorf("%d writes in 360 intervals", n)
		}
		time.Sleep(24 * time.Second)
		if err := l.Err(); err != nil {
			t.Fatalf("lost before 2.5 intervals: %v", err)
		}
		time.Sleep(2 * time.Second)
		wantCode(t, l.Err(), frame.CodeHeartbeat)
		w.Close()
		at.Detach()
	})
}

// TestLife: idle and life limits.
func TestLife(t *testing.T) {
	for _, tt := range []struct {
		idle, life, want time.Duration
		key              string
	}{
		{time.Minute, 0, 80 * time.Second, "max_idle"}, // 20 s until the last message
		{0, time.Minute, time.Minute, "max_life"},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			cfg := config()
			cfg.MaxIdle, cfg.MaxLife = tt.idle, tt.life
			l := flow.New(cfg)
			at := l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg))
			time.Sleep(20 * time.Second)
			l.Send(t.Context(), frame.Text("x"))
			<-l.Done()
			wantCode(t, l.Err(), frame.CodeExpired)
			if d := time.Since(start); d != tt.want || !strings.Contains(l.Err().Reason, tt.key) {
				t.Errorf("expired after %v (%s), want %v and the key %s", d, l.Err().Reason, tt.want, tt.key)
			}
			<-at.Finished()
			at.Detach()
		})
	}
}

// TestStuckWriter: a peer that takes nothing can't hold an end that is done for
// more than 30 s, nor one that was told to close for more than 1 s.
func TestStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			end  func(l *flow.Link, at *flow.Attach)
			want time.Duration
		}{
			{func(l *flow.Link, at *flow.Attach) { l.Finish(t.Context(), frame.CodeNormal, "") }, 30 * time.Second},
			{func(l *flow.Link, at *flow.Attach) { l.Fail(frame.Errorf(frame.CodePolicy, "test")); <-at.Finished() }, time.Second},
			{func(l *flow.Link, at *flow.Attach) { l.Lost("test"); <-at.Finished() }, 0},
		} {
			l := flow.New(config())
			out := &output{block: make(chan struct{}), abort: make(chan struct{})}
			at := l.Attach(out, frame.JSON, flow.Streaming, open(config()))
			synctest.Wait()
			start := time.Now()
			tt.end(l, at)
			if d := time.Since(start); d != tt.want {
				t.Errorf("the end took %v, want %v", d, tt.want)
			}
			at.Detach()
		}
	})
}

// broken is a carrier on which each Write fails.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (broken) Flush() error              { return nil }
func (broken) Finished()                 {}
func (broken) Abort()                    {}

// TestDetachIsLoss: the input has ended, the output can't be written, and whoever
// carried the session gives up: it is over, and its app learns of it.
func TestDetachIsLoss(t *testing.T) {
	for _, codec := range []frame.Codec{frame.Lines, frame.JSON} {
		l := flow.New(config())
		at := l.Attach(broken{}, codec, flow.Streaming, open(config()))
		in, _ := frame.JSON.Append(nil, open(config()))
		in, _ = frame.JSON.Append(in, &frame.Frame{Type: frame.TypeEnd})
		if !codec.Framed() {
			in = []byte("the only line\n")
		}
		if err := at.Feed(strings.NewReader(string(in)), codec, func(*frame.Frame) error { return nil }); err != nil {
			t.Fatal(err)
		}
		l.Send(t.Context(), frame.Text("answer"))
		<-at.Finished()
		at.Detach()
		<-l.Done()
		wantCode(t, l.Err(), frame.CodeHeartbeat)
	}
}

// TestResumeOfWhatIsOver: who resumes a session that has failed meanwhile is told
// so at once, without saying first what it has.
func TestResumeOfWhatIsOver(t *testing.T) {
	cfg := config()
	cfg.Grace = time.Hour
	l := flow.New(cfg)
	l.Fail(frame.Errorf(frame.CodePolicy, "test"))
	out := &output{}
	at := l.Resume(out, frame.JSON, flow.Streaming, open(cfg))
	<-at.Finished()
	if !strings.Contains(out.String(), `"code":1008`) {
		t.Errorf("the peer was told %q", out)
	}
	at.Detach()
}
