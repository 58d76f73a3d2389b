package fcgi

// The two engines side by side: the same records, the same requests and responses.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	stdcgi "net/http/cgi"
	nethttp "net/http/fcgi"
	"net/textproto"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tandem/internal/gateway"
)

// FuzzEngines takes any bytes for a web server's records, of which askings makes
// requests.
func FuzzEngines(f *testing.F) {
	stdin := appendRecord(nil, typeStdin, 1, []byte("hello"))
	end := appendRecord(nil, typeStdin, 1, nil)
	for _, seed := range [][]byte{
		nil,
		slices.Concat(openRecords(1, flagKeepConn, post...), stdin, end, openRecords(1, 0, post...), stdin, stdin, end),
		slices.Concat(openRecords(1, flagKeepConn, append(post, "CONTENT_LENGTH", "-5")...), end, openRecords(1, 0, append(post, "CONTENT_LENGTH", "12x")...), end),
		slices.Concat(openRecords(1, flagKeepConn, append(post, "SERVER_PROTOCOL", "HTTP/2")...), end, openRecords(1, 0, append(post, "HTTP_A", "b", "HTTP_A", "c", "AUTH_TYPE", "")...), end),
		slices.Concat(openRecords(1, flagKeepConn, append(post, "REQUEST_URI", "http://a/b")...), end, openRecords(1, 0, append(post, "HTTPS", "on", interfaceParam, "http")...), end),
		slices.Concat(beginRecord(1, 2, flagKeepConn), beginRecord(1, roleResponder, 0), appendRecord(nil, typeParams, 1, []byte{4, 1, 'A'}), end),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		all := askings(in)
		own, other := newAsker(t, false), newAsker(t, true)
		for _, a := range all {
			if got, want := other.ask(a), own.ask(a); !alike(a, &got, &want) {
				t.Fatalf("%q\nnet/http: %+v\nown:      %+v", a.records, got, want)
			}
		}
	})
}

// asking is one request, whole.
type asking struct {
	records []byte
	params  []byte
}

// askings are the requests in what may be records. Left out is what the engines
// treat differently by design, since net/http/fcgi does, or because it takes one request at
// a time.
func askings(in []byte) (all []asking) {
	var a asking
	id, inBody, keep := uint16(0), false, true
	end := func() {
		all = append(all, a)
		a, id, inBody = asking{}, 0, false
	}
	for len(in) >= headerLen && len(all) < 8 {
		h := parseHeader(in)
		if h.check() != nil || len(in) < headerLen+h.length+h.padding {
			break // both close the connection
		}
		record, content := in[:headerLen+h.length+h.padding], in[headerLen:headerLen+h.length]
		in = in[len(record):]
		ours := id != 0 && h.id == id
		switch {
		case h.typ == typeBeginRequest && ours:
			in = nil // both close the connection
			continue
		case h.typ == typeBeginRequest && id != 0:
			continue // a second request: waits or is refused there
		case h.typ == typeBeginRequest:
			keep = content[2]&flagKeepConn != 0
			a.records = append(a.records, record...)
			if content[0] != 0 || content[1] != roleResponder {
				end()
			} else {
				id = h.id
			}
			if !keep && id == 0 {
				return all
			}
			continue
		case h.typ == typeAbortRequest && ours:
			continue // what of the request the handler has seen by then is chance
		case h.typ == typeParams && ours && inBody:
			continue // ends the connection here, is ignored there
		case h.typ == typeStdin && ours && !inBody:
			continue // 400 here, 500 there
		}
		if _, err := parsePairs(content); h.typ == typeGetValues && err != nil {
			continue // ends the connection here, is ignored there
		}
		a.records = append(a.records, record...)
		switch {
		case h.typ == typeParams && ours:
			a.params = append(a.params, content...)
			inBody = h.length == 0
		case h.typ == typeStdin && ours && h.length == 0:
			end()
			if !keep {
				return all
			}
		}
	}
	if id == 0 {
		return all
	}
	if !inBody {
		a.records = appendRecord(a.records, typeParams, id, nil)
	}
	a.records = appendRecord(a.records, typeStdin, id, nil)
	end()
	return all
}

// outcome is what became of a request.
type outcome struct {
	Request *received // nil: no handler got it
	Status  string    // of the response; empty: none
	Header  http.Header
	Body    string
	End     string
}

