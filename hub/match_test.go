package hub

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

const testBase = "https://hub.example/.well-known/mercure"

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		typ, pattern, topic string
		want                bool
	}{
		{Exact, "https://example.com/foo", "https://example.com/foo", true},
		{Exact, "https://example.com/foo", "https://example.com/Foo", false},
		{Exact, "https://example.com/foo", "https://EXAMPLE.com/foo", false},
		{Exact, "/foo", "https://hub.example/foo", false}, // not resolved
		{Exact, "caf\u00e9", "cafe\u0301", false},         // nor normalized
		{Exact, "https://example.com/:id", "https://example.com/1", false},
		{Exact, "https://example.com/{id}", "https://example.com/1", false},
		{Exact, "*", "anything at all", true},
		{URLPattern, "*", "anything at all", true},
		{URITemplate, "*", "anything at all", true},

		{URLPattern, "https://example.com/books/:id", "https://example.com/books/1", true},
		{URLPattern, "https://example.com/books/:id", "https://example.com/books/1/2", false},
		{URLPattern, "https://example.com/books/:id", "https://EXAMPLE.com/books/1", true},
		{URLPattern, "https://example.com/books/:id", "https://example.com/Books/1", false},
		{URLPattern, "https://example.com/books/:id", "http://example.com/books/1", false},
		{URLPattern, "https://example.com/books/:id(\\d{4})", "https://example.com/books/2026", true},
		{URLPattern, "https://example.com/books/:id(\\d{4})", "https://example.com/books/20", false},
		{URLPattern, "https://*.example.com/*", "https://a.example.com/x/y?z", true},
		{URLPattern, "/books/:id", "/books/1", true},
		{URLPattern, "/books/:id", "https://hub.example/books/1", true},
		{URLPattern, "/books/:id", "https://example.com/books/1", false},
		{URLPattern, "https://hub.example/books/:id", "/books/1", true},
		{URLPattern, "https://example.com/books/:id", "/books/1", false},
		{URLPattern, "/books/:id", "bar", false},
		{URLPattern, "/books/:id", "https://[", false}, // no URL
		{URLPattern, "/.well-known/mercure/subscriptions/:type/:match/:subscriber", "/.well-known/mercure/subscriptions/Exact/https%3A%2F%2Fexample.com%2Ffoo/urn%3Auuid%3A1", true},

		{URITemplate, "https://example.com/books/{id}", "https://example.com/books/1", true},
		{URITemplate, "https://example.com/books/{id}", "https://example.com/books/{id}", true},
		{URITemplate, "https://example.com/books/{id}", "https://example.com/books/1/2", false},
		{URITemplate, "https://example.com/books/{id}", "xhttps://example.com/books/1", false},
		{URITemplate, "/a{?q,p}", "/a?q=1&p=2", true},
		{URITemplate, "{", "{", true},
		{URITemplate, "{", "x", false},
		{URITemplate, "plain", "plain", true},
	} {
		m, err := ParseMatcher(tt.typ, tt.pattern, testBase)
		if err != nil {
			t.Errorf("%s %q: %v", tt.typ, tt.pattern, err)
			continue
		}
		if got := m.Match(tt.topic); got != tt.want {
			t.Errorf("%s %q of %q: %v", tt.typ, tt.pattern, tt.topic, got)
		}
	}
}

// TestNoBase: without the hub's URL a relative topic is of no host that a pattern could name.
func TestNoBase(t *testing.T) {
	relative, err := ParseMatcher(URLPattern, "/books/:id", "")
	if err != nil {
		t.Fatal(err)
	}
	absolute, err := ParseMatcher(URLPattern, "https://example.com/books/:id", "")
	if err != nil {
		t.Fatal(err)
	}
	if !relative.Match("/books/1") || relative.Match("https://example.com/books/1") || absolute.Match("/books/1") || !absolute.Match("https://example.com/books/1") {
		t.Error("relative and absolute ones are mixed up")
	}
}

