package fcgi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzServeConn sends arbitrary bytes to a server and closes: it must not panic,
// what it sends back must be records, and all of it must end.
func FuzzServeConn(f *testing.F) {
	open := openRecords(1, flagKeepConn, post...)
	stdin := appendRecord(nil, typeStdin, 1, []byte("hello"))
	end := appendRecord(nil, typeStdin, 1, nil)
	for _, seed := range [][]byte{
		nil,
		slices.Concat(open, stdin, end),
		slices.Concat(open, stdin, appendRecord(nil, typeAbortRequest, 1, nil), open, end),
		slices.Concat(open, openRecords(2, 0, post...), stdin, end),
		slices.Concat(beginRecord(1, roleResponder, 0), appendRecord(nil, typeParams, 1, []byte{0xff, 0xff, 0xff, 0xff}), appendRecord(nil, typeParams, 1, nil)),
		slices.Concat(appendRecord(nil, typeGetValues, 0, pairs("FCGI_MPXS_CONNS", "")), appendRecord(nil, 99, 0, nil)),
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }),
			Log:     slog.New(slog.DiscardHandler),
		}
		ours, theirs := net.Pipe()
		s.accepted(theirs)
		out := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(ours)
			out <- b
		}()
		_ = ours.SetWriteDeadline(time.Now().Add(patience))
		_, _ = ours.Write(in)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ours.Close()
		if err := s.Shutdown(ctx); err != nil {
			t.Fatalf("it doesn't end: %v", err)
		}
		for b := bytes.NewBuffer(<-out); b.Len() > 0; {
			head := b.Next(headerLen)
			if len(head) < headerLen {
				return // cut by the close above
			}
			h := parseHeader(head)
			switch h.typ {
			case typeStdout, typeStderr, typeEndRequest, typeGetValuesResult, typeUnknownType:
			default:
				t.Fatalf("it sent type %d", h.typ)
			}
			b.Next(h.length + h.padding)
		}
	})
}

// FuzzPairs: what parsePairs takes, appendPair writes so that it is taken again.
func FuzzPairs(f *testing.F) {
	f.Add(pairs(post...))
	f.Add([]byte{0x80, 0, 0, 1, 1, 'A', 'b'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		first, err := parsePairs(in)
		if err != nil {
			return
		}
		var b []byte
		for k, v := range first {
			b = appendPair(b, k, v)
		}
		second, err := parsePairs(b)
		if err != nil || len(first) != len(second) {
			t.Fatalf("%v; %d pairs became %d", err, len(first), len(second))
		}
		for k, v := range first {
			if second[k] != v {
				t.Fatalf("%q: %q became %q", k, v, second[k])
			}
		}
	})
}

// FuzzRelayed gives a relay any bytes as the server's side of a connection: it ends
// with one, and only a complete response is one without an error.
func FuzzRelayed(f *testing.F) {
	const head = "Status: 203 Fine\r\nX-B: c\r\n\r\n"
	f.Add(bytes.Join([][]byte{stdoutRecord(head + "body"), stdoutRecord(""), endRecord(0)}, nil))
	f.Add(bytes.Join([][]byte{stdoutRecord(head), appendRecord(nil, typeStderr, 1, []byte("x")), endRecord(statusOverloaded)}, nil))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			go io.Copy(io.Discard, theirs)
			theirs.Write(data)
		}()
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/", strings.NewReader("body"))
		e := &exchange{nc: ours, w: w, rc: http.NewResponseController(w), r: r, uploaded: make(chan struct{})}
		err := e.run()
		<-done
		if err == nil && (!e.begun || !bytes.Contains(data, []byte{version1, typeEndRequest})) {
			t.Errorf("a complete response of %q", data)
		}
	})
}
