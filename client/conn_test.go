package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// everyWay runs f over both protocols, codecs and transports, chosen and given.
func everyWay(t *testing.T, app session.App, f func(t *testing.T, c *Conn)) {
	t.Helper()
	for _, http2 := range []bool{false, true} {
		for _, codec := range []string{"binary", "json"} {
			for _, transport := range []string{"", Single, Split, Pulse, Poll} {
				t.Run(fmt.Sprintf("http2=%v,%s,%s", http2, codec, transport), func(t *testing.T) {
					url, o := serve(t, app, &session.Options{Grace: 10 * time.Second}, http2)
					o.Codec, o.Transport = codec, transport
					c := dialTest(t, url, o)
					if want := max(transport, Single); transport != "" && c.Transport() != transport || transport == "" && c.Transport() != want {
						t.Errorf("transport %q became %q", transport, c.Transport())
					}
					f(t, c)
				})
			}
		}
	}
}

func TestEcho(t *testing.T) {
	everyWay(t, session.Echo, func(t *testing.T, c *Conn) {
		if id := c.SessionID(); !strings.Contains(id, ".") {
			t.Errorf("session id %q", id)
		}
		for _, text := range []string{"", "hello\nworld", "héllo", strings.Repeat("x", 100_000)} {
			send(t, c, text)
			receive(t, c, text)
		}
		if err := c.Send(patient(t), frame.Message{Data: []byte{0xff, 0}}); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Receive(patient(t)); err != nil || m.Text || string(m.Data) != "\xff\x00" {
			t.Fatalf("expected the binary message back, got %v, %v", m, err)
		}
		if _, err := c.Ping(patient(t)); err != nil {
			t.Error(err)
		}
		if err := c.Close(frame.CodeNormal, ""); err != nil {
			t.Error(err)
		}
		if err := c.Err(); err == nil {
			t.Error("the session is over, and Err doesn't say so")
		}
	})
}

// The server may speak first, and the client may end its input.
func TestServerFirstThenEnd(t *testing.T) {
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		if err := s.Send(ctx, frame.Text("welcome")); err != nil {
			return err
		}
		n := 0
		for {
			_, err := s.Receive(ctx)
			if err == io.EOF {
				s.Send(ctx, frame.Text(fmt.Sprint(n)))
				return frame.Errorf(frame.CodeProgramExited, "exit status 3")
			}
			if err != nil {
				return err
			}
			n++
		}
	})
	everyWay(t, app, func(t *testing.T, c *Conn) {
		receive(t, c, "welcome")
		send(t, c, "1")
		send(t, c, "2")
		if err := c.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(patient(t), frame.Text("3")); err == nil {
			t.Error("sent after the end")
		}
		receive(t, c, "2")
		over := receiveClose(t, c, frame.CodeProgramExited)
		if over.Reason != "exit status 3" {
			t.Errorf("reason %q", over.Reason)
		}
		var again *frame.CloseError
		if err := c.Close(frame.CodeNormal, ""); !errors.As(err, &again) || again.Code != frame.CodeProgramExited {
			t.Errorf("Close after the end: expected how it ended, got %v", err)
		}
	})
}

// The client's close reaches the app, after what was sent.
func TestCloseReachesTheApp(t *testing.T) {
	got := make(chan error, 1)
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		for {
			if _, err := s.Receive(ctx); err != nil {
				got <- err
				return err
			}
		}
	})
	everyWay(t, app, func(t *testing.T, c *Conn) {
		for range 100 {
			send(t, c, "x")
		}
		if err := c.Close(frame.CodeGoingAway, "good bye"); err != nil {
			t.Fatal(err)
		}
		var over *frame.CloseError
		if err := <-got; !errors.As(err, &over) || over.Code != frame.CodeGoingAway || over.Reason != "good bye" {
			t.Errorf("the app saw %v", err)
		}
	})
}

func TestCloseNowReachesTheApp(t *testing.T) {
	got := make(chan error, 1)
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		s.Send(ctx, frame.Text("started")) // the end may come before it returns
		<-ctx.Done()
		got <- context.Cause(ctx)
		return ctx.Err()
	})
	everyWay(t, app, func(t *testing.T, c *Conn) {
		receive(t, c, "started")
		received := make(chan error, 1)
		go func() {
			_, err := c.Receive(context.Background())
			received <- err
		}()
		c.CloseNow()
		c.CloseNow()
		if err := <-received; err == nil {
			t.Error("Receive returned nil")
		}
		select {
		case <-got:
		case <-time.After(patience):
			t.Error("the app was not told")
		}
		if err := c.Send(patient(t), frame.Text("x")); err == nil {
			t.Error("Send after CloseNow")
		}
	})
}

