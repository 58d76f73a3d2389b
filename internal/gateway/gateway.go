// Package gateway carries what a web server interface knows about a request
// and http.Handler has no word for.
//
// The packages cgi and fcgi put an [Info] into the request's context with
// [NewContext]; session reads it with [Of]. A request that came over plain
// HTTP has none, and Of derives one, so that an app sees the same variables
// whichever way its session came in.
package gateway

import (
	"context"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Names of the interfaces, as [Info].Interface gives them.
const (
	CGI     = "cgi"
	FastCGI = "fastcgi"
	HTTP    = "http"
)

// Info is what the interface said of a request. It is read-only once it is in
// a context.
type Info struct {
	// Interface is CGI, FastCGI or HTTP.
	Interface string
	// Software is SERVER_SOFTWARE, such as "nginx/1.22.1"; empty over HTTP.
	Software string
	// User is REMOTE_USER: whom the web server has authenticated, or empty.
	User string
	// Vars are the request's meta-variables (RFC 3875 section 4.1) and what else the
	// web server sent, without HTTP_*: those are the request's header.
	Vars map[string]string
}

type contextKey struct{}

// NewContext returns ctx carrying info.
func NewContext(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, contextKey{}, info)
}

// FromVars makes an Info of all variables that a CGI process or a FastCGI
// request got, and makes them its own.
func FromVars(iface string, vars map[string]string) *Info {
	info := &Info{
		Interface: iface,
		Software:  vars["SERVER_SOFTWARE"],
		User:      vars["REMOTE_USER"],
		Vars:      vars,
	}
	maps.DeleteFunc(vars, func(name, _ string) bool { return strings.HasPrefix(name, "HTTP_") })
	if strings.HasPrefix(info.Software, "nginx") && vars["AUTH_TYPE"] == "" {
		// nginx's $remote_user, which distributions' fastcgi_params pass on, is the name
		// that the request brought, checked or not. AUTH_TYPE says that it was.
		info.User = ""
		delete(info.Vars, "REMOTE_USER")
	}
	return info
}

// Of returns the Info of r: the one in its context or, for a request that came
// over plain HTTP, one with the meta-variables of RFC 3875 section 4.1 that r itself
// determines. The result is never nil.
func Of(r *http.Request) *Info {
	if info, ok := r.Context().Value(contextKey{}).(*Info); ok {
		return info
	}
	vars := map[string]string{
		"GATEWAY_INTERFACE": "CGI/1.1",
		"SERVER_PROTOCOL":   r.Proto,
		"REQUEST_METHOD":    r.Method,
		"REQUEST_URI":       r.URL.RequestURI(),
		"SCRIPT_NAME":       r.URL.Path,
		"QUERY_STRING":      r.URL.RawQuery,
		"CONTENT_TYPE":      r.Header.Get("Content-Type"),
	}
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		vars["REMOTE_ADDR"] = host
		vars["REMOTE_PORT"] = port
	}
	if r.ContentLength > 0 {
		vars["CONTENT_LENGTH"] = strconv.FormatInt(r.ContentLength, 10)
	}
	vars["SERVER_NAME"] = r.Host
	if host, port, err := net.SplitHostPort(r.Host); err == nil {
		vars["SERVER_NAME"] = host
		vars["SERVER_PORT"] = port
	}
	if r.TLS != nil {
		vars["HTTPS"] = "on"
	}
	return &Info{Interface: HTTP, Vars: vars}
}

// A Detacher is a http.ResponseWriter whose request can go on without a goroutine that
// waits for its body.
type Detacher interface {
	// Detach has s get the body, beginning with what has come already. The handler
	// returns after it, and the response stays open until finish is called, once.
	// Before that no Write may be running. False: the handler has to stay.
	Detach(s Sink) (finish func(), ok bool)
}

// A Sink gets the body of a detached request. Its methods are called by one goroutine
// at a time, which reads for others too: they must not block.
type Sink interface {
	// Input is the next piece, valid during the call.
	Input(p []byte)
	// Turn comes after Input and End, when nothing more waits to be read: what they ask for
	// is done now. It may be called by several goroutines. With yield it may be done on
	// the caller's, and yield must be called before anything that blocks; nil: it must
	// not block.
	Turn(yield func())
	// End is the body's end.
	End()
	// Lost is the end of the request by the web server, or by a failed write. It may come
	// at any time, and more than once.
	Lost(cause error)
}
