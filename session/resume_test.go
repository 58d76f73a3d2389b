package session_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tandem/internal/gateway"
	"tandem/session"
	"tandem/session/frame"
)

// resumeHeader names a session and an attempt.
func resumeHeader(id string, attempt int) string {
	return jsonHeader + fmt.Sprintf("Tandem-Session: %s\r\nTandem-Attempt: %d\r\n", id, attempt)
}

func ackLine(received int) string {
	return fmt.Sprintf(`{"type":"ack","received":%d,"window":262144,"messages":1024}`+"\n", received)
}

func messageLine(seq int, text string) string {
	return fmt.Sprintf(`{"type":"message","seq":%d,"data":%q}`+"\n", seq, text)
}

// opened reads the open frame and returns the session's id.
func (s *stream) opened() string {
	s.t.Helper()
	f := s.frame()
	id, _ := f["session"].(string)
	if f["type"] != "open" || id == "" || f["grace"] != 60000.0 {
		s.t.Fatalf("frame %v, want an open with a grace of 60000", f)
	}
	return id
}

// TestResume: the transport is cut; the app runs on; another request resumes the
// session, and both sides send again what the other has not got.
func TestResume(t *testing.T) {
	started := 0
	goOn := make(chan struct{})
	srv, h := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		started++
		m, err := s.Receive(ctx)
		if err != nil {
			return err
		}
		<-goOn // the client is gone now
		for i := range 3 {
			if err := s.Send(ctx, frame.Text(fmt.Sprint(string(m.Data), i))); err != nil {
				return err
			}
		}
		if m, err = s.Receive(ctx); err != nil {
			return err
		}
		s.Send(ctx, m)
		return frame.Errorf(frame.CodeProgramExited, "exit status 3")
	}), session.Options{Grace: time.Minute}, nil)

	first := openStream(t, srv.URL, jsonHeader, openLine)
	id := first.opened()
	first.write(messageLine(1, "a"))
	first.conn.Close()
	close(goOn)

	// The second request is cut, too, after it got two of three messages. The first
	// one's message may not have been taken in: it comes again.
	second := openStream(t, srv.URL, resumeHeader(id, 1), openLine+ackLine(0)+messageLine(1, "a"))
	if second.resp.StatusCode != http.StatusOK {
		t.Fatalf("resuming: %s", second.resp.Status)
	}
	second.opened()
	for i := range 2 {
		if f := second.frame(); f["data"] != fmt.Sprint("a", i) || f["seq"] != float64(i+1) {
			t.Fatalf("frame %v", f)
		}
	}
	second.conn.Close()

	third := openStream(t, srv.URL, resumeHeader(id, 2), openLine+ackLine(2)+messageLine(1, "a")+messageLine(2, "b"))
	third.opened()
	if f := third.frame(); f["data"] != "a2" || f["seq"] != 3.0 {
		t.Fatalf("frame %v, want the third message", f)
	}
	if f := third.frame(); f["data"] != "b" {
		t.Fatalf("frame %v, want the echo of the second message, as the first was there already", f)
	}
	third.conn.Close() // just before the end

	fourth := openStream(t, srv.URL, resumeHeader(id, 3), openLine+ackLine(4))
	fourth.opened()
	if f := fourth.frame(); f["type"] != "close" || f["code"] != 4000.0 || f["reason"] != "exit status 3" {
		t.Fatalf("frame %v, want the app's end", f)
	}
	fourth.write(`{"type":"close","seq":2,"code":4000}` + "\n")
	waitFor(t, "the session to be forgotten", func() bool { return h.Sessions() == 0 })
	if started != 1 {
		t.Errorf("the app was started %d times", started)
	}
	if gone := openStream(t, srv.URL, resumeHeader(id, 4), openLine+ackLine(4)); gone.resp.StatusCode != http.StatusGone {
		t.Errorf("a forgotten session: %s, want 410", gone.resp.Status)
	}
}

