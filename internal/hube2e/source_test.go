package hube2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// event is one of a stream's. A comment has only that.
type event struct {
	ID, Type, Data string
	Comment        string
	At             time.Time
}

func (e event) String() string { return e.ID + " " + e.Data }

// source is a subscriber that behaves as a browser's EventSource does: it connects again when a stream ends, and says
// which event it had last.
type source struct {
	t      *testing.T
	name   string
	events chan event
	opened chan http.Header // of each answer
	lost   chan error       // how each stream ended
	end    context.CancelFunc
	done   chan struct{}
}

// listen subscribes to topics, and returns when the stream is open.
func (r *route) listen(t *testing.T, header http.Header, topics ...string) *source {
	t.Helper()
	s := r.start(t, header, topics...)
	s.wait()
	return s
}

// start is listen that doesn't wait.
func (r *route) start(t *testing.T, header http.Header, topics ...string) *source {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &source{t, r.name, make(chan event, 100_000), make(chan http.Header, 1000), make(chan error, 1000), cancel, make(chan struct{})}
	at := r.hub + "?" + url.Values{"match": topics}.Encode()
	go func() {
		defer close(s.done)
		last := header.Get("Last-Event-ID")
		for {
			err := s.stream(ctx, r.client, at, header, &last)
			var final *refused
			if errors.As(err, &final) {
				t.Errorf("%s: %v", r.name, err)
				return
			}
			if ctx.Err() != nil {
				return
			}
			s.lost <- err
			select { // what an EventSource does for seconds
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(s.close)
	return s
}

// refused is an answer that no EventSource tries again after.
type refused struct{ status, body string }

func (e *refused) Error() string { return e.status + ": " + e.body }

func (s *source) stream(ctx context.Context, c *http.Client, at string, header http.Header, last *string) error {
	req, err := http.NewRequestWithContext(ctx, "GET", at, nil)
	if err != nil {
		return err
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip, deflate, br") // as browsers do
	if *last != "" {
		req.Header.Set("Last-Event-ID", *last)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		if resp.StatusCode < 500 {
			return &refused{resp.Status, string(body)}
		}
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	if ct, ce := resp.Header.Get("Content-Type"), resp.Header.Get("Content-Encoding"); ct != "text/event-stream" || ce != "" {
		return &refused{resp.Status, "Content-Type " + ct + ", Content-Encoding " + ce}
	}
	s.opened <- resp.Header
	var e event
	for lines := bufio.NewReader(resp.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if e != (event{}) {
				*last, e.At = e.ID, time.Now()
				e.Data = strings.TrimSuffix(e.Data, "\n")
				s.events <- e
			}
			e = event{}
		case name == "":
			if value != "" {
				s.events <- event{Comment: value, At: time.Now()}
			}
		case name == "id":
			e.ID = value
		case name == "event":
			e.Type = value
		case name == "data":
			e.Data += value + "\n"
		}
	}
}

// wait waits for the next opening, and returns its header.
func (s *source) wait() http.Header {
	s.t.Helper()
	select {
	case h := <-s.opened:
		return h
	case <-time.After(2 * patience):
		s.t.Fatalf("%s: no stream", s.name)
		return nil
	}
}

// next waits for an event.
func (s *source) next() event {
	s.t.Helper()
	for {
		select {
		case e := <-s.events:
			if e.Comment != "" && e.Comment != "events were lost" {
				continue
			}
			return e
		case <-time.After(patience):
			s.t.Fatalf("%s: no event", s.name)
		}
	}
}

// expect waits for events of these ids.
func (s *source) expect(ids ...string) {
	s.t.Helper()
	for _, want := range ids {
		if e := s.next(); e.ID != want {
			s.t.Fatalf("%s: got %+v, expected %s", s.name, e, want)
		}
	}
}

// close ends it.
func (s *source) close() {
	s.end()
	<-s.done
}
