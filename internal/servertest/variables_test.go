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
		for _, kind := range Kinds {
			t.Run(string(kind), func(t *testing.T) {
				r := newResponder(t, kind)
				client := askVariables(t, r.Server, r.FastCGI())
				app := r.next(t)
				checkVariables(t, kind, "/tandem", func(name string) string { return app.params[name] })
				app.write(typeStdout, helloResponse)
				app.write(typeStdout, "")
				app.write(typeEndRequest, "\x00\x00\x00\x00\x00\x00\x00\x00")
				client.receive("hello")
				client.finished()
			})
		}
	})
	t.Run("CGI", func(t *testing.T) {
		for _, kind := range []Kind{Apache, Lighttpd} {
			t.Run(string(kind), func(t *testing.T) {
				s := newStage(t, kind, Config{TandemConfig: "/some/where.toml"})
				client := askVariables(t, s.Server, s.CGI())
				app := s.next(t)
				checkVariables(t, kind, "/cgi-bin/tandem", app.env)
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

func askVariables(t *testing.T, server *Server, url string) *client {
	return (&stage{Server: server}).open(t, url+"/a/../b%20c?q=1&r", exchange{method: "GET", header: map[string]string{
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
	if got := get("SCRIPT_NAME") + get("PATH_INFO"); got != path+"/b c" {
		t.Errorf("SCRIPT_NAME + PATH_INFO is %q, expected %q", got, path+"/b c")
	}
	if got := get("SERVER_SOFTWARE"); !strings.HasPrefix(strings.ToLower(got), string(kind)) {
		t.Errorf("SERVER_SOFTWARE is %q, expected that it starts with %s", got, kind)
	}
}
