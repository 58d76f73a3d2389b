package servertest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A client is one HTTP request whose body the test writes and whose response it
// reads, at the same time.
type client struct {
	t      *testing.T
	body   *io.PipeWriter
	output chan string // what came, closed at the response's end
	status chan int
	err    error // how the response ended, once output is closed; nil: complete
	cancel context.CancelFunc
	rest   string
}

const (
	chunked  = -1
	declared = 1 << 40 // a length far beyond what is sent
)

type exchange struct {
	method string // default POST
	length int64  // chunked, declared, or what it is; 0 with GET: no body
	http2  bool   // over TLS, or in the clear for an http URL
	header map[string]string
	proxy  func(*http.Request) (*url.URL, error) // a forward proxy
}

func (s *stage) open(t *testing.T, target string, x exchange) *client {
	t.Helper()
	if x.method == "" {
		x.method = "POST"
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: t, output: make(chan string, 1000), status: make(chan int, 1), cancel: cancel}
	var body io.Reader
	if x.length != 0 {
		body, c.body = io.Pipe()
	}
	req, err := http.NewRequestWithContext(ctx, x.method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = x.length
	req.Header.Set("Content-Type", "text/plain")
	for name, value := range x.header {
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: !x.http2, ForceAttemptHTTP2: x.http2, TLSClientConfig: s.TLSConfig(), Proxy: x.proxy}
	if x.http2 && strings.HasPrefix(target, "http:") {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
	})
	go func() {
		defer close(c.output)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			c.err = err
			close(c.status)
			return
		}
		defer resp.Body.Close()
		c.status <- resp.StatusCode
		if x.http2 && resp.ProtoMajor != 2 {
			t.Errorf("response is %s, expected HTTP/2", resp.Proto)
		}
		buf := make([]byte, 1<<16)
		for {
			n, err := resp.Body.Read(buf)
			if n > 0 {
				c.output <- string(buf[:n])
			}
			if err != nil {
				if err != io.EOF {
					c.err = err
				}
				return
			}
		}
	}()
	return c
}

// offer writes to a body that the server may refuse before any of it has come.
func (c *client) offer(text string) { go io.WriteString(c.body, text) }

// send returns once the transport has taken text, not once it is on the wire.
func (c *client) send(text string) {
	c.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.body, text)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			c.t.Fatalf("client: send: %v", err)
		}
	case <-time.After(patience):
		c.t.Fatal("client: the server doesn't take the body")
	}
}

func (c *client) end() { c.body.Close() }

// receive waits for exactly text.
func (c *client) receive(text string) {
	c.t.Helper()
	deadline := time.After(patience)
	for len(c.rest) < len(text) {
		select {
		case more, ok := <-c.output:
			if !ok {
				c.t.Fatalf("client: response ended (%v) after %q, expected %q", c.err, c.rest, text)
			}
			c.rest += more
		case <-deadline:
			c.t.Fatalf("client: got %q, expected %q", c.rest, text)
		}
	}
	if !strings.HasPrefix(c.rest, text) {
		c.t.Fatalf("client: got %q, expected %q", c.rest, text)
	}
	c.rest = c.rest[len(text):]
}

// heard waits a little for anything to come, and tells whether it did.
func (c *client) heard() bool {
	c.t.Helper()
	if c.rest != "" {
		return true
	}
	select {
	case more, ok := <-c.output:
		if !ok {
			c.t.Fatalf("client: response ended: %v", c.err)
		}
		c.rest = more
		return true
	case <-time.After(300 * time.Millisecond):
		return false
	}
}

// silent checks that nothing comes for a while.
func (c *client) silent() {
	c.t.Helper()
	if c.heard() {
		c.t.Fatalf("client: got %q, expected nothing for now", c.rest)
	}
}

// finished waits for the response's complete end, with nothing before it.
func (c *client) finished() {
	c.t.Helper()
	select {
	case more, ok := <-c.output:
		if ok {
			c.t.Fatalf("client: got %q, expected the end", more)
		}
		if c.err != nil {
			c.t.Fatalf("client: response was cut: %v", c.err)
		}
	case <-time.After(patience):
		c.t.Fatal("client: response doesn't end")
	}
}

func (c *client) expectStatus(want int) {
	c.t.Helper()
	select {
	case got, ok := <-c.status:
		if !ok {
			c.t.Fatalf("client: no response: %v", c.err)
		}
		if got != want {
			c.t.Fatalf("client: status %d, expected %d", got, want)
		}
	case <-time.After(patience):
		c.t.Fatalf("client: no response, expected status %d", want)
	}
}
