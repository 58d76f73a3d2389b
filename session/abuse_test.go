package session_test

// What clients may do that no client should, and apps.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/session"
)

// TestOpenBodyHoldsNoAnswerBack: whoever leaves a body open gets an answer at once all the same.
func TestOpenBodyHoldsNoAnswerBack(t *testing.T) {
	srv, _ := serve(t, session.Echo, session.Options{}, nil)
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE"} {
		t.Run(method, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(2 * time.Second))
			fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", method)
			if _, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method}); err != nil {
				t.Errorf("no answer while the body is open: %v", err)
			}
		})
	}
}

// TestAppThatNeverStarts: a client that sends no open frame, or never start after
// an open that holds the app, keeps no session.
func TestAppThatNeverStarts(t *testing.T) {
	for name, first := range map[string]string{
		"no open":  "\n",
		"no start": strings.Replace(openLine, "{", `{"start":false,`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := session.NewHandler(session.AppFunc(func(context.Context, *session.Session) error {
					t.Error("the app was started")
					return nil
				}), quiet(session.Options{}))
				body, client := io.Pipe()
				stopped := make(chan struct{})
				go func() { // a client that is alive, and does nothing else
					defer close(stopped)
					for {
						if _, err := io.WriteString(client, first); err != nil {
							return
						}
						first = "\n"
						time.Sleep(5 * time.Second)
					}
				}()
				r := httptest.NewRequest("POST", "/", body)
				r.Header.Set("Content-Type", "application/x-ndjson")
				w := httptest.NewRecorder()
				start := time.Now()
				h.ServeHTTP(w, r)
				if d := time.Since(start); d > 35*time.Second {
					t.Errorf("the session was held for %v", d)
				}
				if !strings.Contains(w.Body.String(), `"code":4003`) {
					t.Errorf("expected a close with 4003, got %s", w.Body)
				}
				body.Close()
				<-stopped
				synctest.Wait()
				if n := h.Sessions(); n != 0 {
					t.Errorf("%d sessions are left", n)
				}
			})
		})
	}
}

// TestCodeThatIsNone: an app's mistake in the code does not cost the client the close frame.
func TestCodeThatIsNone(t *testing.T) {
	for _, code := range []session.Code{0, 1, 999, 5000} {
		srv, _ := serve(t, session.AppFunc(func(context.Context, *session.Session) error {
			return &session.CloseError{Code: code, Reason: "mistake"}
		}), session.Options{}, nil)
		s := openStream(t, srv.URL, jsonHeader, openLine)
		s.frame() // open
		if f := s.frame(); f["type"] != "close" || f["code"] != 1011.0 {
			t.Errorf("%d: expected a close with 1011, got %v", code, f)
		}
	}
}
