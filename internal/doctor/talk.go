package doctor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tandem/internal/probe"
)

const connectTimeout = 10 * time.Second

// transport is for one request: as a session's, on a connection of its own.
func (d *examination) transport(http2 bool) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	return &http.Transport{
		Proxy:               d.options.Proxy,
		DialContext:         d.options.DialContext,
		TLSClientConfig:     d.options.TLS.Clone(),
		TLSHandshakeTimeout: connectTimeout,
		Protocols:           &protocols,
		DisableKeepAlives:   true,
		DisableCompression:  true,
	}
}

func (d *examination) request(ctx context.Context, method string) *http.Request {
	u := *d.url
	u.User = nil
	r := (&http.Request{Method: method, URL: &u, Host: u.Host, Header: d.options.Header.Clone()}).WithContext(ctx)
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	if d.url.User != nil && r.Header.Get("Authorization") == "" {
		password, _ := d.url.User.Password()
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(d.url.User.Username()+":"+password)))
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "tandem-doctor")
	}
	r.Header.Set("Accept", "application/x-ndjson, application/json")
	r.Header.Set("Accept-Encoding", "identity")
	return r
}

// probing is what to ask the probe.
type probing struct {
	test     string // the value of the header Tandem-Probe
	length   int64  // of the body: declared; -1: chunked; 0: a GET
	http2    bool
	encoding string // Accept-Encoding, if not identity
}

const chunked = -1

// line is one line of the probe's answer, and when it came.
type line struct {
	probe.Line
	came time.Time
	size int    // bytes
	text []byte // not read yet
}

// answer is an answer that is not the probe's.
type answer struct {
	Status int
	Header http.Header
	Body   string // its beginning
}

func (a *answer) String() string {
	s := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	if server := a.Header.Get("Server"); server != "" {
		s += " from " + clean(server)
	}
	return s
}

// A talk is a probe under way. Its methods are for one goroutine.
type talk struct {
	cancel  context.CancelFunc
	done    <-chan struct{} // closed by end
	out     chan []byte     // to the body; closed at its end
	written atomic.Int64
	started time.Time
	in      chan line // closed when the response is over

	// Known once in is closed.
	header http.Header
	proto  string
	other  *answer // came in place of the probe's answer
	err    error   // how the response ended; nil: complete

	lines   []line // so far
	changed error  // a line was none of the probe's
	over    bool   // in is closed
	cut     bool   // by end
}

// begin sends a request. The caller must end the talk.
func (d *examination) begin(ctx context.Context, p probing) *talk {
	ctx, cancel := context.WithCancel(ctx)
	t := &talk{cancel: cancel, done: ctx.Done(), in: make(chan line, 1024), started: time.Now()}
	method := http.MethodGet
	if p.length != 0 {
		method = http.MethodPost
	}
	r := d.request(ctx, method)
	r.Header.Set(probe.Header, p.test)
	r.Header.Set("Incremental", "?1")
	if p.encoding != "" {
		r.Header.Set("Accept-Encoding", p.encoding)
	}
	if p.length != 0 {
		r.Header.Set("Content-Type", "application/x-ndjson")
		r.ContentLength = p.length
		var pipe *io.PipeWriter
		r.Body, pipe = io.Pipe()
		t.out = make(chan []byte, 1024)
		go t.write(ctx, pipe)
	}
	go t.read(d.transport(p.http2), r)
	return t
}

// write passes on what is sent, until net/http takes no more.
func (t *talk) write(ctx context.Context, to *io.PipeWriter) {
	defer to.Close()
	for {
		select {
		case p, ok := <-t.out:
			if !ok {
				return
			}
			n, err := to.Write(p)
			t.written.Add(int64(n))
			if err != nil {
				return
			}
		case <-ctx.Done():
			to.CloseWithError(ctx.Err())
			return
		}
	}
}

// longestAnswer is how much is read of an answer that is not the probe's, in bytes.
const longestAnswer = 64 << 10

