package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session/frame"
)

// inBubble runs f in a synctest bubble with Options that lead to a fake server
// which does what answer says.
func inBubble(t *testing.T, answer func(*visit), f func(t *testing.T, o *Options)) {
	synctest.Test(t, func(t *testing.T) {
		f(t, &Options{Codec: "json", Transport: Single, Proxy: noProxy, DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go visitOn(t, theirs, answer)
			return ours, nil
		}})
	})
}

const nowhere = "http://server.test/tandem"

// A server that promised a heartbeat and falls silent is lost after 2.5 of them.
func TestSilentServerIsLost(t *testing.T) {
	answer := func(v *visit) {
		v.write(jsonHead + strings.Replace(jsonOpen, `"heartbeat":15000`, `"heartbeat":1000`, 1))
		io.Copy(io.Discard, v.body)
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		c, err := Dial(t.Context(), nowhere, o)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = c.Receive(t.Context())
		var over *frame.CloseError
		if !errors.As(err, &over) || over.Code != frame.CodeHeartbeat {
			t.Errorf("expected close 4001, got %v", err)
		}
		if took := time.Since(start); took != 2500*time.Millisecond {
			t.Errorf("it took %v, expected 2.5 s", took)
		}
		c.CloseNow()
	})
}

// The client keeps its own promise: something every 15 s.
func TestHeartbeat(t *testing.T) {
	var beats []time.Duration
	answer := func(v *visit) {
		v.write(jsonHead + strings.Replace(jsonOpen, `"heartbeat":15000`, `"heartbeat":0`, 1))
		v.in.ReadBytes('\n') // open
		start := time.Now()
		for {
			if line, err := v.in.ReadBytes('\n'); err != nil || len(line) != 1 {
				return
			}
			beats = append(beats, time.Since(start))
		}
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		c, err := Dial(t.Context(), nowhere, o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + time.Second)
		c.CloseNow()
		synctest.Wait()
		if len(beats) != 4 || beats[3] != time.Minute {
			t.Errorf("empty frames came at %v, expected one each 15 s", beats)
		}
	})
}

// A server that doesn't end its response after the close holds Close up for 5 s.
func TestCloseGrace(t *testing.T) {
	answer := func(v *visit) {
		v.open()
		io.Copy(io.Discard, v.body)
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		c, err := Dial(t.Context(), nowhere, o)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.Close(frame.CodeNormal, ""); err == nil || !strings.Contains(err.Error(), "did not end its response") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != closeGrace {
			t.Errorf("it took %v, expected %v", took, closeGrace)
		}
	})
}

// The same while the server takes nothing: CloseNow doesn't wait long for it.
func TestCloseNowWhileTheServerTakesNothing(t *testing.T) {
	answer := func(v *visit) {
		v.open()
		<-v.t.Context().Done()
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		c, err := Dial(t.Context(), nowhere, o)
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error)
		go func() {
			for {
				if err := c.Send(context.Background(), frame.Text(strings.Repeat("x", 10_000))); err != nil {
					sent <- err
					return
				}
			}
		}()
		synctest.Wait() // the sender is stuck
		start := time.Now()
		c.CloseNow()
		if <-sent; time.Since(start) > goodbye {
			t.Errorf("it took %v", time.Since(start))
		}
	})
}

// CloseNow tells the server at once, where that works.
func TestCloseNowSaysGoodbye(t *testing.T) {
	var last *frame.Frame
	answer := func(v *visit) {
		v.open()
		for last = v.frame(); last != nil && last.Type != frame.TypeClose; last = v.frame() {
		}
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		c, err := Dial(t.Context(), nowhere, o)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		c.CloseNow()
		synctest.Wait()
		if took := time.Since(start); took != 0 || last == nil || last.Code != frame.CodeGoingAway {
			t.Errorf("the last frame is %+v, after %v", last, took)
		}
	})
}

// Dial gives each way 3 s, begins the next one beside it, and says how long.
func TestDialTimes(t *testing.T) {
	answer := func(v *visit) {
		if !v.refuseGET() {
			io.Copy(io.Discard, v.body)
		}
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		o.Transport = ""
		start := time.Now()
		_, err := Dial(t.Context(), nowhere, o)
		var none *NoTransportError
		if !errors.As(err, &none) || len(none.Attempts) != 6 {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 5*stagger+3*time.Second {
			t.Errorf("it took %v, expected 6 s", took)
		}
	})
}

// Pulses: quick after a message, then every 20 ms, then slower, until the response
// has ended.
func TestPulsePace(t *testing.T) {
	type beat struct {
		after time.Duration
		bytes string
	}
	var beats chan beat
	answer := func(v *visit) {
		v.write(jsonHead + strings.NewReplacer(`"single"`, `"pulse"`, `"heartbeat":15000`, `"heartbeat":0`).Replace(jsonOpen))
		v.in.ReadBytes('\n') // open
		buf := make([]byte, 1000)
		for last := time.Now(); ; {
			n, err := v.in.Read(buf)
			if err != nil {
				return
			}
			beats <- beat{time.Since(last), string(buf[:n])}
			last = time.Now()
		}
	}
	inBubble(t, answer, func(t *testing.T, o *Options) {
		beats = make(chan beat, 1000)
		c, err := Dial(t.Context(), nowhere, o)
		if err != nil {
			t.Fatal(err)
		}
		if c.Transport() != Pulse {
			t.Errorf("the server said pulse, the client %s", c.Transport())
		}
		time.Sleep(50*time.Second + time.Millisecond/2) // idle now, and no heartbeat near
		for len(beats) > 0 {
			if b := <-beats; b.bytes != "\n" || b.after > pulseIdle {
				t.Errorf("expected an empty frame within %v, got %q after %v", pulseIdle, b.bytes, b.after)
			}
		}
		if err := c.Send(t.Context(), frame.Text("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b := <-beats; !strings.Contains(b.bytes, "message") {
			t.Errorf("expected the message at once, got %q", b.bytes)
		}
		start := time.Now()
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 20, 20} {
			if b := <-beats; b.bytes != "\n" || b.after != want*time.Millisecond {
				t.Errorf("expected an empty frame after %d ms, got %q after %v", want, b.bytes, b.after)
			}
		}
		time.Sleep(pulseAwake - time.Since(start))
		for len(beats) > 0 {
			<-beats
		}
		time.Sleep(10 * time.Second)
		if n := len(beats); n < 40 || n > 45 {
			t.Errorf("%d pulses in 10 idle seconds, expected about 40", n)
		}
		c.CloseNow()
	})
}
