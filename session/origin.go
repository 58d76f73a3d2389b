package session

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"tandem/internal/gateway"
)

// crossSite tells what is wrong with a request that a page of another site may
// have made, nil where nothing is (docs/protocol.md, "Cross-site safety"). It
// comes before any work: a browser sends such a request with the user's cookies
// and password, whether or not the page may read the answer.
func crossSite(r *http.Request, info *gateway.Info, allowed []string) *refusal {
	origin := r.Header.Get("Origin")
	if origin != "" {
		if slices.Contains(allowed, "*") || slices.Contains(allowed, origin) {
			return nil
		}
		if ownOrigin(r, origin) {
			if info.Interface == gateway.HTTP && !hostIsOurs(r.Host) {
				return refusalf(http.StatusForbidden,
					"Pages of %.100q may use this endpoint only if its configuration lists that origin (origins): over plain HTTP a name in the Host header proves nothing.", origin)
			}
			return nil
		}
		return refusalf(http.StatusForbidden,
			"Pages of %.100q may not use this endpoint: expected its own origin or one that its configuration lists (origins).", origin)
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "same-origin", "none":
		return nil
	default:
		return refusalf(http.StatusForbidden,
			"A %.20s request without an Origin header came: expected one from the endpoint's own pages, or with an Origin that its configuration lists (origins).", site)
	}
}

// ownOrigin tells whether origin is the endpoint's own. A https page may use an
// endpoint that sees http, because a proxy in front took the TLS off; not the
// other way round.
func ownOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || r.Host == "" {
		return false
	}
	if u.Scheme != "https" && (u.Scheme != "http" || r.TLS != nil) {
		return false
	}
	return strings.EqualFold(trimPort(u.Host, u.Scheme), trimPort(r.Host, u.Scheme))
}

// hostIsOurs tells whether a Host header can't have been chosen by a page that
// had its own name point to this machine (DNS rebinding). Behind CGI and FastCGI
// the web server knows its names.
func hostIsOurs(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(host, "localhost")
}

// trimPort removes the scheme's default port.
func trimPort(host, scheme string) string {
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// allowOrigin lets a page of another origin, which crossSite has let through,
// read the answer, and tells its preflight what it may send.
func allowOrigin(h http.Header, r *http.Request, allowed []string) {
	origin := r.Header.Get("Origin")
	switch {
	case origin == "" || ownOrigin(r, origin):
		return
	case slices.Contains(allowed, origin):
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	default: // by "*": not in a user's name
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("Access-Control-Expose-Headers", "Tandem-Transports, Retry-After")
	h.Add("Vary", "Origin")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, Incremental, Tandem-Session, Tandem-Transport, Tandem-Open, Tandem-Attempt, Tandem-After, Prefer")
		h.Set("Access-Control-Max-Age", "600")
	}
}