type received struct {
	Method, URL, Host, Proto, RemoteAddr string
	ContentLength                        int64
	TLS                                  bool
	Header                               http.Header
	Info                                 gateway.Info
	Body                                 string
	BodyErr                              error
}

// alike compares what differs by design first.
func alike(a asking, other, own *outcome) bool {
	vars, err := parsePairs(a.params)
	length, lengthErr := strconv.ParseInt(vars["CONTENT_LENGTH"], 10, 64)
	_, refused := stdcgi.RequestFromMap(vars)
	switch {
	case err != nil && own.Request == nil:
		// There what could be read of the params is a request, or refused with 500 at once.
		return other.Request == nil && own.Status[:3] == "400" && (other.Status[:3] == "400" || other.Status[:3] == "500")
	case own.Status != "" && refused != nil:
		// HTTP/2 without a minor number, a target in absolute form, are requests here.
		return other.Request == nil && other.Status[:3] == "500" && (own.Request != nil || own.Status[:3] == "400")
	case own.Request == nil && lengthErr == nil && length < -1:
		return own.Status[:3] == "400" && other.Request != nil && other.Request.ContentLength == -1
	}
	other.Header.Del("Date") // the web server's to add, here
	return reflect.DeepEqual(other, own)
}

// asker is a web server in front of an engine.
type asker struct {
	t    *testing.T
	nc   net.Conn
	br   *bufio.Reader
	seen chan *received
}

func newAsker(t *testing.T, netHTTP bool) *asker {
	ours, theirs := net.Pipe()
	a := &asker{t: t, nc: ours, br: bufio.NewReader(ours), seen: make(chan *received, 1)}
	s := &Server{NetHTTP: netHTTP, Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(a.handle)}
	s.accepted(theirs)
	t.Cleanup(func() {
		ours.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return a
}

// handle echoes the body, flushed here and there.
func (a *asker) handle(w http.ResponseWriter, r *http.Request) {
	q := &received{
		Method: r.Method, URL: r.URL.String(), Host: r.Host, Proto: r.Proto, RemoteAddr: r.RemoteAddr,
		ContentLength: r.ContentLength, TLS: r.TLS != nil, Header: r.Header, Info: *gateway.Of(r),
	}
	for _, values := range q.Header {
		slices.Sort(values) // the order of a map: HTTP_A_B and HTTP_A-B are one field
	}
	for name, value := range nethttp.ProcessEnv(r) { // what net/http/fcgi itself has read
		if v, ok := q.Info.Vars[name]; v != value && (ok || name != "REMOTE_USER" && name != interfaceParam) {
			a.t.Errorf("%q is %q, net/http/fcgi read %q", name, v, value)
		}
	}
	b, err := io.ReadAll(r.Body)
	q.Body, q.BodyErr = string(b), err
	a.seen <- q
	w.Header().Set("Content-Type", "x/y")
	w.Header().Set("X-Target", q.URL)
	w.Header().Set("Status", "999")
	w.WriteHeader(200 + len(b)%5)
	for i := range len(b) % 3 {
		if i == 1 {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write(b)
	}
}

// ask sends a request and waits for its END_REQUEST, or the connection's end.
func (a *asker) ask(q asking) (o outcome) {
	a.t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = a.nc.SetWriteDeadline(time.Now().Add(patience))
		_, _ = a.nc.Write(q.records)
	}()
	s := &speaker{t: a.t, nc: a.nc, br: a.br}
	var stdout strings.Builder
	for o.End == "" {
		r, err := s.next()
		if err != nil {
			a.t.Fatalf("no end of the answer to %q: %v", q.records, err)
		}
		switch r.typ {
		case typeStdout:
			stdout.WriteString(r.content)
		case typeEndRequest:
			o.End = fmt.Sprintf("%d %q", r.id, r.content)
		case typeStderr, typeUnknownType, typeGetValuesResult: // say more here, or there
		default:
			a.t.Fatalf("got %+v", r)
		}
	}
	<-sent
	select {
	case o.Request = <-a.seen:
	default:
	}
	if stdout.Len() == 0 {
		return o
	}
	head, body, _ := strings.Cut(stdout.String(), "\r\n\r\n")
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(head + "\r\n\r\n"))).ReadMIMEHeader()
	if err != nil {
		a.t.Fatalf("header %q: %v", head, err)
	}
	o.Status, o.Header, o.Body = fields.Get("Status"), http.Header(maps.Clone(fields)), body
	return o
}
