package doctor_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/client"
	"tandem/internal/doctor"
	"tandem/internal/servertest"
	"tandem/session/frame"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // they wait most of the time
	code := m.Run()
	servertest.Cleanup()
	os.Exit(code)
}

const endpoints = `
[endpoint.echo]
path = "/tandem"
app = "echo"
grace = "30s"

[endpoint.fcgid]
path = "/fcgid/tandem"
app = "echo"

[endpoint.cgi]
path = "/cgi-bin/tandem"
app = "echo"
`

// serve starts tandem for one test.
var serve = servertest.StartTandem

// cgiConfig is endpoints in a file that web servers may read.
func cgiConfig(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	file := filepath.Join(dir, "tandem.toml")
	if err := os.WriteFile(file, []byte(endpoints), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// openDir is a folder that other users may enter: Apache's, when root runs the tests.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-doctor-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// changed is a copy of the shipped configuration in which old is replaced in one file,
// where it must be.
func changed(t *testing.T, file, old, new string) (source string) {
	t.Helper()
	root, err := servertest.Root()
	if err != nil {
		t.Fatal(err)
	}
	source = t.TempDir()
	for _, dir := range []string{"nginx", "apache", "lighttpd", "haproxy", "caddy", "h2o"} {
		if err := os.CopyFS(filepath.Join(source, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	replace(t, filepath.Join(source, file), old, new)
	return source
}

// replace replaces old, which must be there, in a file.
func replace(t *testing.T, path, old, new string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s does not contain %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shown is a report as people see it.
type shown struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// examine runs the doctor; a test that fails shows what it said.
func examine(t *testing.T, url string, o doctor.Options) *doctor.Report {
	t.Helper()
	var out shown
	p := &doctor.Printer{W: &out}
	o.Each = p.Check
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := doctor.Run(ctx, url, &o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.End(r); err != nil {
		t.Fatal(err)
	}
	t.Logf("tandem doctor %s\n%s", url, out.text.String())
	return r
}

// As shipped, every server is found in order.
func TestAsShipped(t *testing.T) {
	t.Parallel()
	td := serve(t, endpoints)
	config := cgiConfig(t)
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket, TLS: true})
	apache := servertest.Start(t, servertest.Apache, servertest.Config{Socket: td.Socket, TLS: true, Binary: servertest.Binary(t), TandemConfig: config})
	lighttpd := servertest.Start(t, servertest.Lighttpd, servertest.Config{Socket: td.Socket, Binary: servertest.Binary(t), TandemConfig: config})
	started := func(kind servertest.Kind) *servertest.Server {
		return servertest.Start(t, kind, servertest.Config{Socket: td.Socket})
	}
	for _, c := range []struct {
		name, url string
		options   doctor.Options
		transport string
	}{
		{"http", td.HTTP + "/tandem", doctor.Options{}, "single"},
		{"nginx", nginx.FastCGI(), doctor.Options{}, "single"},
		{"nginx https", nginx.TLSURL + "/tandem", doctor.Options{TLS: nginx.TLSConfig()}, "single"},
		{"apache mod_proxy_fcgi", apache.FastCGI(), doctor.Options{}, "split"},
		{"apache mod_proxy_fcgi https", apache.TLSURL + "/tandem", doctor.Options{TLS: apache.TLSConfig()}, "split"},
		{"apache cgi-bin", apache.CGI(), doctor.Options{}, "split"},
		{"apache mod_fcgid", apache.Fcgid(), doctor.Options{}, "split"},
		{"lighttpd FastCGI", lighttpd.FastCGI(), doctor.Options{}, "single"},
		{"lighttpd CGI", lighttpd.CGI(), doctor.Options{}, "single"},
		{"HAProxy", started(servertest.HAProxy).FastCGI(), doctor.Options{}, "split"},
		{"Caddy", started(servertest.Caddy).FastCGI(), doctor.Options{}, "split"},
		{"h2o", started(servertest.H2O).FastCGI(), doctor.Options{}, "split"},
		{"squid", nginx.FastCGI(), doctor.Options{Proxy: started(servertest.Squid).Proxy}, "single"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, c.url, c.options)
			if r.Status != doctor.Healthy || r.Transport != c.transport {
				t.Errorf("status %d, transport %q, expected %q", r.Status, r.Transport, c.transport)
			}
			for _, f := range r.Findings {
				t.Errorf("found %s at %s: %s", f.Symptom, f.Hop, f.Directive)
			}
			// What it says that clients will choose they do choose.
			conn, err := client.Dial(t.Context(), c.url, &client.Options{TLS: c.options.TLS, Proxy: c.options.Proxy})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(frame.CodeNormal, "") // Caddy waits for open requests when it stops
			if got := conn.Path().Transport; got != r.Transport {
				t.Errorf("a client chose %s", got)
			}
		})
	}
}

// A wrong configuration: the shipped one with a change, or lines around it.
type wrong struct {
	name           string
	kind           servertest.Kind
	file, old, new string // the change
	closes         bool   // nginx keeps no connection to Tandem: on one that it keeps it passes on even what it buffers
	config         servertest.Config
	url            func(*servertest.Server) string
	options        doctor.Options
	directive      string // that the doctor must name
	verdict        doctor.Verdict
	status         int
}

// For each wrong configuration the doctor names the directive.
func TestNamesTheDirective(t *testing.T) {
	t.Parallel()
	td := serve(t, endpoints)
	config := cgiConfig(t)
	const ng, proxyFCGI, cgi, fcgid = "nginx/tandem.conf", "apache/tandem-proxy-fcgi.conf", "apache/tandem-cgi.conf", "apache/tandem-fcgid.conf"
	const lightFCGI, lightCGI = "lighttpd/tandem-fastcgi.conf", "lighttpd/tandem-cgi.conf"
	// A plain reverse proxy in order, but for what is named.
	proxied := func(but string) servertest.Config {
		lines := []string{"proxy_http_version 1.1;", "proxy_request_buffering off;", "proxy_buffering off;", "proxy_read_timeout 1h;", "client_body_timeout 1h;", "client_max_body_size 0;", "gzip off;"}
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, but+" ") })
		return servertest.Config{Extra: "location /proxied { proxy_ignore_headers X-Accel-Buffering; proxy_pass " + td.HTTP + "/tandem; " + strings.Join(lines, " ") + " }"}
	}
	behind := func(s *servertest.Server) string { return s.URL + "/proxied" }
	login := doctor.Options{Header: map[string][]string{"Authorization": {"Bearer token"}}}
	slow := doctor.Options{Slow: 4 * time.Second}
	for _, w := range []wrong{
		{name: "nginx buffers requests", kind: servertest.Nginx, file: ng, old: "fastcgi_request_buffering off", new: "fastcgi_request_buffering on",
			directive: "fastcgi_request_buffering", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx buffers responses", kind: servertest.Nginx, file: ng, old: "fastcgi_buffering         off;", new: "fastcgi_ignore_headers X-Accel-Buffering;", closes: true,
			directive: "fastcgi_buffering", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx buffers what the header doesn't save", kind: servertest.Nginx, file: ng, old: "fastcgi_buffering         off;", closes: true,
			directive: "fastcgi_buffering", verdict: doctor.Note, status: doctor.Healthy},
		{name: "nginx compresses", kind: servertest.Nginx, file: ng, old: "gzip off;",
			directive: "gzip", verdict: doctor.Note, status: doctor.Healthy},
		{name: "nginx limits the size", kind: servertest.Nginx, file: ng, old: "client_max_body_size 0;",
			directive: "client_max_body_size", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx cuts quiet bodies", kind: servertest.Nginx, file: ng, old: "client_body_timeout  1h", new: "client_body_timeout 2s", options: slow,
			directive: "client_body_timeout", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx cuts quiet responses", kind: servertest.Nginx, file: ng, old: "fastcgi_read_timeout 1h", new: "fastcgi_read_timeout 2s", options: slow,
			directive: "fastcgi_read_timeout", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx ignores that a client has gone", kind: servertest.Nginx, file: ng, old: "fastcgi_ignore_client_abort off", new: "fastcgi_ignore_client_abort on",
			directive: "fastcgi_ignore_client_abort", verdict: doctor.Note, status: doctor.Healthy},
		{name: "nginx as a proxy buffers requests", kind: servertest.Nginx, config: proxied("proxy_request_buffering"), url: behind,
			directive: "proxy_request_buffering", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx as a proxy buffers responses", kind: servertest.Nginx, config: proxied("proxy_buffering"), url: behind,
			directive: "proxy_buffering", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "nginx as a proxy limits the size", kind: servertest.Nginx, config: proxied("client_max_body_size"), url: behind,
			directive: "client_max_body_size", verdict: doctor.Fault, status: doctor.Degraded},

		{name: "Apache without flushpackets", kind: servertest.Apache, file: proxyFCGI, old: "flushpackets=on timeout=3600", new: "timeout=3600",
			directive: "flushpackets", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "Apache with Debian's mod_reqtimeout", kind: servertest.Apache, file: proxyFCGI, old: "RequestReadTimeout body=0", options: doctor.Options{Slow: 13 * time.Second},
			directive: "RequestReadTimeout", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "Apache limits the size", kind: servertest.Apache, file: cgi, old: "LimitRequestBody 0", new: "LimitRequestBody 300000", config: servertest.Config{Binary: "yes"}, url: (*servertest.Server).CGI,
			directive: "LimitRequestBody", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "Apache keeps Authorization", kind: servertest.Apache, file: proxyFCGI, old: "CGIPassAuth On", options: login,
			directive: "CGIPassAuth", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "Apache keeps Authorization that nobody sent", kind: servertest.Apache, file: proxyFCGI, old: "CGIPassAuth On",
			directive: "CGIPassAuth", verdict: doctor.Note, status: doctor.Healthy},
		{name: "Apache cuts quiet responses", kind: servertest.Apache, file: proxyFCGI, old: "timeout=3600", new: "timeout=2", options: slow,
			directive: "timeout", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "Apache compresses CGI", kind: servertest.Apache, file: cgi, old: "FilterChain !", config: servertest.Config{Binary: "yes"}, url: (*servertest.Server).CGI,
			directive: "FilterChain", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "mod_fcgid buffers responses", kind: servertest.Apache, file: fcgid, old: "FcgidOutputBufferSize 0", config: servertest.Config{Binary: "yes"}, url: (*servertest.Server).Fcgid,
			directive: "FcgidOutputBufferSize", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "mod_fcgid limits the size", kind: servertest.Apache, file: fcgid, old: "FcgidMaxRequestLen 1073741824", config: servertest.Config{Binary: "yes"}, url: (*servertest.Server).Fcgid,
			directive: "FcgidMaxRequestLen", verdict: doctor.Fault, status: doctor.Degraded},

		{name: "lighttpd buffers requests", kind: servertest.Lighttpd, file: lightFCGI, old: "server.stream-request-body  = 2", new: "server.stream-request-body = 0",
			directive: "server.stream-request-body", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "lighttpd buffers responses", kind: servertest.Lighttpd, file: lightFCGI, old: "server.stream-response-body = 2",
			directive: "server.stream-response-body", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "lighttpd buffers responses of CGI", kind: servertest.Lighttpd, file: lightCGI, old: "server.stream-response-body = 2", config: servertest.Config{Binary: "yes"}, url: (*servertest.Server).CGI,
			directive: "server.stream-response-body", verdict: doctor.Fault, status: doctor.Unusable},
		{name: "lighttpd limits the size", kind: servertest.Lighttpd, file: lightFCGI, old: "server.max-request-size = 0", new: "server.max-request-size = 100",
			directive: "server.max-request-size", verdict: doctor.Fault, status: doctor.Degraded},
		{name: "lighttpd cuts quiet bodies", kind: servertest.Lighttpd, file: lightFCGI, old: "server.max-read-idle  = 3600", new: "server.max-read-idle = 2", options: slow,
			directive: "server.max-read-idle", verdict: doctor.Fault, status: doctor.Degraded},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.config.Socket = td.Socket
			if w.config.Binary != "" {
				w.config.Binary, w.config.TandemConfig = servertest.Binary(t), config
			}
			if w.file != "" {
				w.config.Source = changed(t, w.file, w.old, w.new)
			}
			if w.closes {
				replace(t, filepath.Join(w.config.Source, "nginx/tandem.conf"), "fastcgi_keep_conn on;", "")
				replace(t, filepath.Join(w.config.Source, "nginx/upstream.conf"), "keepalive 32;", "")
			}
			if w.url == nil {
				w.url = (*servertest.Server).FastCGI
			}
			s := servertest.Start(t, w.kind, w.config)
			r := examine(t, w.url(s), w.options)
			if r.Status != w.status {
				t.Errorf("status %d, expected %d", r.Status, w.status)
			}
			named := false
			for _, f := range r.Findings {
				named = named || f.Directive == w.directive && f.Verdict == w.verdict
			}
			if !named {
				t.Errorf("%s was not named", w.directive)
			}
			if len(r.Findings) > 1 {
				t.Errorf("expected one finding, got %+v", r.Findings)
			}
		})
	}
}

