package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/client"
	"tandem/session"
	"tandem/session/frame"
)

// serve runs an app until the test ends.
func serve(t *testing.T, app session.App) *url.URL {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	h := session.NewHandler(app, &session.Options{Log: log})
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		h.Shutdown(context.Background())
		s.Close()
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// openers are all ways to open a session.
func openers(u *url.URL) map[string]Opener {
	all := map[string]Opener{"package client": (&Client{URL: u.String(), Payload: payload, Options: client.Options{Transport: client.Single}}).Open}
	for _, codec := range frame.Codecs() {
		all[codec.Name()] = (&Wire{URL: u, Codec: codec, Payload: payload}).Open
		if codec.Framed() {
			all[codec.Name()+", declared"] = (&Wire{URL: u, Codec: codec, Payload: payload, Declared: 1 << 40, Heartbeat: time.Second, Buffer: 64}).Open
		}
	}
	return all
}

func TestEcho(t *testing.T) {
	u := serve(t, session.Echo)
	for name, open := range openers(u) {
		for _, l := range []Load{{1, 1}, {3, 16}} {
			e, err := Echo(t.Context(), open, l, 5*time.Millisecond, 50*time.Millisecond, nil, []int{0})
			if err != nil {
				t.Errorf("%s, %v: %v", name, l, err)
				continue
			}
			if e.Messages == 0 || e.Times.Count() == 0 || e.Times.Quantile(0.5) <= 0 || len(e.CPU) != 1 || e.PerSecond() <= 0 {
				t.Errorf("%s, %v: %+v", name, l, e)
			}
		}
	}
}

// TestEchoError: a session that the server ends is an error, not a rate.
func TestEchoError(t *testing.T) {
	ends := errors.New("no more")
	u := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		for range 3 {
			m, err := s.Receive(ctx)
			if err == nil {
				err = s.Send(ctx, m)
			}
			if err != nil {
				return err
			}
		}
		return ends
	}))
	for name, open := range openers(u) {
		if e, err := Echo(t.Context(), open, Load{2, 1}, 0, Patience, nil); err == nil {
			t.Errorf("%s: %+v, want an error", name, e)
		}
	}
}

func TestChurn(t *testing.T) {
	u := serve(t, session.Echo)
	for name, open := range openers(u) {
		o, err := Churn(t.Context(), open, 7, 3, nil)
		if err != nil || o.Times.Count() != 7 || o.PerSecond() <= 0 {
			t.Errorf("%s: %d opened, %v", name, o.Times.Count(), err)
		}
	}
	gone := (&Wire{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: "/"}, Codec: frame.JSON, Payload: payload}).Open
	if _, err := Churn(t.Context(), gone, 100, 3, nil); err == nil || !strings.Contains(err.Error(), "session ") {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestIdle(t *testing.T) {
	u := serve(t, session.Echo)
	for name, open := range openers(u) {
		if name == "lines" {
			continue // its opening has a message echoed that was sent for that
		}
		p := IdlePlan{Sessions: 5, Waves: 2, Opening: 2, Settle: time.Millisecond, AfterClose: time.Millisecond, Hold: 50 * time.Millisecond,
			Heartbeat: time.Millisecond, Pids: [][]int{{0}, {0}}}
		r, err := Idle(t.Context(), open, p, nil)
		if err != nil || len(r.Waves) != 2 || r.Lost != 0 || r.Waves[1].Opened.Times.Count() != 5 || len(r.Waves[1].RSS) != 2 || r.Held < p.Hold {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// A fleeting session ends by itself.
type fleeting struct {
	Session
	life time.Duration
}

func (f fleeting) Receive() (int, error) {
	time.Sleep(f.life)
	return 0, io.EOF
}
func (fleeting) Deadline(time.Time) {}
func (fleeting) Close() error       { return nil }

// TestIdleLost: sessions that end while they are held are counted.
func TestIdleLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(_ context.Context, i int) (Session, error) {
			return fleeting{life: time.Duration(i+1) * time.Minute}, nil
		}
		r, err := Idle(t.Context(), open, IdlePlan{Sessions: 5, Waves: 1, Opening: 2, Settle: time.Second, Hold: 3*time.Minute + time.Second}, nil)
		if err != nil || r.Lost != 3 {
			t.Errorf("%+v, %v; want 3 lost", r, err)
		}
	})
}

func TestReceive(t *testing.T) {
	u := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		for {
			if err := s.Send(ctx, frame.Text(fmt.Sprintf("%d tick", time.Now().UnixMicro()))); err != nil {
				return err
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
	}))
	r, err := Receive(t.Context(), u.String(), &client.Options{Transport: client.Single}, 3, 100*time.Millisecond, nil, []int{0})
	if err != nil || r.Messages == 0 || r.Bytes < int64(r.Messages)*16 || r.Times.Count() == 0 || r.Times.Max() > Patience || r.PerSecond() <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSentAt(t *testing.T) {
	want := time.Unix(1700000000, 0)
	for _, text := range []string{"1700000000", "1700000000000", "1700000000000000 x", "1700000000000000000,1"} {
		if got, ok := sentAt([]byte(text)); !ok || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "x", "17", "17000000000000000000000"} {
		if got, ok := sentAt([]byte(text)); ok {
			t.Errorf("%q: %v, want none", text, got)
		}
	}
}
