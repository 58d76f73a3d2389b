package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// A session that the server has forgotten is lost, and which messages were never
// acknowledged is told; so it is in every transport.
func TestUnacked(t *testing.T) {
	for _, transport := range []string{Single, Split, Pulse, Poll} {
		t.Run(transport, func(t *testing.T) {
			url, o := serve(t, session.Echo, &session.Options{Grace: time.Minute}, false)
			other, _ := serve(t, session.Echo, &session.Options{Grace: time.Minute}, false)
			o.Transport = transport
			n := newNetwork(t, url, o)
			c := dialTest(t, url, o)
			send(t, c, "before")
			receive(t, c, "before")
			for len(c.Unacked()) > 0 { // the ack came with the echo, or comes with a pong
				if _, err := c.Ping(patient(t)); err != nil {
					t.Fatal(err)
				}
			}
			n.cut(true)
			large := strings.Repeat("x", 40_000)
			send(t, c, "one")
			send(t, c, large)
			n.mu.Lock()
			n.to = strings.TrimPrefix(other, "http://")
			n.mu.Unlock()
			n.cut(false)
			over := receiveClose(t, c, frame.CodeHeartbeat)
			if !strings.Contains(over.Reason, "410") || !strings.Contains(over.Reason, "the last 2 were never acknowledged") {
				t.Errorf("reason %q", over.Reason)
			}
			lost := c.Unacked()
			if len(lost) != 2 || string(lost[0].Data) != "one" || string(lost[1].Data) != large || !lost[1].Text {
				t.Errorf("%d messages: %.100v", len(lost), lost)
			}
		})
	}
}

// A server or proxy that takes only small bodies gets smaller ones, of whole frames.
func TestSmallerBatches(t *testing.T) {
	const most = 5000
	h := session.NewHandler(session.Echo, &session.Options{Grace: time.Minute, Log: discard})
	url := serveHandler(t, h, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > most {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		h.ServeHTTP(w, r)
	}))
	c := dialTest(t, url, &Options{Transport: Split})
	var want []string
	for i := range 60 {
		want = append(want, fmt.Sprint(i, strings.Repeat("y", 900)))
	}
	go func() {
		for _, text := range want {
			c.Send(t.Context(), frame.Text(text))
		}
	}()
	for _, text := range want {
		receive(t, c, text)
	}
}

// The ladder goes down for a reason, and up after a while.
func TestLadderMoves(t *testing.T) {
	ways := advice{Transports: []string{Single, Split, Poll}}.ways()
	single, split, poll, pulse := ways[0], way{Split, 0}, way{Poll, 0}, way{Pulse, -1}
	cut := errors.New("cut")
	l := newLadder(advice{}, ways, single)
	step := func(fail error, opened time.Duration, want way) {
		t.Helper()
		l.lost(fail, opened)
		if got := l.ways[l.at]; got != want {
			t.Fatalf("expected %v, got %v", want, got)
		}
	}
	for range 10 {
		step(cut, time.Minute, single)      // a proxy's time-out
		step(cut, 0, single)                // no network
		step(errDetached, 1, single)        // as it should be
		step(cut, time.Millisecond, single) // one alone
	}
	l.strikes = 0
	step(cut, time.Second, single)
	step(errHeldBack, 0, single)
	step(errGivenUp, time.Minute, split)
	step(errOneWay, time.Second, poll)
	l.upAt = time.Now().Add(-time.Second)
	step(cut, time.Minute, single) // on trial
	step(cut, 0, single)           // no network
	step(errHeldBack, 0, poll)     // and back
	if until := time.Until(l.upAt); until < upFirst || until > 4*upFirst {
		t.Errorf("the next trial is in %v", until)
	}
	step(&HTTPError{Status: http.StatusNotImplemented}, 0, pulse)
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		err         error
		failures    int
		least, most time.Duration
		again       bool
	}{
		{nil, 0, 0, 0, false},
		{&frame.CloseError{Code: frame.CodeNormal}, 0, 0, 0, false},
		{&frame.CloseError{Code: frame.CodePolicy}, 0, 0, 0, false},
		{&frame.CloseError{Code: frame.CodeHeartbeat}, 0, 0, resumeFirst, true},
		{&frame.CloseError{Code: frame.CodeRestart}, 0, 0, retryFirst, true},
		{&frame.CloseError{Code: frame.CodeRestart}, 3, 0, 8 * retryFirst, true},
		{&frame.CloseError{Code: frame.CodeRestart}, 1000, 0, retryMost, true},
		{&HTTPError{Status: 503, RetryAfter: 5 * time.Second}, 0, 5 * time.Second, 6 * time.Second, true},
		{&HTTPError{Status: 404}, 0, 0, 0, false},
		{&UsageError{}, 0, 0, 0, false},
		{fmt.Errorf("wrapped: %w", errors.New("connection refused")), 0, 0, retryFirst, true},
	} {
		for range 100 {
			wait, again := RetryAfter(test.err, test.failures)
			if again != test.again || wait < test.least || wait > test.most {
				t.Errorf("%v after %d: %v, %v", test.err, test.failures, wait, again)
			}
		}
	}
}
