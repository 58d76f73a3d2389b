package endpoint

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tandem/internal/gateway"
)

func named(name, path string) Endpoint {
	return Endpoint{Name: name, Path: path, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "="+name)
	})}
}

type vars = map[string]string

func TestRouter(t *testing.T) {
	several := []Endpoint{named("root", "/tandem"), named("chat", "/tandem/chat"), named("admin", "/admin"), named("hidden", "")}
	only := []Endpoint{named("only", "")}
	onlyPath := []Endpoint{named("only", "/chat")}
	slash := []Endpoint{named("all", "/"), named("chat", "/chat")}
	for _, tt := range []struct {
		name      string
		endpoints []Endpoint
		url       string
		header    http.Header
		vars      vars // nil: plain HTTP
		want      string
	}{
		{"exact", several, "/tandem", nil, nil, "=root"},
		{"below", several, "/tandem/x/y", nil, nil, "=root"},
		{"trailing slash", several, "/tandem/", nil, nil, "=root"},
		{"longest wins", several, "/tandem/chat/room", nil, nil, "=chat"},
		{"segment boundary", several, "/tandem/chatter", nil, nil, "=root"},
		{"segment boundary, nothing shorter", several, "/tandemish", nil, nil, "404"},
		{"case counts", several, "/Tandem", nil, nil, "404"},
		{"no match is not the one without a path", several, "/x", nil, nil, "404"},
		{"root path", slash, "/x", nil, nil, "=all"},
		{"root path itself", slash, "/", nil, nil, "=all"},
		{"longer than the root path", slash, "/chat", nil, nil, "=chat"},
		{"only one, no path", only, "/x", nil, nil, "=only"},
		{"only one, other path, HTTP", onlyPath, "/x", nil, nil, "404"},
		{"only one, other path, chosen by the web server", onlyPath, "/x", nil, vars{"SCRIPT_NAME": "/x"}, "=only"},
		{"none", nil, "/x", nil, nil, "404"},

		{"variable", several, "/tandem", nil, vars{"TANDEM_ENDPOINT": "admin", "SCRIPT_NAME": "/tandem"}, "=admin"},
		{"variable names one without a path", several, "/tandem", nil, vars{"TANDEM_ENDPOINT": "hidden"}, "=hidden"},
		{"variable unknown", several, "/tandem", nil, vars{"TANDEM_ENDPOINT": "nope"}, "500"},
		{"variable unknown, only one", only, "/tandem", nil, vars{"TANDEM_ENDPOINT": "nope"}, "500"},
		{"variable empty", several, "/tandem", nil, vars{"TANDEM_ENDPOINT": "", "SCRIPT_NAME": "/tandem"}, "=root"},
		{"header is not the variable", several, "/tandem", http.Header{"Tandem-Endpoint": {"admin"}, "Tandem_endpoint": {"admin"}}, nil, "=root"},
		{"HTTP_ variable is not the variable", several, "/tandem", nil, vars{"HTTP_TANDEM_ENDPOINT": "admin", "SCRIPT_NAME": "/tandem"}, "=root"},
		{"query is not the variable", several, "/tandem?TANDEM_ENDPOINT=admin", nil, vars{"QUERY_STRING": "TANDEM_ENDPOINT=admin", "SCRIPT_NAME": "/tandem"}, "=root"},

		{"PATH_INFO", several, "/cgi-bin/tandem/admin/x", nil, vars{"SCRIPT_NAME": "/cgi-bin/tandem", "PATH_INFO": "/admin/x"}, "=admin"},
		{"whole path before PATH_INFO", several, "/tandem/admin", nil, vars{"SCRIPT_NAME": "/tandem", "PATH_INFO": "/admin"}, "=root"},
		{"only PATH_INFO known", several, "/y", nil, vars{"PATH_INFO": "/tandem/chat"}, "=chat"},
		{"no variables at all", several, "/tandem/chat", nil, vars{"GATEWAY_INTERFACE": "CGI/1.1"}, "=chat"},

		{"dots, HTTP", several, "/tandem/../admin", nil, nil, "404"},
		{"coded dots, HTTP", several, "/tandem/%2e%2e/admin", nil, nil, "404"},
		{"coded slashes, HTTP", several, "/tandem/chat/https%3A%2F%2Fexample.org%2F", nil, nil, "=chat"},
		{"coded slashes and dots, HTTP", several, "/tandem/..%2F..%2Fadmin", nil, nil, "404"},
		{"double slash, HTTP", several, "//admin", nil, nil, "404"},
		{"dots, HTTP, only one", only, "/x/../y", nil, nil, "404"},
		{"dots, what the web server made of them counts", several, "/admin/../tandem", nil, vars{"SCRIPT_NAME": "/tandem"}, "=root"},
		{"dots in PATH_INFO", several, "/z/tandem", nil, vars{"SCRIPT_NAME": "/z", "PATH_INFO": "/tandem/../admin"}, "=admin"},
		{"rewritten", several, "/pretty", nil, vars{"SCRIPT_NAME": "/tandem/chat"}, "=chat"},
		{"double slash", several, "/tandem//chat", nil, vars{"SCRIPT_NAME": "/tandem//chat"}, "=chat"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), "GET", tt.url, nil)
			r.Header = tt.header
			if tt.header == nil {
				r.Header = http.Header{}
			}
			if tt.vars != nil {
				r = r.WithContext(gateway.NewContext(r.Context(), gateway.FromVars(gateway.FastCGI, tt.vars)))
			}
			var log bytes.Buffer
			w := httptest.NewRecorder()
			New(tt.endpoints, slog.New(slog.NewTextHandler(&log, nil))).ServeHTTP(w, r)
			got := w.Body.String()
			if !strings.HasPrefix(got, "=") {
				var p struct {
					Status        int
					Title, Detail string
				}
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Detail == "" ||
					w.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("no problem body: %d %s", w.Code, got)
				}
				if !strings.Contains(log.String(), "configured=") {
					t.Errorf("the log doesn't say what is configured: %s", log.String())
				}
				if strings.Contains(got, "admin") {
					t.Errorf("the answer tells what is configured: %s", got)
				}
				got = map[int]string{404: "404", 500: "500"}[w.Code]
			}
			if got != tt.want {
				t.Errorf("got %s, expected %s", got, tt.want)
			}
		})
	}
}
