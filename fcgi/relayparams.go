package fcgi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"tandem/internal/gateway"
)

// requestID is the id of a Relay's requests: each has a connection to itself.
const requestID = 1

// appendRequest appends all records of r that come before its body's and, if it has
// none, the one that says so.
func appendRequest(dst []byte, r *http.Request, bodiless bool) []byte {
	dst = appendRecord(dst, typeBeginRequest, requestID, []byte{0, roleResponder, 0, 0, 0, 0, 0, 0})
	params := appendParams(nil, r)
	for len(params) > 0 {
		n := min(len(params), maxContent)
		dst = appendRecord(dst, typeParams, requestID, params[:n])
		params = params[n:]
	}
	dst = appendRecord(dst, typeParams, requestID, nil)
	if bodiless {
		dst = appendRecord(dst, typeStdin, requestID, nil)
	}
	return dst
}

// appendParams appends what the web server said of r, which doesn't depend on the
// interface that it said it through.
func appendParams(dst []byte, r *http.Request) []byte {
	info := gateway.Of(r)
	for name, value := range info.Vars {
		if name != interfaceParam && !strings.HasPrefix(name, "HTTP_") {
			dst = appendPair(dst, name, value)
		}
	}
	dst = appendPair(dst, interfaceParam, info.Interface)
	if _, ok := info.Vars["CONTENT_LENGTH"]; !ok && r.ContentLength >= 0 {
		dst = appendPair(dst, "CONTENT_LENGTH", strconv.FormatInt(r.ContentLength, 10))
	}
	if r.Host != "" {
		dst = appendPair(dst, "HTTP_HOST", r.Host)
	}
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Type", "Content-Length": // they have variables of their own
			continue
		}
		if v, ok := headerVariable(name); ok {
			separator := ", "
			if name == "Cookie" {
				separator = "; "
			}
			dst = appendPair(dst, v, strings.Join(values, separator))
		}
	}
	return dst
}

// headerVariable makes HTTP_X_A of X-A (RFC 3875 section 4.1.18). A name with anything but
// letters, digits and hyphens would arrive as another one: X_A is left out.
func headerVariable(name string) (string, bool) {
	b := append(make([]byte, 0, 64), "HTTP_"...)
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-':
			c = '_'
		default:
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}

// takeInterface takes the word of a Relay about its interface out of vars. Only of one
// that is listed: what a session may do depends on it.
func (c *conn) takeInterface(vars map[string]string) string {
	said, ok := vars[interfaceParam]
	if !ok {
		return gateway.FastCGI
	}
	delete(vars, interfaceParam)
	uid, err := PeerUID(c.nc)
	if err != nil || !slices.Contains(c.srv.Relays, uid) {
		args := []any{"peer", c.peer()}
		if err == nil {
			args = append(args, "uid", uid)
		}
		c.srv.notRelay.warn(c.log(), "fcgi: a relayed request counts as FastCGI: its relay's user isn't listed (relay_users)", args...)
		return gateway.FastCGI
	}
	switch said {
	case gateway.CGI, gateway.HTTP:
		return said
	}
	return gateway.FastCGI
}
