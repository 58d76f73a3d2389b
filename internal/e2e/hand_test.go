package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A hand is a client of split and poll in a page of net/http and encoding/json, by
// what docs/protocol.md says: it shares no code with package client.
type hand struct {
	t         *testing.T
	http      *http.Client
	url       string
	transport string // split or poll
	session   string
	key       string // opens the session
	attempt   uint64
}

// A line is any frame.
type line struct {
	Type      string `json:"type"`
	Session   string `json:"session"`
	Transport string `json:"transport"`
	Seq       uint64 `json:"seq"`
	Data      string `json:"data"`
	Received  uint64 `json:"received"`
	Messages  uint64 `json:"messages"`
	Nonce     uint64 `json:"nonce"`
	Code      int    `json:"code"`
	Reason    string `json:"reason"`
}

// openLine has no heartbeat: a test may be slow.
const openLine = `{"type":"open","version":1,"window":262144,"messages":1024}` + "\n"

func messageLine(seq uint64, data string) string {
	return fmt.Sprintf("{\"type\":\"message\",\"seq\":%d,\"data\":%q}\n", seq, data)
}

func ackLine(received uint64) string {
	return fmt.Sprintf("{\"type\":\"ack\",\"received\":%d,\"window\":262144,\"messages\":1024}\n", received)
}

func newHand(t *testing.T, target, transport string, config *tls.Config, proxy func(*http.Request) (*url.URL, error)) *hand {
	rt := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: config != nil, Proxy: proxy, DisableCompression: true}
	t.Cleanup(rt.CloseIdleConnections)
	return &hand{t: t, http: &http.Client{Transport: rt}, url: target, transport: transport, key: rand.Text()}
}

// do sends a request, and sends it again if its answer is lost, as that of a
// connection is which a proxy had closed already. Headers are "Name: value"; those of
// the session are added.
func (h *hand) do(ctx context.Context, method, body string, headers ...string) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := h.once(ctx, method, body, headers...)
		if err == nil || try == 3 || ctx.Err() != nil {
			return resp, err
		}
	}
}

func (h *hand) once(ctx context.Context, method, body string, headers ...string) (*http.Response, error) {
	var r io.Reader
	if method != "GET" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.url, r)
	if err != nil {
		return nil, err
	}
	h.attempt++
	req.Header.Set("Tandem-Attempt", fmt.Sprint(h.attempt))
	if h.session != "" {
		req.Header.Set("Tandem-Session", h.session)
	} else {
		req.Header.Set("Tandem-Open", h.key)
	}
	req.Header.Set("Tandem-Transport", h.transport)
	req.Header.Set("Accept", "application/x-ndjson")
	if r != nil {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	return h.http.Do(req)
}

// A half is a response that carries frames.
type half struct {
	t      *testing.T
	cancel context.CancelFunc
	body   io.Closer
	lines  *bufio.Reader
	got    uint64 // the seq of the last message
	resume *hand  // asks for the rest, once, of a response that ends too soon; may be nil
}

// receive sends a request whose answer must be a receive half, and reads its open
// and its ack.
func (h *hand) receive(method, body string, headers ...string) (*half, line) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	stop := time.AfterFunc(handPatience, cancel)
	resp, err := h.do(ctx, method, body, headers...)
	if err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("%s was answered %s: %s", method, resp.Status, text)
	}
	stop.Stop()
	f := &half{t: h.t, cancel: cancel, body: resp.Body, lines: bufio.NewReader(resp.Body)}
	h.t.Cleanup(f.close)
	open := f.next("open")
	if open.Transport != h.transport || open.Session == "" || h.session != "" && open.Session != h.session {
		h.t.Errorf("the response begins with %+v, expected transport %s, session %s", open, h.transport, h.session)
	}
	h.session = open.Session
	return f, f.next("ack")
}

// handPatience is how long a thing that must happen may take.
const handPatience = 20 * time.Second

// next reads up to the next frame of one of these types; other frames in front of it,
// but for acks, are an error.
func (f *half) next(types ...string) line {
	f.t.Helper()
	stop := time.AfterFunc(handPatience, f.cancel)
	defer stop.Stop()
	for {
		text, err := f.lines.ReadBytes('\n')
		if err == io.EOF && f.resume != nil {
			f.t.Log("the response ended too soon")
			rest, _ := f.resume.receive("GET", "", fmt.Sprint("Tandem-After: ", f.got))
			f.cancel, f.body, f.lines, f.resume = rest.cancel, rest.body, rest.lines, nil
			continue
		}
		if err != nil {
			f.t.Fatalf("expected %v, got %q and %v", types, text, err)
		}
		var l line
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if err := json.Unmarshal(text, &l); err != nil {
			f.t.Fatalf("%q: %v", text, err)
		}
		f.got = max(f.got, l.Seq)
		for _, want := range types {
			if l.Type == want {
				return l
			}
		}
		if l.Type != "ack" {
			f.t.Fatalf("expected %v, got %s", types, text)
		}
	}
}

// message reads the next message, which must be this one.
func (f *half) message(seq uint64, data string) {
	f.t.Helper()
	if m := f.next("message"); m.Seq != seq || m.Data != data {
		f.t.Fatalf("message %d is %q, expected %d, %q", m.Seq, m.Data, seq, data)
	}
}

// end expects the response to be over.
func (f *half) end() {
	f.t.Helper()
	stop := time.AfterFunc(handPatience, f.cancel)
	defer stop.Stop()
	if rest, err := io.ReadAll(f.lines); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		f.t.Errorf("after the last frame came %q, %v", rest, err)
	}
}

func (f *half) close() {
	f.cancel()
	f.body.Close()
}

// send is a send half. The answer's ack is that of a 200, 409 or 413, else its type
// is empty.
func (h *hand) send(body string, headers ...string) (int, line) {
	h.t.Helper()
	status, ack, err := h.trySend(body, headers...)
	if err != nil {
		h.t.Fatal(err)
	}
	return status, ack
}

func (h *hand) trySend(body string, headers ...string) (status int, ack line, err error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), handPatience)
	defer cancel()
	resp, err := h.do(ctx, "POST", body, headers...)
	if err != nil {
		return 0, ack, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ack, err
	}
	if resp.Header.Get("Content-Type") != "application/x-ndjson" {
		return resp.StatusCode, ack, nil
	}
	if bytes.Count(text, []byte("\n")) != 1 || json.Unmarshal(text, &ack) != nil || ack.Type != "ack" {
		return 0, ack, errors.New("expected one ack in the answer, got " + string(text))
	}
	return resp.StatusCode, ack, nil
}

// sent is a send half that must be taken whole.
func (h *hand) sent(body string) line {
	h.t.Helper()
	status, ack := h.send(body)
	if status != http.StatusOK || ack.Type != "ack" {
		h.t.Fatalf("the send half was answered %d, %+v; expected 200 and an ack", status, ack)
	}
	return ack
}