func (t *talk) read(rt *http.Transport, r *http.Request) {
	defer close(t.in)
	defer rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.err = err
		return
	}
	defer resp.Body.Close()
	t.header, t.proto = resp.Header, resp.Proto
	if resp.StatusCode != http.StatusOK || resp.Header.Get(probe.Header) == "" {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, longestAnswer)) // what came of it will do
		t.other = &answer{resp.StatusCode, resp.Header, string(body)}
		return
	}
	var body io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, t.err = gzip.NewReader(resp.Body); t.err != nil {
			return
		}
	}
	lines := bufio.NewReaderSize(body, probe.MaxResponse)
	for {
		text, err := lines.ReadSlice('\n')
		if err != nil {
			if err != io.EOF {
				t.err = err
			}
			return
		}
		select { // understanding it takes time that the next line shall not wait for
		case t.in <- line{came: time.Now(), size: len(text), text: bytes.Clone(text)}:
		case <-r.Context().Done():
			return
		}
	}
}

// send gives p to the body. It doesn't wait for the server to take it.
func (t *talk) send(p []byte) {
	select {
	case t.out <- p:
	default: // nobody takes it
	}
}

// endBody ends the body. It may be called once.
func (t *talk) endBody() { close(t.out) }

// wait waits until what has come makes enough true, the response is over, or d is.
func (t *talk) wait(d time.Duration, enough func(line) bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !t.over {
		select {
		case l, ok := <-t.in:
			if !ok {
				t.over = true
				break
			}
			if err := json.Unmarshal(l.text, &l.Line); err != nil {
				t.changed = fmt.Errorf("the answer was changed on its way: %w", err)
			}
			l.text, l.Pad = nil, ""
			t.lines = append(t.lines, l)
			if enough(l) {
				return true
			}
		case <-timer.C:
			return false
		}
	}
	return false
}

func never(line) bool { return false }

// end cuts what is still going on, and waits until it has ended.
func (t *talk) end() {
	t.cut = t.cut || !t.over
	t.cancel()
	for range t.in {
	}
	t.over = true
}

// last is the last line that came.
func (t *talk) last() line {
	if len(t.lines) == 0 {
		return line{}
	}
	return t.lines[len(t.lines)-1]
}

// reply is the answer to a GET.
type reply struct {
	*http.Response
	took time.Duration // from the request's last byte to the answer's first
	port string        // of this end of the connection
}

// ask sends a GET and reads its answer as JSON into v.
func (d *examination) ask(ctx context.Context, change func(*http.Request), v any) (a reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	var wrote, first atomic.Int64 // set by goroutines of net/http; µs
	start := time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest:         func(httptrace.WroteRequestInfo) { wrote.Store(time.Since(start).Microseconds()) },
		GotFirstResponseByte: func() { first.Store(time.Since(start).Microseconds()) },
		GotConn: func(i httptrace.GotConnInfo) {
			if tcp, ok := i.Conn.LocalAddr().(*net.TCPAddr); ok {
				a.port = strconv.Itoa(tcp.Port)
			}
		},
	})
	r := d.request(ctx, http.MethodGet)
	if change != nil {
		change(r)
	}
	rt := d.transport(false)
	rt.Protocols = new(http.Protocols)
	rt.Protocols.SetHTTP1(true)
	rt.Protocols.SetHTTP2(!d.options.HTTP1)
	defer rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.Response = resp
	a.took = time.Duration(max(0, first.Load()-wrote.Load())) * time.Microsecond
	body, err := io.ReadAll(io.LimitReader(resp.Body, longestAnswer))
	if err != nil && len(body) == 0 {
		return a, err
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && strings.HasSuffix(media, "json") && json.Unmarshal(body, v) == nil {
		return a, nil
	}
	return a, &otherError{answer{resp.StatusCode, resp.Header, string(body)}}
}

// otherError is an answer that is not what was asked for.
type otherError struct{ answer }

func (e *otherError) Error() string { return e.String() }

// other is the answer in err, or nil.
func other(err error) *answer {
	var o *otherError
	if errors.As(err, &o) {
		return &o.answer
	}
	return nil
}
