package servertest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Facts about how requests end.

const helloResponse = "Content-Type: text/plain\r\n\r\nhello"

// Decides that only the close frame is a normal end: nginx shows a program that died
// in the middle as a complete response.
func TestNginxShowsCrashAsCompleteResponse(t *testing.T) {
	t.Parallel()
	r := newResponder(t, Nginx)
	s := &stage{Server: r.Server}
	client := s.open(t, r.FastCGI(), exchange{length: chunked})
	client.send("a")
	app := r.next(t)
	app.write(typeStdout, helloResponse)
	client.receive("hello")
	app.conn.Close()
	client.finished()
}

// Decides that a closed connection cancels a session: no server says it with
// FCGI_ABORT_REQUEST.
func TestClientGoneClosesConnection(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Nginx, Lighttpd} {
		t.Run(string(kind), func(t *testing.T) {
			r := newResponder(t, kind)
			s := &stage{Server: r.Server}
			client := s.open(t, r.FastCGI(), exchange{length: declared})
			client.send("a")
			app := r.next(t)
			app.write(typeStdout, helloResponse)
			client.receive("hello")
			client.cancel()
			app.expectClosed()
		})
	}
}

// halfClose sends a request with an open body, then FIN: shutdown(WR), as a client
// may that thinks it has said everything.
func halfClose(t *testing.T, server *Server, path string, started func()) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\na", path, int64(declared))
	started()
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Decides that a client never half-closes its socket: servers take it for gone.
func TestHalfCloseIsAbort(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Nginx, Lighttpd} {
		t.Run(string(kind), func(t *testing.T) {
			r := newResponder(t, kind)
			var app *fcgiConn
			halfClose(t, r.Server, "/tandem", func() {
				app = r.next(t)
				app.write(typeStdout, helloResponse)
			})
			app.expectClosed()
		})
	}
}

// Decides that a CGI program behind lighttpd learns at once that the client has gone.
func TestLighttpdSignalsCGIWhenClientIsGone(t *testing.T) {
	t.Parallel()
	s := newStage(t, Lighttpd, Config{})
	t.Run("closed", func(t *testing.T) {
		client := s.open(t, s.CGI(), exchange{length: declared})
		client.send("a")
		app := s.next(t)
		app.read("a")
		app.write("1")
		client.receive("1")
		client.cancel()
		app.signal("terminated")
	})
	t.Run("half closed", func(t *testing.T) {
		var app *app
		halfClose(t, s.Server, "/cgi-bin/tandem", func() {
			app = s.next(t)
			app.read("a")
		})
		app.signal("terminated")
	})
}

// Decides that a CGI program must end its work before its response: Apache sends
// SIGTERM as soon as the response has ended.
func TestApacheSignalsCGIAtResponseEnd(t *testing.T) {
	t.Parallel()
	for name, prefork := range map[string]bool{"mod_cgid": false, "mod_cgi": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, Apache, Config{Prefork: prefork})
			client := s.open(t, s.CGI(), exchange{method: "GET"})
			app := s.next(t)
			app.write("1")
			client.receive("1")
			app.expect("close", "closed")
			client.finished()
			app.signal("terminated")
		})
	}
}

// Decides that a CGI program behind Apache must write now and then: that is how it
// learns that the client has gone, by SIGPIPE (EPIPE) or SIGTERM, whichever is first.
func TestApacheSignalsCGIOnceItWritesToNobody(t *testing.T) {
	t.Parallel()
	for name, prefork := range map[string]bool{"mod_cgid": false, "mod_cgi": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, Apache, Config{Prefork: prefork})
			client := s.open(t, s.CGI(), exchange{method: "GET"})
			app := s.next(t)
			app.write("1")
			client.receive("1")
			client.cancel()
			if len(app.signals) > 0 {
				t.Fatalf("signal %s before the program wrote", <-app.signals)
			}
			for range 1000 {
				if len(app.signals) > 0 || app.do(`write "more\n"`) != "wrote" {
					break
				}
			}
			select {
			case <-app.signals:
			case <-time.After(patience):
				t.Fatal("the program got no signal")
			}
		})
	}
}
