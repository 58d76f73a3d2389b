package cgi

import (
	"fmt"
	"maps"
	"net/http"
	stdcgi "net/http/cgi"
	"strconv"
	"strings"
)

// unknownLength is the CONTENT_LENGTH from which on it says nothing: clients that want
// their body passed on while it is being sent declare 1 TiB (docs/protocol.md section 1).
const unknownLength = 1 << 40

// NewRequest makes the request that the meta-variables of RFC 3875 section 4.1
// describe, without its body. It is net/http/cgi.RequestFromMap, and:
// ContentLength is -1 where the body's length isn't known (CONTENT_LENGTH empty, -1, not a
// number, or 1 TiB and more), and 0 for GET and HEAD; a REQUEST_URI in absolute form
// is reduced to its path; Content-Type is CONTENT_TYPE alone. FastCGI requests are
// made by it too. An error says which variable is wrong.
func NewRequest(vars map[string]string) (*http.Request, error) {
	const hint = "; is the program called by a web server?"
	if vars["REQUEST_METHOD"] == "" {
		return nil, fmt.Errorf("REQUEST_METHOD is missing%s", hint)
	}
	proto := vars["SERVER_PROTOCOL"]
	if major, ok := strings.CutPrefix(proto, "HTTP/"); ok && (major == "2" || major == "3") {
		proto += ".0" // h2o writes HTTP/2, RFC 3875 section 4.1.16 wants both numbers
	}
	if _, _, ok := http.ParseHTTPVersion(proto); !ok && proto != "INCLUDED" {
		return nil, fmt.Errorf("bad SERVER_PROTOCOL %q, expected one such as HTTP/1.1%s", proto, hint)
	}
	length, target := vars["CONTENT_LENGTH"], originForm(vars["REQUEST_URI"])
	m := vars
	if _, err := strconv.ParseInt(length, 10, 64); err != nil && length != "" || proto != vars["SERVER_PROTOCOL"] || target != vars["REQUEST_URI"] {
		m = maps.Clone(vars)
		delete(m, "CONTENT_LENGTH")
		m["SERVER_PROTOCOL"] = proto
		m["REQUEST_URI"] = target
	}
	r, err := stdcgi.RequestFromMap(m)
	if err != nil {
		return nil, err
	}
	if ct := vars["CONTENT_TYPE"]; ct != "" {
		r.Header.Set("Content-Type", ct)
	}
	r.ContentLength = contentLength(r.Method, length)
	return r, nil
}

// contentLength is -1 for a length that isn't known.
func contentLength(method, s string) int64 {
	if method == http.MethodGet || method == http.MethodHead {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n >= unknownLength {
		return -1
	}
	return n
}

// originForm takes scheme and host off a request target (RFC 9112 section 3.2):
// RequestFromMap puts HTTP_HOST before it.
func originForm(target string) string {
	if strings.HasPrefix(target, "/") {
		return target
	}
	_, rest, ok := strings.Cut(target, "://")
	if !ok {
		return target
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		if rest[i] == '?' {
			return "/" + rest[i:]
		}
		return rest[i:]
	}
	return "/"
}
