package fcgi

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Each of these ends its connection with one log line, and no other.
func TestMalformedRecords(t *testing.T) {
	r := serve(t, &Server{Handler: http.HandlerFunc(echoLines)})
	other := r.dial(t)
	other.open(1, 0, post...)
	other.stdout(1, "\r\n\r\n")
	opened := openRecords(1, flagKeepConn, post...)
	for i, tt := range []struct {
		name string
		in   []byte
		log  string
	}{
		{"version", []byte{2, 1, 0, 1, 0, 8, 0, 0}, "version 2"},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), "version 71"},
		{"id 0", beginRecord(0, roleResponder, 0), "request id 0"},
		{"short BEGIN_REQUEST", appendRecord(nil, typeBeginRequest, 1, []byte{0, 1}), "BEGIN_REQUEST of 2 bytes"},
		{"our own type", appendRecord(nil, typeStdout, 1, nil), "which only the application sends"},
		{"id in use", slices.Concat(opened, beginRecord(1, roleResponder, 0)), "which is open"},
		{"params after their end", slices.Concat(opened, appendRecord(nil, typeParams, 1, pairs("A", "b"))), "after their end"},
		{"GET_VALUES cut off", appendRecord(nil, typeGetValues, 0, []byte{9}), "GET_VALUES"},
	} {
		s := r.dial(t)
		s.send(tt.in)
		for _, rec := range s.closed() {
			if rec.typ == typeEndRequest {
				t.Errorf("%s: END_REQUEST", tt.name)
			}
		}
		r.log.waitFor(t, tt.log)
		if n := len(r.log.lines("connection closed")); n != i+1 {
			t.Errorf("%s: %d log lines by now, want %d:\n%s", tt.name, n, i+1, r.log)
		}
	}
	other.stdin(1, "unharmed")
	other.stdout(1, "echo:unharmed")
}

func TestRecordCutOff(t *testing.T) {
	for name, in := range map[string][]byte{
		"header":  {1, 1, 0},
		"content": beginRecord(1, roleResponder, 0)[:12],
		"stdin":   slices.Concat(openRecords(1, 0, post...), appendRecord(nil, typeStdin, 1, make([]byte, 100))[:50]),
		"padding": append(openRecords(1, 0, post...), 1, typeStdin, 0, 1, 0, 0, 255, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			// A handler that writes could find the connection closed before the reader does.
			r := serve(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
			s := r.dial(t)
			s.send(in)
			s.nc.Close()
			r.log.waitFor(t, "within a record")
		})
	}
}

func TestBadRequests(t *testing.T) {
	without := func(name string) []string {
		kv := append([]string(nil), post...)
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				kv[i] = "X"
			}
		}
		return kv
	}
	with := func(kv ...string) []string { return slices.Concat(post, kv) }
	request := func(params []byte) []byte {
		b := beginRecord(1, roleResponder, flagKeepConn)
		for len(params) > 0 {
			n := min(len(params), 8000)
			b = appendRecord(b, typeParams, 1, params[:n])
			params = params[n:]
		}
		return appendRecord(b, typeParams, 1, nil)
	}
	for _, tt := range []struct {
		name   string
		in     []byte
		status string
		detail string
	}{
		{"no method", request(pairs(without("REQUEST_METHOD")...)), "400", "REQUEST_METHOD is missing"},
		{"no params", request(nil), "400", "REQUEST_METHOD is missing"},
		{"no protocol", request(pairs(without("SERVER_PROTOCOL")...)), "400", "SERVER_PROTOCOL"},
		{"length", request(pairs(with("CONTENT_LENGTH", "1x")...)), "400", "CONTENT_LENGTH"},
		{"negative length", request(pairs(with("CONTENT_LENGTH", "-2")...)), "400", "CONTENT_LENGTH"},
		{"absurd length", request(pairs(with("CONTENT_LENGTH", "99999999999999999999")...)), "400", "CONTENT_LENGTH"},
		{"URI", request(pairs("REQUEST_METHOD", "GET", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/%zz")), "400", "REQUEST_URI"},
		{"truncated params", request(pairs(post...)[:50]), "400", "claims"},
		{"4 GiB", request(append(pairs(post...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), "400", "2147483647"},
		{"stdin within params", slices.Concat(beginRecord(1, roleResponder, flagKeepConn), appendRecord(nil, typeStdin, 1, []byte("x"))), "400", "STDIN"},
		{"params flood", request(pairs("A", strings.Repeat("x", 200_000))), "431", "max_params"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			called := make(chan struct{}, 2)
			r := serve(t, &Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} })})
			s := r.dial(t)
			go s.send(tt.in) // It may be more than a socket takes at once.
			out, end := s.response(1)
			if !strings.HasPrefix(out, "Status: "+tt.status) || !strings.Contains(out, "application/problem+json") || !strings.Contains(out, tt.detail) || end != complete {
				t.Errorf("got %q, %q", out, end)
			}
			if n := len(r.log.lines("request refused")); n != 1 {
				t.Errorf("%d log lines: %s", n, r.log)
			}
			// The connection is as good as before.
			s.open(2, 0, post...)
			s.response(2)
			if len(called) != 1 {
				t.Errorf("the handler ran %d times, want once", len(called))
			}
		})
	}
}

func TestIgnoredAndAnsweredRecords(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(echoLines), MaxConns: 7}).dial(t)
	s.stdin(5, "nobody's")
	s.send(appendRecord(nil, typeAbortRequest, 6, nil))
	s.send(appendRecord(nil, typeData, 6, nil))
	s.send(appendRecord(nil, 77, 0, []byte("abc")))
	if r, err := s.next(); err != nil || r != (rec{typeUnknownType, 0, "\x4d\x00\x00\x00\x00\x00\x00\x00"}) {
		t.Errorf("UNKNOWN_TYPE: %+v, %v", r, err)
	}
	s.send(appendRecord(nil, typeGetValues, 0, pairs("FCGI_MAX_CONNS", "", "FCGI_MPXS_CONNS", "", "OTHER", "")))
	r, err := s.next()
	values, _ := parsePairs([]byte(r.content))
	if err != nil || r.typ != typeGetValuesResult || len(values) != 2 || values["FCGI_MAX_CONNS"] != "7" || values["FCGI_MPXS_CONNS"] != "1" {
		t.Errorf("GET_VALUES_RESULT: %+v, %v", r, err)
	}
	s.send(beginRecord(1, 3, flagKeepConn))
	if _, end := s.response(1); end != "\x00\x00\x00\x00\x03\x00\x00\x00" {
		t.Errorf("the filter's role: %q", end)
	}
	s.open(2, 0, post...)
	s.stdout(2, "\r\n\r\n")
}

func TestTooManyRequestsOnOneConnection(t *testing.T) {
	s := serve(t, &Server{Handler: http.HandlerFunc(echoLines)}).dial(t)
	for id := range uint16(maxRequests) {
		s.send(beginRecord(id+1, roleResponder, flagKeepConn))
	}
	s.send(beginRecord(maxRequests+1, roleResponder, flagKeepConn))
	if _, end := s.response(maxRequests + 1); end != "\x00\x00\x00\x00\x02\x00\x00\x00" {
		t.Errorf("got %q, want OVERLOADED", end)
	}
}
