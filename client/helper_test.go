package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tandem/internal/servertest"
	"tandem/session"
	"tandem/session/frame"
)

func TestMain(m *testing.M) {
	defer servertest.Cleanup()
	goleak.VerifyTestMain(m)
}

// patience is how long a thing that must happen may take.
const patience = 20 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// noProxy keeps tests from what the environment says.
func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// dialTest dials, and drops the session with the test.
func dialTest(t *testing.T, url string, o *Options) *Conn {
	t.Helper()
	if o.Proxy == nil {
		o.Proxy = noProxy
	}
	c, err := Dial(patient(t), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseNow)
	return c
}

// serve runs app on net/http, over HTTP/1.1 or HTTP/2 with TLS.
func serve(t *testing.T, app session.App, o *session.Options, http2 bool) (url string, client *Options) {
	t.Helper()
	if o == nil {
		o = &session.Options{}
	}
	o.Log = slog.New(slog.DiscardHandler)
	h := session.NewHandler(app, o)
	srv := httptest.NewUnstartedServer(h)
	client = &Options{Proxy: noProxy}
	if http2 {
		srv.EnableHTTP2 = true
		srv.StartTLS()
		client.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		srv.Start()
	}
	t.Cleanup(func() {
		if err := h.Shutdown(patient(t)); err != nil {
			t.Errorf("sessions stay: %v", err)
		}
		srv.Close()
	})
	return srv.URL, client
}

// send sends; a session that ends meanwhile tells so where the test receives.
func send(t *testing.T, c *Conn, text string) {
	t.Helper()
	var over *frame.CloseError
	if err := c.Send(patient(t), frame.Text(text)); err != nil && !errors.As(err, &over) {
		t.Fatalf("send %.40q: %v", text, err)
	}
}

func receive(t *testing.T, c *Conn, want string) {
	t.Helper()
	m, err := c.Receive(patient(t))
	if err != nil {
		t.Fatalf("expected %.40q, got %v", want, err)
	}
	if string(m.Data) != want {
		t.Fatalf("expected %.40q, got %.40q", want, m.Data)
	}
}

// receiveClose waits for the session's end.
func receiveClose(t *testing.T, c *Conn, want frame.Code) *frame.CloseError {
	t.Helper()
	m, err := c.Receive(patient(t))
	var over *frame.CloseError
	if !errors.As(err, &over) || over.Code != want {
		t.Fatalf("expected close %d, got %.40q, %v", want, m.Data, err)
	}
	return over
}

// A visit is one connection to a fake server.
type visit struct {
	t    *testing.T
	conn net.Conn
	req  *http.Request // its head
	in   *bufio.Reader // the body, its chunks taken off
	body *bufio.Reader // the bytes as they came
}

// fake is a server that does what answer says to each connection, byte for byte.
// GETs that answer is not to see are refused with 405.
func fake(t *testing.T, answer func(v *visit)) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { visitOn(t, conn, answer) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return "http://" + ln.Addr().String() + "/tandem"
}

func visitOn(t *testing.T, conn net.Conn, answer func(v *visit)) {
	defer conn.Close()
	stop := context.AfterFunc(t.Context(), func() { conn.Close() })
	defer stop()
	v := &visit{t: t, conn: conn, body: bufio.NewReader(conn)}
	req, err := http.ReadRequest(v.body)
	if err != nil {
		return // nothing came: the client went away
	}
	v.req, v.in = req, bufio.NewReader(req.Body)
	answer(v)
	// As web servers do: a connection closed with unread input is reset, and the
	// answer lost with it.
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.CloseWrite()
		io.Copy(io.Discard, v.body)
	}
}

func (v *visit) write(text string) {
	if _, err := io.WriteString(v.conn, text); err != nil {
		v.t.Logf("fake server: %v", err)
	}
}

// refuseGET tells the client nothing.
func (v *visit) refuseGET() bool {
	if v.req.Method != http.MethodGet {
		return false
	}
	v.write("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
	return true
}

const (
	jsonHead = "HTTP/1.1 200 OK\r\nServer: fake/1\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
	jsonOpen = `{"type":"open","version":1,"session":"abc.def","transport":"single","heartbeat":15000,"window":65536,"messages":64,"max_message":1048576}` + "\n"
)

// frame reads the client's next frame that is not empty, nil at the end.
func (v *visit) frame() *frame.Frame {
	dec := frame.JSON.NewDecoder()
	for {
		line, err := v.in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		f := &frame.Frame{}
		if _, err := dec.Decode(line, f); err != nil {
			v.t.Errorf("fake server: %q: %v", line, err)
			return nil
		}
		if f.Type != frame.TypeEmpty {
			return f
		}
	}
}

// message reads the client's next message.
func (v *visit) message() *frame.Frame {
	for {
		if f := v.frame(); f == nil || f.Type == frame.TypeMessage {
			return f
		}
	}
}

// open answers as a server that opens the session, and starts it.
func (v *visit) open() {
	v.write(jsonHead + jsonOpen)
	for {
		switch f := v.frame(); {
		case f == nil || f.Type == frame.TypeStart || f.Type == frame.TypeOpen && !f.Hold:
			return
		case f.Type == frame.TypePing:
			v.write(fmt.Sprintf(`{"type":"pong","nonce":%d}`+"\n", f.Nonce))
		}
	}
}

// proxy is a forward proxy that passes bytes on as they come. It counts what
// went through it.
func proxy(t *testing.T, seen chan<- string) *url.URL {
	t.Helper()
	addr := fake(t, func(v *visit) {
		seen <- v.req.Method
		to, err := net.Dial("tcp", v.req.URL.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		if v.req.Method == http.MethodConnect {
			v.write("HTTP/1.1 200 Connected\r\n\r\n")
		} else {
			var head bytes.Buffer
			fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", v.req.Method, v.req.URL.RequestURI(), v.req.Host)
			if v.req.ContentLength > 0 {
				fmt.Fprintf(&head, "Content-Length: %d\r\n", v.req.ContentLength)
			} else if v.req.ContentLength < 0 {
				fmt.Fprint(&head, "Transfer-Encoding: chunked\r\n")
			}
			v.req.Header.Write(&head)
			head.WriteString("\r\n")
			to.Write(head.Bytes())
		}
		go func() {
			io.Copy(to, v.body)
			to.Close()
		}()
		io.Copy(v.conn, to)
		v.conn.Close()
	})
	u, err := url.Parse(strings.TrimSuffix(addr, "/tandem"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

var discard = slog.New(slog.DiscardHandler)

// serveHandler serves front on net/http, and sees h, which is behind it, off.
func serveHandler(t *testing.T, h *session.Handler, front http.Handler) (url string) {
	t.Helper()
	srv := httptest.NewServer(front)
	t.Cleanup(func() {
		if err := h.Shutdown(patient(t)); err != nil {
			t.Errorf("sessions stay: %v", err)
		}
		srv.Close()
	})
	return srv.URL
}
