package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"tandem/internal/servertest"
)

// TestWireRules: what docs/protocol.md says of requests that come late, twice, too
// early, or for nobody, through nginx.
func TestWireRules(t *testing.T) {
	td := servertest.StartTandem(t, apartEndpoints)
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})
	open := func(t *testing.T, endpoint string) (*hand, *half) {
		h := newHand(t, nginx.FastCGI()+endpoint, "split", nil, nil)
		f, _ := h.receive("POST", openLine)
		return h, f
	}
	t.Run("a gap is 409 and takes nothing from there on", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "")
		status, ack := h.send(messageLine(1, "one") + messageLine(3, "three"))
		if status != http.StatusConflict || ack.Received > 1 {
			t.Errorf("got %d with %+v", status, ack)
		}
		f.message(1, "one")
		h.sent(messageLine(2, "two") + messageLine(3, "three again"))
		f.message(2, "two")
		f.message(3, "three again")
	})
	t.Run("beyond the window is 413 and takes what comes before", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "/deaf")
		var body strings.Builder
		for seq := uint64(1); seq <= 70; seq++ {
			body.WriteString(messageLine(seq, "x"))
		}
		status, ack := h.send(body.String())
		if status != http.StatusRequestEntityTooLarge || ack.Type != "ack" {
			t.Fatalf("got %d with %+v, expected 413 with an ack", status, ack)
		}
		// The session lives: a ping is answered.
		h.sent("{\"type\":\"ping\",\"nonce\":7}\n")
		if pong := f.next("pong"); pong.Nonce != 7 {
			t.Errorf("got %+v", pong)
		}
	})
	t.Run("sent again after a lost answer", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "")
		h.sent(messageLine(1, "one") + messageLine(2, "two"))
		h.sent(messageLine(1, "one") + messageLine(2, "two") + messageLine(3, "three"))
		for i, data := range []string{"one", "two", "three"} {
			f.message(uint64(i+1), data)
		}
		h.sent(`{"type":"end","seq":3}` + "\n")
		if c := f.next("close"); c.Code != 1000 || c.Seq != 3 {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("overtaken", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "")
		h.attempt = 10
		h.sent(messageLine(1, "one"))
		for _, late := range []uint64{5, 11} {
			h.attempt = late - 1
			status, ack := h.send(messageLine(2, "late"))
			if status != http.StatusConflict || ack.Type != "ack" {
				t.Errorf("attempt %d after 11: %d, %+v", late, status, ack)
			}
		}
		h.attempt = 11
		h.sent(messageLine(2, "two"))
		f.message(1, "one")
		f.message(2, "two")
		// A late receive half.
		h.transport = "split"
		h.attempt = 20
		g, _ := h.receive("GET", "", "Tandem-After: 2")
		h.attempt = 15
		if resp, err := h.do(t.Context(), "GET", ""); err != nil || resp.StatusCode != http.StatusConflict {
			t.Errorf("a late GET: %v, %v; expected 409", resp, err)
		}
		if d := f.next("detach"); d.Code != 4004 {
			t.Errorf("the receive half that was replaced ended with %+v", d)
		}
		f.end()
		h.attempt = 30
		h.sent(messageLine(3, "three"))
		g.message(3, "three")
	})
	t.Run("an open send half gives way to the next", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "")
		body, w := io.Pipe()
		answer := make(chan string, 1)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", h.url, body)
			req.Header.Set("Tandem-Session", h.session)
			req.Header.Set("Tandem-Attempt", "2")
			req.Header.Set("Tandem-Transport", "split")
			req.Header.Set("Content-Type", "application/x-ndjson")
			resp, err := h.http.Do(req)
			if err != nil {
				answer <- err.Error()
				return
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			answer <- fmt.Sprint(resp.StatusCode, " ", string(text))
		}()
		io.WriteString(w, messageLine(1, "streamed"))
		f.message(1, "streamed")
		h.attempt = 2
		h.sent(messageLine(2, "batch"))
		f.message(2, "batch")
		if got := <-answer; !strings.HasPrefix(got, "409 {\"type\":\"ack\"") {
			t.Errorf("the streamed send half got %s", got)
		}
		w.Close()
	})
	t.Run("resumed, with what was lost", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "")
		h.sent(messageLine(1, "one") + messageLine(2, "two"))
		f.message(1, "one")
		f.close()
		h.sent(messageLine(3, "three"))
		g, ack := h.receive("GET", "", "Tandem-After: 1")
		if ack.Received != 3 {
			t.Errorf("the ack is %+v, expected 3 received", ack)
		}
		g.message(2, "two")
		g.message(3, "three")
		h.sent(`{"type":"close","code":1000}` + "\n")
		if c := g.next("close"); c.Code != 1000 {
			t.Errorf("got %+v", c)
		}
		g.end()
	})
	t.Run("acked beyond what was sent", func(t *testing.T) {
		t.Parallel()
		h, _ := open(t, "")
		g, _ := h.receive("GET", "", "Tandem-After: 5")
		if c := g.next("close"); c.Code != 1002 {
			t.Errorf("got %+v, expected 1002", c)
		}
	})
	t.Run("opened twice", func(t *testing.T) {
		t.Parallel()
		h := newHand(t, nginx.FastCGI()+"/once", "split", nil, nil)
		key := "Tandem-Open: " + strings.Repeat("k", 30)
		ctx, lost := context.WithCancel(t.Context())
		if _, err := h.do(ctx, "POST", openLine+messageLine(1, "one"), key); err != nil {
			t.Fatal(err)
		}
		lost() // the answer, and the session's name, are lost
		f, _ := h.receive("POST", openLine+messageLine(1, "one")+messageLine(2, "two"), key)
		f.message(1, "started once") // by the program, which counts its starts
		f.message(2, "one")
		f.message(3, "two")
		h.session, h.attempt = "", 1
		resp, err := h.do(t.Context(), "POST", openLine, key)
		if err != nil || resp.StatusCode != http.StatusConflict {
			t.Errorf("attempt 2 for the second time: %v, %v; expected 409", resp, err)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		h, f := open(t, "")
		name := h.session
		for _, foreign := range []string{"x", strings.Repeat("a", len(name)), name[:len(name)-1], name + "x", "../" + name, strings.Repeat("a", 16) + name[strings.IndexByte(name, '.'):]} {
			h.session = foreign
			if status, _ := h.send(messageLine(1, "x")); status != http.StatusGone {
				t.Errorf("POST of session %q: %d, expected 410", foreign, status)
			}
			if resp, err := h.do(t.Context(), "GET", ""); err != nil || resp.StatusCode != http.StatusGone {
				t.Errorf("GET of session %q: %v, %v, expected 410", foreign, resp, err)
			}
		}
		// After both sides' close there is nothing left.
		h.session = name
		h.sent(`{"type":"end","seq":0}` + "\n")
		if c := f.next("close"); c.Code != 1000 {
			t.Errorf("got %+v", c)
		}
		f.end()
		h.sent(`{"type":"close","code":1000}` + "\n")
		if status, _ := h.send("\n"); status != http.StatusGone {
			t.Errorf("POST after both closes: %d, expected 410", status)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		t.Parallel()
		for _, attempt := range []string{"", "x", "-1", "9007199254740993"} {
			h, _ := open(t, "")
			if status, _ := h.send("\n", "Tandem-Attempt: "+attempt); status != http.StatusBadRequest {
				t.Errorf("Tandem-Attempt %q: %d, expected 400", attempt, status)
			}
		}
		h, f := open(t, "")
		if status, _ := h.send("{nonsense\n"); status != http.StatusBadRequest {
			t.Errorf("a malformed batch: %d, expected 400", status)
		}
		if c := f.next("close"); c.Code != 1002 {
			t.Errorf("got %+v, expected 1002", c)
		}
		for key, want := range map[string]int{"short": 400, strings.Repeat("k", 65): 400, strings.Repeat("k", 20) + "!!": 400} {
			h := newHand(t, nginx.FastCGI(), "split", nil, nil)
			if status, _ := h.send(openLine, "Tandem-Open: "+key); status != want {
				t.Errorf("Tandem-Open %q: %d, expected %d", key, status, want)
			}
		}
		for _, c := range []struct {
			name, body string
			status     int
		}{
			{"nonsense", "{nonsense\n", 400},
			{"a fragment that is too long", openLine + messageLine(1, strings.Repeat("x", 20_000)), 400},
			{"65 messages", openLine + strings.Join(manyMessages(1, 65), ""), 413},
			{"600 KB", openLine + strings.Repeat("\n", 600_000), 413},
		} {
			h := newHand(t, nginx.FastCGI()+"/deaf", "split", nil, nil)
			if status, _, err := h.trySend(c.body); status != c.status {
				t.Errorf("opening with %s: %d, %v; expected %d", c.name, status, err, c.status)
			}
		}
		h = newHand(t, nginx.FastCGI(), "split", nil, nil)
		if status, _ := h.send("hello\n", "Content-Type: text/plain", "Accept: text/plain"); status != http.StatusUnsupportedMediaType {
			t.Errorf("lines: %d, expected 415", status)
		}
	})
}

func manyMessages(from, to uint64) (lines []string) {
	for seq := from; seq <= to; seq++ {
		lines = append(lines, messageLine(seq, "x"))
	}
	return lines
}