// TestAttempts: the higher attempt has the session, whatever the order of arrival.
func TestAttempts(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{Grace: time.Minute}, nil)
	first := openStream(t, srv.URL, jsonHeader, openLine)
	id := first.opened()
	second := openStream(t, srv.URL, resumeHeader(id, 5), openLine+ackLine(0))
	second.opened()
	if f := first.frame(); f["type"] != "detach" || f["code"] != 4004.0 {
		t.Errorf("the first request got %v, want detach 4004", f)
	}
	for _, attempt := range []int{5, 4} {
		late := openStream(t, srv.URL, resumeHeader(id, attempt), openLine+ackLine(0))
		if late.resp.StatusCode != http.StatusConflict {
			t.Errorf("attempt %d after 5: %s, want 409", attempt, late.resp.Status)
		}
	}
	first.write(messageLine(1, "stolen")) // dropped: it is sent again, or was taken in before
	second.write(messageLine(1, "mine"))
	if f := second.frame(); f["data"] != "mine" {
		t.Errorf("frame %v", f)
	}
	second.write(`{"type":"close","seq":1,"code":1000}` + "\n")
}

// TestResumeRefused: whom a session is not resumed for.
func TestResumeRefused(t *testing.T) {
	info := &gateway.Info{Interface: gateway.FastCGI, Software: "nginx", User: "ann"}
	srv, h := serve(t, session.Echo, session.Options{Grace: time.Minute}, info)
	first := openStream(t, srv.URL, jsonHeader, openLine)
	id := first.opened()
	info.User = "bob"
	for _, tt := range []struct {
		name, header string
		user         string
		status       int
	}{
		{"another user", resumeHeader(id, 1), "bob", 410},
		{"nobody", resumeHeader(id, 1), "", 410},
		{"unknown session", resumeHeader("abcdefghij234567.abcdefghijklmnopqrstuvwxyz", 1), "ann", 410},
		{"nonsense", resumeHeader("../../etc/passwd", 1), "ann", 410},
		{"attempt 0", resumeHeader(id, 0), "ann", 400},
		{"no attempt", jsonHeader + "Tandem-Session: " + id + "\r\n", "ann", 400},
		{"negative attempt", resumeHeader(id, -1), "ann", 400},
		{"lines", strings.Replace(resumeHeader(id, 1), "application/x-ndjson", "text/plain", 1), "ann", 415},
	} {
		info.User = tt.user
		if s := openStream(t, srv.URL, tt.header, ""); s.resp.StatusCode != tt.status {
			t.Errorf("%s: %s, want %d", tt.name, s.resp.Status, tt.status)
		}
	}
	// None of them has disturbed the session.
	first.write(messageLine(1, "still here"))
	if f := first.frame(); f["data"] != "still here" {
		t.Errorf("frame %v", f)
	}
	first.write(`{"type":"close","seq":1,"code":1000}` + "\n")
	waitFor(t, "the end", func() bool { return h.Sessions() == 0 })
}

// TestResumeAfterClose: a session that its client has closed is gone for it, also
// while the app has not returned yet.
func TestResumeAfterClose(t *testing.T) {
	leave := make(chan struct{})
	over := make(chan struct{})
	srv, h := serve(t, session.AppFunc(func(ctx context.Context, s *session.Session) error {
		<-ctx.Done()
		close(over)
		<-leave
		return nil
	}), session.Options{Grace: time.Minute}, nil)
	first := openStream(t, srv.URL, jsonHeader, openLine)
	id := first.opened()
	first.write(`{"type":"close","seq":0,"code":1000}` + "\n")
	<-over
	if s := openStream(t, srv.URL, resumeHeader(id, 1), openLine+ackLine(0)); s.resp.StatusCode != http.StatusGone {
		t.Errorf("%s, want 410", s.resp.Status)
	}
	close(leave)
	waitFor(t, "the end", func() bool { return h.Sessions() == 0 })
}

// TestLinesEndWithTheirRequest, whatever the grace time.
func TestLinesEndWithTheirRequest(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{Grace: time.Hour}, nil)
	s := openStream(t, srv.URL, "", "x\n")
	s.line()
	s.conn.Close()
	waitFor(t, "the end of the session", func() bool { return h.Sessions() == 0 })
}

// TestShutdownDuringGrace: sessions that wait to be resumed don't hold a stop up.
func TestShutdownDuringGrace(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{Grace: time.Hour}, nil)
	s := openStream(t, srv.URL, jsonHeader, openLine)
	s.frame()
	s.conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
