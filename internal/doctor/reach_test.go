package doctor_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tandem/internal/doctor"
	"tandem/internal/servertest"
)

// Where something else than an endpoint answers, or nothing, the report says what it
// is and what to do.
func TestNoEndpoint(t *testing.T) {
	t.Parallel()
	td := serve(t, `
[endpoint.only]
path = "/tandem"
app = "echo"

[endpoint.closed]
path = "/closed"
app = "echo"
probe = false
`)
	// No socket of that name is there.
	nowhere := filepath.Join(openDir(t), "none.sock")
	binary := servertest.Binary(t)
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: nowhere, TLS: true, Extra: `
		location = /moved { return 302 https://login.example.org/?next=1; }
		location = /login { add_header WWW-Authenticate 'Basic realm="here"' always; return 401; }
		location = /forbidden { return 403; }
		location = /page { default_type text/html; return 200 "<html>hello</html>"; }
		location = /php { default_type text/html; add_header X-Powered-By PHP/8.2; return 200 "<html>hello</html>"; }
		location = /busy { return 429; }
	`})
	apache := servertest.Start(t, servertest.Apache, servertest.Config{Socket: nowhere, Binary: binary, TandemConfig: "/nonexistent.toml"})
	lighttpd := servertest.Start(t, servertest.Lighttpd, servertest.Config{Socket: nowhere, Binary: binary, TandemConfig: "/nonexistent.toml"})
	for _, s := range []*servertest.Server{nginx, apache, lighttpd} {
		for name, text := range map[string]string{"www/program": "\x7fELF…", "www/source.php": "<?php echo 1; ?>", "cgi-bin/text": "no program"} {
			if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	free, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	noName := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "www.example.org", IsNotFound: true}
	}
	for _, c := range []struct {
		name, url string
		options   doctor.Options
		text      string   // in the table
		says      []string // in the finding
	}{
		{"nginx: no location", nginx.URL + "/chat", doctor.Options{}, "404", []string{"location /chat { include snippets/tandem.conf; }", "docs/nginx.md"}},
		{"nginx: no socket", nginx.FastCGI(), doctor.Options{}, "502", []string{"Permission denied", "[fastcgi]", `group = "www-data"`}},
		{"nginx: forbidden", nginx.URL + "/forbidden", doctor.Options{}, "403", []string{"deny"}},
		{"nginx: too many requests", nginx.URL + "/busy", doctor.Options{}, "429", []string{"later"}},
		{"nginx: program as a file", nginx.URL + "/program", doctor.Options{}, "200", []string{"runs no CGI"}},
		{"redirected", nginx.URL + "/moved", doctor.Options{}, "https://login.example.org/", []string{"--header 'Cookie"}},
		{"login", nginx.URL + "/login", doctor.Options{}, `Basic realm="here"`, []string{"--user"}},
		{"a page", nginx.URL + "/page", doctor.Options{}, "text/html", []string{"A page came"}},
		{"a PHP page", nginx.URL + "/php", doctor.Options{}, "text/html", []string{"PHP/8.2"}},
		{"PHP source", nginx.URL + "/source.php", doctor.Options{}, "200", []string{"not even run"}},
		{"HTTP to a TLS port", strings.Replace(nginx.TLSURL, "https", "http", 1) + "/tandem", doctor.Options{}, "400", []string{"https://"}},
		{"TLS to an HTTP port", strings.Replace(nginx.URL, "http", "https", 1) + "/tandem", doctor.Options{}, "does not speak TLS", []string{"http://"}},
		{"unknown authority", nginx.TLSURL + "/tandem", doctor.Options{}, "authority", []string{"--cacert"}},
		{"another name", strings.Replace(nginx.TLSURL, "127.0.0.1", "localhost", 1) + "/tandem", doctor.Options{TLS: nginx.TLSConfig()}, "another name", []string{"localhost"}},
		{"refused", fmt.Sprintf("http://127.0.0.1:%d/", free), doctor.Options{}, "refused", []string{"Nothing listens there"}},
		{"no address", "http://www.example.org/", doctor.Options{DialContext: noName}, "no address", []string{"DNS"}},
		{"apache: nothing there", apache.URL + "/chat", doctor.Options{}, "404", []string{"Include /etc/tandem/apache/"}},
		{"apache: no socket", apache.FastCGI(), doctor.Options{}, "503", []string{"AH02454", "[fastcgi]"}},
		{"apache: not executable", apache.URL + "/cgi-bin/text", doctor.Options{}, "500", []string{"AH01241", "chmod 755"}},
		{"apache: program as a file", apache.URL + "/program", doctor.Options{}, "200", []string{"apache/tandem-cgi.conf"}},
		{"apache: no configuration", apache.CGI(), doctor.Options{}, "500", []string{"tandem config check"}},
		{"lighttpd: nothing there", lighttpd.URL + "/chat", doctor.Options{}, "404", []string{"tandem-fastcgi.conf"}},
		{"lighttpd: no socket", lighttpd.FastCGI(), doctor.Options{}, "503", []string{"Permission denied", "[fastcgi]"}},
		{"lighttpd: not executable", lighttpd.URL + "/cgi-bin/text", doctor.Options{}, "500", []string{"chmod 755"}},
		{"lighttpd: program as a file", lighttpd.URL + "/program", doctor.Options{}, "200", []string{"lighttpd/tandem-cgi.conf"}},
		{"lighttpd: no configuration", lighttpd.CGI(), doctor.Options{}, "500", []string{"tandem config check"}},
		{"no endpoint of that path", td.HTTP + "/nowhere", doctor.Options{}, "404", []string{`path = "/nowhere"`}},
		{"probe switched off", td.HTTP + "/closed", doctor.Options{}, "switched off", []string{"probe = true"}},
		{"origin refused", td.HTTP + "/tandem", doctor.Options{Header: http.Header{"Origin": {"https://evil.example"}}}, "403", []string{"origins"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, c.url, c.options)
			if r.Status != doctor.Unusable || r.Transport != "" {
				t.Errorf("status %d, transport %q", r.Status, r.Transport)
			}
			last := r.Checks[len(r.Checks)-1]
			if last.Verdict != doctor.Fault || !strings.Contains(last.Text, c.text) {
				t.Errorf("%s: %s, expected a fault with %q", last.Verdict, last.Text, c.text)
			}
			if len(r.Findings) != 1 {
				t.Fatalf("%d findings", len(r.Findings))
			}
			f := r.Findings[0]
			all := strings.Join(append(f.Lines, f.Hop, f.Why, f.Where, f.Doc), "\n")
			for _, s := range c.says {
				if !strings.Contains(all, s) {
					t.Errorf("expected %q in\n%s", s, all)
				}
			}
		})
	}
}

// What can't be examined is an error, and no report.
func TestUsage(t *testing.T) {
	for _, url := range []string{"www.example.org", "ftp://example.org/", "http:///x", "http://[::1/", ""} {
		if _, err := doctor.Run(t.Context(), url, nil); err == nil {
			t.Errorf("%q: no error", url)
		}
	}
	if _, err := doctor.Run(t.Context(), "http://127.0.0.1/", &doctor.Options{Slow: 1 << 50}); err == nil {
		t.Error("no error for a time that the probe doesn't allow")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := doctor.Run(ctx, "http://127.0.0.1:1/", nil); err == nil {
		t.Error("no error for a context that is done")
	}
}
