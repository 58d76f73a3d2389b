package servertest

import (
	"strings"
	"testing"
)

// The shipped configuration hands on what a program needs to know, and nothing that
// a request could make of it.
func TestVariables(t *testing.T) {
	t.Parallel()
	t.Run("FastCGI", func(t *testing.T) {
		for _, kind := range []Kind{Nginx, Apache, Lighttpd, HAProxy, Caddy, H2O} {
			t.Run(string(kind), func(t *testing.T) {
				r := newResponder(t, kind)
				path, want := "/a/../b%20c", "/tandem/b c"
				switch kind {
				case HAProxy:
					path, want = "/a/../b", "/tandem/a/../b" // it refuses %20: TestHAProxyRefusesEncodedPath
				case Caddy:
					want = "/tandem/a/../b c"
				}
				client := askVariables(t, r.Server, r.FastCGI()+path)
				app := r.next(t)
				checkVariables(t, kind, want, func(name string) string { return app.params[name] })
				app.answer()
				client.receive("hello")
				client.finished()
			})
		}
	})
	t.Run("CGI", func(t *testing.T) {
		for _, kind := range []Kind{Apache, Lighttpd} {
			t.Run(string(kind), func(t *testing.T) {
				s := newStage(t, kind, Config{TandemConfig: "/some/where.toml"})
				client := askVariables(t, s.Server, s.CGI()+"/a/../b%20c")
				app := s.next(t)
				checkVariables(t, kind, "/cgi-bin/tandem/b c", app.env)
				if got := app.env("TANDEM_CONFIG"); got != "/some/where.toml" {
					t.Errorf("TANDEM_CONFIG is %q", got)
				}
				app.write("hello")
				app.end()
				client.receive("hello")
				client.finished()
			})
		}
	})
}

// HAProxy would decode the path for the program, after its own rules have seen it as
// it was written: the shipped file refuses such paths.
func TestHAProxyRefusesEncodedPath(t *testing.T) {
	t.Parallel()
	r := newResponder(t, HAProxy)
	client := (&stage{Server: r.Server}).open(t, r.FastCGI()+"/%70rivate", exchange{method: "GET"})
	client.expectStatus(400)
}

// Decides that "HTTP/2" is taken for HTTP/2.0: h2o writes it so.
func TestShortProtocol(t *testing.T) {
	t.Parallel()
	r := newResponder(t, H2O)
	client := (&stage{Server: r.Server}).open(t, r.FastCGI(), exchange{method: "GET", http2: true})
	app := r.next(t)
	if got := app.params["SERVER_PROTOCOL"]; got != "HTTP/2" {
		t.Errorf("SERVER_PROTOCOL is %q, expected HTTP/2", got)
	}
	app.answer()
	client.receive("hello")
	client.finished()
}

func askVariables(t *testing.T, server *Server, url string) *client {
	return (&stage{Server: server}).open(t, url+"?q=1&r", exchange{method: "GET", header: map[string]string{
		"Authorization": "Bearer x",
		"Proxy":         "http://evil.example",
	}})
}

func checkVariables(t *testing.T, kind Kind, path string, get func(string) string) {
	t.Helper()
	for name, want := range map[string]string{
		"GATEWAY_INTERFACE":  "CGI/1.1",
		"HTTP_AUTHORIZATION": "Bearer x",
		"HTTP_PROXY":         "", // httpoxy
		"QUERY_STRING":       "q=1&r",
		"REMOTE_ADDR":        "127.0.0.1",
		"REQUEST_METHOD":     "GET",
		"SERVER_PROTOCOL":    "HTTP/1.1",
	} {
		if got := get(name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
	// The server's own view of the path, which its access rules went by.
	if got := get("SCRIPT_NAME") + get("PATH_INFO"); got != path {
		t.Errorf("SCRIPT_NAME + PATH_INFO is %q, expected %q", got, path)
	}
	if got := get("SERVER_SOFTWARE"); !strings.HasPrefix(strings.ToLower(got), string(kind)) {
		t.Errorf("SERVER_SOFTWARE is %q, expected that it starts with %s", got, kind)
	}
}
