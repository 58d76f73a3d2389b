// Package web is the browser's end of Tandem: the client, tandem.js, what hubs have beside it,
// hub.js, and a demo page with a view for each of the two, embedded in the program.
//
// [Handler] puts them in front of an endpoint. They have URLs that differ from the
// endpoint's in the query alone, since behind a web server often nothing but that one
// path leads here:
//
//	GET E             with an Accept that names text/html: the demo page, where it is enabled
//	GET E?tandem.js   the client, always, and E?hub.js; likewise the page's own files, where it is
//
// Everything else is the endpoint's business. The same files, without the page, make
// the npm package.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed tandem.js hub.js demo.html demo.css demo.js panel.js hubdemo.html hubdemo.css hubdemo.js mercure.js icon.svg
var files embed.FS

// A Page is a view of the demo page. Which one an endpoint has, its app says: who serves it knows, so
// the browser doesn't have to ask.
type Page string

// The views.
const (
	NoPage   Page = ""
	Terminal Page = "demo.html"    // a session, line by line
	HubPage  Page = "hubdemo.html" // a hub's topics, events and subscribers
)

// always are the files that are there without a page, too.
var always = map[string]bool{"tandem.js": true, "hub.js": true}

var types = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// policy has the page run its own files and talk to its own host, nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the client and the page, if there is one, and passes all other requests on to next.
// What it serves is the same for everybody and does nothing, so it is not protected from
// other sites as the endpoint is: a link from anywhere may lead to the page.
func Handler(next http.Handler, page Page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Tandem-Session") != "" {
			next.ServeHTTP(w, r)
			return
		}
		name := r.URL.RawQuery
		if data, err := files.ReadFile(name); err == nil && (page != NoPage || always[name]) {
			serve(w, r, name, data)
			return
		}
		if page == NoPage {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Add("Vary", "Accept")
		if !wantsPage(r) {
			next.ServeHTTP(w, r)
			return
		}
		data, err := files.ReadFile(string(page))
		if err != nil {
			panic(err) // embedded
		}
		serve(w, r, string(page), data)
	})
}

func serve(w http.ResponseWriter, r *http.Request, name string, data []byte) {
	sum := sha256.Sum256(data)
	h := w.Header()
	h.Set("Content-Type", types[path.Ext(name)])
	h.Set("Cache-Control", "no-cache") // may be kept, and is asked for again: the tag tells
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// wantsPage tells a browser that goes to a page: curl and fetch take anything, and name
// nothing.
func wantsPage(r *http.Request) bool {
	for _, item := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, err := mime.ParseMediaType(item)
		if err == nil && media == "text/html" && (params["q"] == "" || strings.Trim(params["q"], "0.") != "") {
			return true
		}
	}
	return false
}
