// Package endpoint chooses the endpoint that a request is for.
//
// [New] makes an http.Handler of the configured endpoints. For each request it
// asks, in this order:
//
//  1. TANDEM_ENDPOINT, a FastCGI param or CGI variable that the web server's
//     configuration sets: the endpoint of that name, or 500 if there is none. A
//     request can't set it: its headers arrive as HTTP_*.
//  2. The path as the web server saw it (SCRIPT_NAME and PATH_INFO): the longest
//     configured path that it begins with, on segment boundaries.
//  3. PATH_INFO alone, likewise: /cgi-bin/tandem/chat is for the path /chat.
//  4. The only endpoint, if it has no path, or if a web server has already
//     chosen by passing the request on through CGI or FastCGI.
//
// Otherwise the answer is 404.
package endpoint

import (
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"tandem/internal/gateway"
	"tandem/internal/problem"
)

// Endpoint is one handler and how it is reached.
type Endpoint struct {
	Name    string   // what TANDEM_ENDPOINT calls it; may be empty
	Path    string   // clean, begins with "/"; empty: none
	Also    []string // more paths
	Handler http.Handler
}

// Router chooses among endpoints. It is safe for concurrent use.
type Router struct {
	endpoints []Endpoint
	routes    []route // longest path first
	log       *slog.Logger
}

type route struct {
	path    string
	handler http.Handler
}

// New makes a Router. Log gets a line for each request that finds no endpoint.
func New(endpoints []Endpoint, log *slog.Logger) *Router {
	r := &Router{endpoints: slices.Clone(endpoints), log: log}
	for _, e := range endpoints {
		if e.Path != "" {
			r.routes = append(r.routes, route{e.Path, e.Handler})
		}
	}
	for _, e := range endpoints {
		for _, p := range e.Also {
			r.routes = append(r.routes, route{p, e.Handler})
		}
	}
	slices.SortStableFunc(r.routes, func(a, b route) int { return len(b.path) - len(a.path) })
	return r
}

func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := gateway.Of(r)
	if name := info.Vars["TANDEM_ENDPOINT"]; name != "" {
		for _, e := range rt.endpoints {
			if e.Name == name {
				e.Handler.ServeHTTP(w, r)
				return
			}
		}
		rt.log.Error("the web server's configuration names an endpoint that is not configured here",
			"TANDEM_ENDPOINT", name, "configured", rt.names())
		problem.Write(w, http.StatusInternalServerError, "The web server names an endpoint (TANDEM_ENDPOINT) that is not configured. The log says which there are.")
		return
	}
	if h := rt.byPath(info, r); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	rt.log.Info("no endpoint for this path", "path", requestPath(info, r), "configured", rt.paths())
	problem.Write(w, http.StatusNotFound, "No endpoint is configured for this path.")
}

func (rt *Router) byPath(info *gateway.Info, r *http.Request) http.Handler {
	for _, p := range []string{requestPath(info, r), info.Vars["PATH_INFO"]} {
		if p == "" {
			continue
		}
		if info.Interface == gateway.HTTP && !plain(r.URL) {
			// A proxy in front went by the path as it was written: /public/../admin
			// must not pass its rules for /public and be the endpoint /admin here.
			return nil
		}
		p = path.Clean(p)
		for _, to := range rt.routes {
			if under(p, to.path) {
				return to.handler
			}
		}
	}
	if len(rt.endpoints) == 1 {
		if e := rt.endpoints[0]; e.Path == "" || info.Interface != gateway.HTTP {
			return e.Handler
		}
	}
	return nil
}

// requestPath is the path that the web server matched its own rules against.
// SCRIPT_NAME and PATH_INFO come before the URL: they are decoded, normalised and
// rewritten, where REQUEST_URI, which the URL was made of, is what the client
// wrote. With REQUEST_URI, /admin/../public would pass nginx's rules for /public
// and be the endpoint /admin here.
func requestPath(info *gateway.Info, r *http.Request) string {
	if p := info.Vars["SCRIPT_NAME"] + info.Vars["PATH_INFO"]; p != "" && info.Interface != gateway.HTTP {
		return p
	}
	return r.URL.Path
}

// plain tells whether a path has no dots and no empty segments that Clean takes away, but for an empty one at its end
// and those that coded slashes make: names that are coded as a whole, such as https%3A%2F%2Fexample.org.
func plain(u *url.URL) bool {
	for p := range strings.SplitSeq(u.Path, "/") {
		if p == "." || p == ".." {
			return false
		}
	}
	return !strings.Contains(u.EscapedPath(), "//")
}

// under tells whether p is the path at or one below it.
func under(p, at string) bool {
	rest, ok := strings.CutPrefix(p, strings.TrimSuffix(at, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

func (rt *Router) names() []string {
	var l []string
	for _, e := range rt.endpoints {
		if e.Name != "" {
			l = append(l, e.Name)
		}
	}
	slices.Sort(l)
	return l
}

func (rt *Router) paths() []string {
	var l []string
	for _, to := range rt.routes {
		l = append(l, to.path)
	}
	slices.Sort(l)
	return l
}
