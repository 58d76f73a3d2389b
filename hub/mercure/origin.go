package mercure

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"tandem/internal/gateway"
)

// originOf is a URL's origin, as browsers write it.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
}

// allowOrigin lets pages of the configured origins read the answer. With their cookies, if they are named.
func (h *Handler) allowOrigin(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	hd := w.Header()
	switch {
	case slices.Contains(h.o.Origins, origin):
		hd.Set("Access-Control-Allow-Origin", origin)
		hd.Set("Access-Control-Allow-Credentials", "true")
	case slices.Contains(h.o.Origins, "*"):
		hd.Set("Access-Control-Allow-Origin", "*")
	default:
		return
	}
	hd.Set("Access-Control-Expose-Headers", "Last-Event-ID, Link")
}

// preflight answers what a browser asks before a request of another origin's page.
func (h *Handler) preflight(w http.ResponseWriter) {
	hd := w.Header()
	hd.Set("Allow", "GET, POST, OPTIONS")
	if hd.Get("Access-Control-Allow-Origin") != "" {
		hd.Set("Access-Control-Allow-Methods", "GET, POST")
		hd.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
		hd.Set("Access-Control-Max-Age", "7200")
	}
	w.WriteHeader(http.StatusNoContent)
}

// forged tells whether a page of an origin that may not have sent a request (section 13, CSRF), which a browser sends with its
// cookies and passwords. A request that names no origin counts if must says so.
func (h *Handler) forged(r *http.Request, must bool) *refusal {
	origin := r.Header.Get("Origin")
	if origin == "" {
		if referer := r.Header.Get("Referer"); referer != "" {
			origin = "null"
			if u, err := url.Parse(referer); err == nil {
				origin = originOf(u)
			}
		}
	}
	switch {
	case origin == "":
		site := r.Header.Get("Sec-Fetch-Site")
		if !must && site != "cross-site" && site != "same-site" {
			return nil
		}
		return &refusal{status: http.StatusForbidden, detail: "Expected an Origin or Referer header, which browsers send: without one, publishing takes a token in the Authorization header."}
	case slices.Contains(h.o.Origins, origin), origin == h.origin:
		return nil
	case h.origin == "" && ownHost(r, origin):
		return nil
	}
	return &refusal{status: http.StatusForbidden, detail: "The page that sent this is of another origin, which may not publish here (origins)."}
}

// ownHost tells whether origin is of the host that r is for, which is all there is to compare with where the hub's URL isn't
// configured. Over plain HTTP a name proves nothing: a page may have had its own point to this machine (DNS
// rebinding). A web server knows its names.
func ownHost(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
		return false
	}
	if gateway.Of(r).Interface != gateway.HTTP {
		return true
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || strings.EqualFold(u.Hostname(), "localhost")
}