// Many messages both ways at once, complete and in order.
func TestBothWaysAtOnce(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 2000 // the same, in bearable time
	}
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		done := make(chan error, 1)
		go func() { done <- count(n, func(i int) error { return s.Send(ctx, frame.Text(fmt.Sprint("down ", i))) }) }()
		err := count(n, func(i int) error {
			m, err := s.Receive(ctx)
			if want := fmt.Sprint("up ", i); err == nil && string(m.Data) != want {
				err = fmt.Errorf("expected %q, got %q", want, m.Data)
			}
			return err
		})
		if err == nil {
			err = <-done
		}
		if err == nil {
			if _, err = s.Receive(ctx); err == io.EOF {
				return nil
			}
		}
		if err != nil {
			return frame.Errorf(frame.CodeInternal, "%v", err)
		}
		return nil
	})
	everyWay(t, app, func(t *testing.T, c *Conn) {
		ctx := patient(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := count(n, func(i int) error { return c.Send(ctx, frame.Text(fmt.Sprint("up ", i))) }); err != nil {
				t.Errorf("send: %v", err)
			}
			c.CloseSend()
		})
		for i := range n {
			receive(t, c, fmt.Sprint("down ", i))
		}
		wg.Wait()
		receiveClose(t, c, frame.CodeNormal)
	})
}

func count(n int, f func(int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	return nil
}

// A large upload to an app that pauses first: the window holds it, and it
// arrives whole.
func TestUploadToAPausingApp(t *testing.T) {
	const message, n = 100_000, 80
	pause := make(chan struct{})
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		<-pause
		hash := sha256.New()
		for {
			m, err := s.Receive(ctx)
			if err == io.EOF {
				return s.Send(ctx, frame.Text(fmt.Sprintf("%x", hash.Sum(nil))))
			}
			if err != nil {
				return err
			}
			hash.Write(m.Data)
		}
	})
	url, o := serve(t, app, nil, false)
	c := dialTest(t, url, o)
	hash := sha256.New()
	sent := make(chan error, 1)
	go func() {
		data := make([]byte, message)
		for i := range n {
			for j := range data {
				data[j] = byte(i + j)
			}
			hash.Write(data)
			if err := c.Send(context.Background(), frame.Message{Data: data}); err != nil {
				sent <- err
				return
			}
		}
		sent <- c.CloseSend()
	}()
	// With the window full nothing more goes, yet the session lives.
	if _, err := c.Ping(patient(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-sent:
		t.Fatalf("8 MB went past a window of 64 KiB: %v", err)
	default:
	}
	close(pause)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	receive(t, c, fmt.Sprintf("%x", hash.Sum(nil)))
	receiveClose(t, c, frame.CodeNormal)
}

// A client that doesn't receive holds its window in memory and no more: the
// server's Send waits. Then it all comes.
func TestWindowHoldsTheServer(t *testing.T) {
	const window, messages = 40 << 10, 8
	sent := make(chan int, 1000)
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		for i := range 100 {
			if err := s.Send(ctx, frame.Text(fmt.Sprint(i))); err != nil {
				return err
			}
			sent <- i
		}
		return nil
	})
	url, o := serve(t, app, nil, false)
	o.Window, o.Messages = window, messages
	c := dialTest(t, url, o)
	for range messages {
		<-sent
	}
	if _, err := c.Ping(patient(t)); err != nil { // passes, though the window is full
		t.Fatal(err)
	}
	select {
	case i := <-sent:
		t.Errorf("message %d went past a window of %d messages", i, messages)
	default:
	}
	for i := range 100 {
		receive(t, c, fmt.Sprint(i))
	}
	receiveClose(t, c, frame.CodeNormal)
}

// What can't be sent is an error that costs nothing.
func TestSendRefusesWhatTheServerWould(t *testing.T) {
	url, o := serve(t, session.Echo, &session.Options{MaxMessage: 20_000}, false)
	c := dialTest(t, url, o)
	var over *frame.CloseError
	if err := c.Send(patient(t), frame.Message{Data: make([]byte, 20_001)}); !errors.As(err, &over) || over.Code != frame.CodeTooBig {
		t.Errorf("too big: %v", err)
	}
	if err := c.Send(patient(t), frame.Text("\xff")); !errors.As(err, &over) || over.Code != frame.CodeBadUTF8 {
		t.Errorf("not UTF-8: %v", err)
	}
	send(t, c, "still there")
	receive(t, c, "still there")
}

func TestMaxMessageOfTheClient(t *testing.T) {
	url, o := serve(t, session.Echo, nil, false)
	o.MaxMessage = 1000
	c := dialTest(t, url, o)
	send(t, c, strings.Repeat("x", 1001))
	receiveClose(t, c, frame.CodeTooBig)
}

func TestSendHonoursContext(t *testing.T) {
	app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
		<-ctx.Done()
		return ctx.Err()
	})
	url, o := serve(t, app, nil, false)
	c := dialTest(t, url, o)
	ctx, cancel := context.WithCancel(context.Background())
	full := make(chan error, 1)
	go func() {
		for {
			if err := c.Send(ctx, frame.Text("x")); err != nil {
				full <- err
				return
			}
		}
	}()
	if _, err := c.Ping(patient(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-full; !errors.Is(err, context.Canceled) {
		t.Errorf("expected the context's error, got %v", err)
	}
	if c.Err() != nil {
		t.Errorf("the session ended: %v", c.Err())
	}
}

// A handler that stops closes its clients with 1012.
func TestServerStops(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		h := make(chan *session.Session, 1)
		app := session.AppFunc(func(ctx context.Context, s *session.Session) error {
			h <- s
			<-ctx.Done()
			return ctx.Err()
		})
		url, o := serve(t, app, nil, http2)
		c := dialTest(t, url, o)
		(<-h).Close(frame.CodeRestart, "the server stops")
		receiveClose(t, c, frame.CodeRestart)
	}
}