func TestParseMatcherErrors(t *testing.T) {
	for _, tt := range []struct{ typ, pattern, want string }{
		{"exact", "a", "expected Exact or URLPattern"},
		{"", "a", "expected Exact or URLPattern"},
		{Exact, "", "empty"},
		{Exact, strings.Repeat("a", MaxPattern+1), "2049 bytes: expected 2048 at most"},
		{Exact, "a\x00", "U+0000"},
		{Exact, "a\n", "U+000A"},
		{Exact, "a\u0085", "U+0085"},
		{Exact, "a\x7f", "U+007F"},
		{Exact, "a\xff", "UTF-8"},
		{URLPattern, "https://example.com/(", "URL pattern"},
		{URLPattern, "https://example.com/:a/:a", "URL pattern"},
		{URLPattern, "https://example.com/((?=a))", "RE2"},
		{URLPattern, "https://example.com/(a{1000})", "too large"},
		{URLPattern, "https://example.com/" + strings.Repeat("(a{50}){b}", 10), "too large"},
		{URITemplate, "{" + strings.Repeat("a,", 1020) + "a}", "too many variables"},
		{URITemplate, strings.Repeat("{"+strings.Repeat("a,", 300)+"a}", 3), "too many variables"},
	} {
		_, err := ParseMatcher(tt.typ, tt.pattern, testBase)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.60q: error %v, want %q", tt.typ, tt.pattern, err, tt.want)
		}
	}
}

func TestMatchersCompare(t *testing.T) {
	parse := func(typ, pattern, base string) Matcher {
		m, err := ParseMatcher(typ, pattern, base)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	same := [][2]Matcher{
		{parse(Exact, "a", ""), parse(URITemplate, "a", testBase)},
		{parse(Exact, "*", ""), parse(URLPattern, "*", testBase)},
		{parse(URLPattern, "/:a", testBase), parse(URLPattern, "/:a", testBase)},
		{parse(URITemplate, "/{a}", testBase), parse(URITemplate, "/{a}", testBase)},
		{parse(URLPattern, "/:a", ""), parse(URLPattern, "/:a", NoBase)},
	}
	for _, p := range same {
		if p[0] != p[1] {
			t.Errorf("%v and %v differ", p[0], p[1])
		}
	}
	if parse(URLPattern, "/:a", "") == parse(URLPattern, "/:a", testBase) {
		t.Error("matchers of two bases are the same")
	}
	if topic, ok := parse(Exact, "a", "").Exact(); topic != "a" || !ok {
		t.Errorf("Exact: %q %v", topic, ok)
	}
	for _, m := range []Matcher{{}, parse(Exact, "*", ""), parse(URLPattern, "/a", ""), parse(URITemplate, "/{a}", "")} {
		if _, ok := m.Exact(); ok || m.All() != (m.Pattern() == "*") {
			t.Errorf("%v: Exact %v, All %v", m, ok, m.All())
		}
	}
}

// TestCompilationsGo: a pattern that nobody uses any more takes no memory.
func TestCompilationsGo(t *testing.T) {
	const pattern = "/forgotten/:id"
	if _, err := ParseMatcher(URLPattern, pattern, testBase); err != nil {
		t.Fatal(err)
	}
	in := func() bool {
		compilations.Lock()
		defer compilations.Unlock()
		_, ok := compilations.m[source{URLPattern, pattern, testBase}]
		return ok
	}
	for deadline := time.Now().Add(10 * time.Second); in(); runtime.Gosched() {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
	}
}

func FuzzMatcher(f *testing.F) {
	f.Add(URLPattern, "https://example.com/books/:id", "https://example.com/books/1")
	f.Add(URLPattern, "/:a(\\d{4})/*?{q}#\\(", "/2026/x")
	f.Add(URLPattern, "{a}?(b)*:c+", "a")
	f.Add(URITemplate, "/a{?q,p*:3}{+x}", "/a?q=1")
	f.Add(Exact, "*", "x")
	f.Fuzz(func(t *testing.T, typ, pattern, topic string) {
		m, err := ParseMatcher(typ, pattern, testBase)
		if err != nil {
			return
		}
		start := time.Now()
		got := m.Match(topic)
		if took := time.Since(start); took > 2*time.Second && len(topic) <= MaxPattern {
			t.Errorf("matching took %v", took)
		}
		again, err := ParseMatcher(typ, pattern, testBase)
		if err != nil || again != m || got != again.Match(topic) {
			t.Errorf("made twice: %v, %v", m, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, typ := range []struct{ typ, pattern string }{{Exact, "https://example.com/books/1"}, {URLPattern, "https://example.com/books/:id"}, {URITemplate, "https://example.com/books/{id}"}} {
		b.Run(typ.typ, func(b *testing.B) {
			m, err := ParseMatcher(typ.typ, typ.pattern, testBase)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !m.Match("https://example.com/books/1") {
					b.Fatal("no match")
				}
			}
		})
	}
}
