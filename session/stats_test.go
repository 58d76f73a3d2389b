package session_test

import (
	"context"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// TestStats: each session is counted once when it is open and once when it has ended, and what opens none is refused.
func TestStats(t *testing.T) {
	srv, h := serve(t, session.Echo, session.Options{Grace: time.Minute, Owners: nobody{}}, nil)
	check := func(what string, want session.Stats) {
		t.Helper()
		waitFor(t, what, func() bool {
			got := h.Stats()
			maps.DeleteFunc(got.Open, func(_ string, n int) bool { return n == 0 })
			return reflect.DeepEqual(got, want)
		})
	}
	stays := openStream(t, srv.URL, "Content-Type: text/plain\r\n", "a\n")
	stays.line()
	theirs := openStream(t, srv.URL, jsonHeader, openLine)
	theirs.frame()
	post := func(header, body string) int {
		r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(strings.TrimSuffix(header, "\r\n"), "\r\n") {
			name, value, _ := strings.Cut(l, ": ")
			r.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	apart := jsonHeader + "Tandem-Transport: poll\r\nTandem-Attempt: 1\r\n"
	if status := post(apart, openLine); status != 200 {
		t.Fatal(status)
	}
	if status := post(apart, messageLine(1, "x")); status != 400 { // it opens none
		t.Fatal(status)
	}
	if status := post("Content-Type: image/png", ""); status != 415 {
		t.Fatal(status)
	}
	want := session.Stats{
		Open: map[string]int{"single": 2, "poll": 1}, Opened: map[string]uint64{"single": 2, "poll": 1},
		Ended: map[session.Code]uint64{}, Refused: map[int]uint64{400: 1, 415: 1},
	}
	check("two are open", want)
	theirs.write(`{"type":"close","code":4321}` + "\n")
	stays.end()
	want.Open = map[string]int{"poll": 1}
	want.Ended[0], want.Ended[frame.CodeNormal] = 1, 1
	check("two have ended, one with a code of the client's own", want)
	if err := h.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	want.Open = map[string]int{}
	want.Ended[frame.CodeRestart] = 1
	check("all have ended", want)
	http.DefaultClient.CloseIdleConnections()
}