// Processes that don't find each other's sessions are named as such.
func TestLostSessions(t *testing.T) {
	t.Parallel()
	// Two machines behind a balancer that takes turns.
	a := servertest.StartTandem(t, "http = \"$HTTP\"\nstate_dir = \"$DIR/state\"\n"+endpoints)
	b := servertest.StartTandem(t, "http = \"$HTTP\"\nstate_dir = \"$DIR/state\"\n"+endpoints)
	s := servertest.Start(t, servertest.Nginx, servertest.Config{
		Global: fmt.Sprintf("upstream both { server %s; server %s; }", strings.TrimPrefix(a.HTTP, "http://"), strings.TrimPrefix(b.HTTP, "http://")),
		Extra:  "location /both { proxy_pass http://both/tandem; proxy_http_version 1.1; client_max_body_size 0; proxy_buffering off; gzip off; }",
	})
	r := examine(t, s.URL+"/both", doctor.Options{})
	if r.Status != doctor.Unusable || !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Directive == "state_dir" && f.Hop == "Tandem" }) {
		t.Errorf("status %d, %+v", r.Status, r.Findings)
	}
}

// Proxies in front of a web server that is in order, as they are by default: the doctor
// names the directives of the proxy.
func TestProxies(t *testing.T) {
	t.Parallel()
	td := serve(t, endpoints)
	web := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})
	for _, c := range []struct {
		kind       servertest.Kind
		forward    bool
		transport  string
		status     int
		directives []string
	}{
		{kind: servertest.Nginx, transport: "split", status: doctor.Degraded, directives: []string{"proxy_request_buffering", "proxy_buffering", "gzip", "client_max_body_size", "proxy_http_version"}},
		{kind: servertest.Apache, transport: "split", status: doctor.Healthy, directives: []string{"FilterChain"}},
		{kind: servertest.Lighttpd, transport: "poll", status: doctor.Degraded, directives: []string{"server.stream-request-body", "server.stream-response-body"}},
		{kind: servertest.HAProxy, transport: "single", status: doctor.Degraded, directives: []string{"option http-no-delay"}},
		{kind: servertest.Caddy, transport: "single", status: doctor.Healthy},
		{kind: servertest.H2O, transport: "split", status: doctor.Healthy},
		{kind: servertest.Squid, forward: true, transport: "single", status: doctor.Healthy},
		{kind: servertest.Privoxy, forward: true, transport: "single", status: doctor.Degraded, directives: []string{"NO_PROXY"}},
		{kind: servertest.Tinyproxy, forward: true, transport: "split", status: doctor.Healthy},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			var r *doctor.Report
			if c.forward {
				r = examine(t, web.FastCGI(), doctor.Options{Proxy: servertest.Start(t, c.kind, servertest.Config{}).Proxy})
			} else {
				r = examine(t, servertest.Start(t, c.kind, servertest.Config{Upstream: web.URL}).FastCGI(), doctor.Options{})
			}
			if r.Status != c.status || r.Transport != c.transport {
				t.Errorf("status %d, transport %q, expected %d, %q", r.Status, r.Transport, c.status, c.transport)
			}
			for _, d := range c.directives {
				if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Directive == d }) {
					t.Errorf("%s was not named", d)
				}
			}
		})
	}
}
