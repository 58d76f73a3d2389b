package browsertest

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A page that is opened runs, can be asked, and has what it throws told.
func TestBrowsers(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<title>here</title>"))
	}))
	t.Cleanup(srv.Close)
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := Start(t, kind)
			p := b.Open(t, srv.URL)
			var title string
			p.Eval(t, `Promise.resolve(document.title)`, &title)
			if title != "here" {
				t.Errorf("expected the title here, got %q", title)
			}
			if err := p.TryEval(`Promise.reject(new Error("why"))`, nil); err == nil {
				t.Error("expected an error from a promise that was rejected")
			}
			if png := p.Screenshot(t, 300, 200, true); len(png) < 100 {
				t.Errorf("a screenshot of %d bytes", len(png))
			}
			behind := b.Open(t, srv.URL)
			p.Front(t)
			var hidden bool
			if p.Eval(t, `document.hidden`, &hidden); hidden {
				t.Error("the page in front is hidden")
			}
			behind.Close(t)
			p.Close(t)
		})
	}
}
