package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tandem/web"
)

// What is the page's and what the endpoint's.
func TestHandler(t *testing.T) {
	const navigation = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "endpoint") })
	for _, c := range []struct {
		method, url, accept, session string
		page                         web.Page
		want                         string // in the answer
	}{
		{"GET", "/e", navigation, "", web.Terminal, "<!doctype html>"},
		{"GET", "/e?room=1", navigation, "", web.Terminal, "<!doctype html>"},
		{"GET", "/e", navigation, "", web.NoPage, "endpoint"},
		{"GET", "/e", "*/*", "", web.Terminal, "endpoint"},
		{"GET", "/e", "", "", web.Terminal, "endpoint"},
		{"GET", "/e", "application/json, text/html;q=0", "", web.Terminal, "endpoint"},
		{"GET", "/e", navigation, "a.b", web.Terminal, "endpoint"},
		{"POST", "/e", navigation, "", web.Terminal, "endpoint"},
		{"GET", "/e?tandem.js", "*/*", "", web.Terminal, "export class Tandem"},
		{"GET", "/e?tandem.js", "*/*", "", web.NoPage, "export class Tandem"},
		{"GET", "/e", navigation, "", web.HubPage, "Tandem: a hub"},
		{"GET", "/e?hubdemo.js", "*/*", "", web.HubPage, "import.meta.url"},
		{"GET", "/e?hub.js", "*/*", "", web.NoPage, "export class Hub"},
		{"GET", "/e?demo.js", "*/*", "", web.Terminal, "import.meta.url"},
		{"GET", "/e?demo.js", "*/*", "", web.NoPage, "endpoint"},
		{"GET", "/e?tandem.js=", "*/*", "", web.Terminal, "endpoint"},
		{"GET", "/e?web.go", "*/*", "", web.Terminal, "endpoint"},
		{"GET", "/e?../web/tandem.js", "*/*", "", web.Terminal, "endpoint"},
		{"POST", "/e?tandem.js", "*/*", "", web.Terminal, "endpoint"},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		if c.session != "" {
			r.Header.Set("Tandem-Session", c.session)
		}
		w := httptest.NewRecorder()
		web.Handler(next, c.page).ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s with Accept %q, page %q: got %.40q, expected %q", c.method, c.url, c.accept, c.page, w.Body, c.want)
		}
		if c.want != "endpoint" && !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no strict Content-Security-Policy", c.url)
		}
		if c.page != web.NoPage && c.want == "endpoint" && c.method == "GET" && c.session == "" && w.Header().Get("Vary") != "Accept" {
			t.Errorf("%s: Vary is %q, expected Accept", c.url, w.Header().Get("Vary"))
		}
	}
}

// A browser asks again each time, and is told that nothing has changed.
func TestNotModified(t *testing.T) {
	h := web.Handler(http.NotFoundHandler(), web.NoPage)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/e?tandem.js", nil))
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/javascript") {
		t.Errorf("Content-Type is %q", got)
	}
	r := httptest.NewRequest("GET", "/e?tandem.js", nil)
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusNotModified {
		t.Errorf("status %d, expected 304", w.Code)
	}
}
