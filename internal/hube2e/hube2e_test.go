// Package hube2e holds the tests of the hub as a site has it: the tandem program behind the real web servers with the
// shipped configuration, publishers and subscribers in front, and what can befall them.
package hube2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tandem/client"
	"tandem/internal/servertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	servertest.Cleanup()
	os.Exit(code)
}

const (
	hubURL = "https://hub.example/.well-known/mercure"
	secret = "a secret of these tests, which is long enough"

	// patience is for what comes at once. It is below the hub's heartbeat, which would push out what somebody holds back.
	patience = 10 * time.Second
)

// A site is a folder with a hub's configuration and database.
type site struct {
	dir    string
	toml   string // without listeners
	config string // a file of it, for programs that web servers start
	socket string // where serve listens
}

// Who may publish at a site.
const (
	keys   = "publisher_keys = [\"$DIR/hub.secret\"]\nsubscriber_keys = [\"$DIR/hub.secret\"]\n"
	anyone = "publish = \"anyone\"\n"
)

// newSite makes one with these lines in its endpoint.
func newSite(t *testing.T, lines string) *site {
	t.Helper()
	return newSiteAt(t, hubURL, lines)
}

// newSiteAt makes one whose hub has this public URL.
func newSiteAt(t *testing.T, public, lines string) *site {
	t.Helper()
	// Not t.TempDir: web servers may run as another user, who writes here.
	dir, err := os.MkdirTemp("", "tandem-hub-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &site{dir: dir, config: filepath.Join(dir, "tandem.toml"), socket: filepath.Join(dir, "s")}
	if err := os.Mkdir(filepath.Dir(s.database()), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(s.database())} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	s.toml = fmt.Sprintf("state_dir = %q\n%s", filepath.Join(dir, "state"), s.endpoint(public, lines))
	for name, text := range map[string]string{s.config: servertest.WithEngine(s.toml), filepath.Join(dir, "hub.secret"): secret + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) database() string { return filepath.Join(s.dir, "data", "hub.db") }

func (s *site) endpoint(public, lines string) string {
	return fmt.Sprintf(`
[endpoint.hub]
path = "/tandem"
app = "hub"
database = %q
url = %q
%s
`, s.database(), public, strings.ReplaceAll(lines, "$DIR", s.dir))
}

// serve starts "tandem serve" on the site's socket and a port, 0 for a free one. The caller may kill it.
func (s *site) serve(t *testing.T, port int) *servertest.Tandem {
	t.Helper()
	toml := fmt.Sprintf("http = \"$HTTP\"\n%s\n[fastcgi]\nlisten = \"unix:%s\"\nmode = \"0666\"\n", s.toml, s.socket)
	td, err := servertest.Serve{TOML: toml, Port: port, Binary: servertest.Binary(t)}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of tandem:\n%s", td.Log())
		}
		td.Process.Stop()
		os.RemoveAll(td.Dir)
	})
	eventually(t, "the FastCGI socket", func() bool { // Run waits for HTTP
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return td
}

// start starts a web server of the site's. The caller may kill it.
func (s *site) start(t *testing.T, kind servertest.Kind, by string, port int) *servertest.Server {
	t.Helper()
	return s.startWith(t, kind, by, servertest.Config{Port: port, TLS: kind == servertest.Nginx})
}

// startWith is start with lines of the web server's own.
func (s *site) startWith(t *testing.T, kind servertest.Kind, by string, c servertest.Config) *servertest.Server {
	t.Helper()
	c.Mercure = by
	if by == servertest.ByFastCGI {
		c.Socket = s.socket
	} else {
		c.Binary, c.TandemConfig = servertest.Binary(t), s.config
	}
	srv, err := servertest.Run(t.Context(), kind, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", kind, srv.Log())
		}
		// Not SIGTERM: Apache waits ten seconds then for streams that are silent.
		srv.Kill()
		killAll(filepath.Join(srv.CGIDir, "tandem"))
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// A route is a way to a hub.
type route struct {
	name    string
	root    string // URL of the web server
	hub     string // URL at which Mercure's clients find the hub
	session string // URL of the endpoint
	tls     *tls.Config
	client  *http.Client
	site    *site
}

func newRoute(t *testing.T, s *site, name, root, endpoint string, tls *tls.Config) *route {
	// Each stream holds a connection; HTTP/2 has all in one.
	tr := &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: tls != nil, MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &route{name, root, root + "/.well-known/mercure", endpoint, tls, &http.Client{Transport: tr}, s}
}

// routes starts all servers. Those of which root makes another user have a site of their own: a database is one user's.
func routes(t *testing.T) []*route {
	t.Helper()
	s, a := newSite(t, keys+"presence = true"), newSite(t, keys+"presence = true")
	td := s.serve(t, 0)
	nginx := s.start(t, servertest.Nginx, servertest.ByFastCGI, 0)
	apache := s.start(t, servertest.Apache, servertest.ByFastCGI, 0)
	lighttpd := s.start(t, servertest.Lighttpd, servertest.ByFastCGI, 0)
	lighttpdCGI := s.start(t, servertest.Lighttpd, servertest.ByCGI, 0)
	apacheCGI := a.start(t, servertest.Apache, servertest.ByCGI, 0)
	fcgid := a.start(t, servertest.Apache, servertest.ByFcgid, 0)
	return []*route{
		newRoute(t, s, "http", td.HTTP, td.HTTP+"/tandem", nil),
		newRoute(t, s, "nginx", nginx.URL, nginx.FastCGI(), nil),
		newRoute(t, s, "nginx-h2", nginx.TLSURL, nginx.TLSURL+"/tandem", nginx.TLSConfig()),
		newRoute(t, s, "apache", apache.URL, apache.FastCGI(), nil),
		newRoute(t, a, "apache-cgi", apacheCGI.URL, apacheCGI.CGI(), nil),
		newRoute(t, a, "apache-fcgid", fcgid.URL, fcgid.Fcgid(), nil),
		newRoute(t, s, "lighttpd", lighttpd.URL, lighttpd.FastCGI(), nil),
		newRoute(t, s, "lighttpd-cgi", lighttpdCGI.URL, lighttpdCGI.CGI(), nil),
	}
}

// token lets do the actions with all topics for an hour.
func token(t *testing.T, actions ...string) string {
	t.Helper()
	return tokenFor(t, hubURL, actions...)
}

// tokenFor is for the hub of this public URL.
func tokenFor(t *testing.T, public string, actions ...string) string {
	t.Helper()
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"aud": public, "exp": time.Now().Add(time.Hour).Unix(),
		"authorization_details": []any{map[string]any{"type": "mercure", "actions": actions, "topics": []any{map[string]any{"match": "*"}}}},
	})
	j.Header["typ"] = "at+jwt"
	signed, err := j.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// bearer is a header with a token, unless that is "".
func bearer(token string) http.Header {
	if token == "" {
		return http.Header{}
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

func cookie(token string) http.Header { return http.Header{"Cookie": {"mercureAccessToken=" + token}} }

// do sends a request, and returns the answer with its body.
func (r *route) do(ctx context.Context, method, url string, form url.Values, header http.Header) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// ask is do, which has to be answered in time.
func (r *route) ask(t *testing.T, method, url string, form url.Values, header http.Header) (*http.Response, string) {
	t.Helper()
	resp, body, err := r.do(within(t, patience), method, url, form, header)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", r.name, method, url, err)
	}
	return resp, body
}

// publish posts an event, which has to be stored.
func (r *route) publish(t *testing.T, id, topic, data string, private bool) {
	t.Helper()
	form := url.Values{"id": {id}, "topic": {topic}, "data": {data}}
	if private {
		form.Set("private", "on")
	}
	if resp, body := r.ask(t, "POST", r.hub, form, bearer(token(t, "publish"))); resp.StatusCode != http.StatusOK || body != id {
		t.Fatalf("%s: publishing %s: %s: %s", r.name, id, resp.Status, body)
	}
}

// open opens a session at url.
func (r *route) open(t *testing.T, url, token string) *client.Conn {
	t.Helper()
	c, err := client.Dial(within(t, 30*time.Second), url, &client.Options{TLS: r.tls, Header: bearer(token)})
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	t.Cleanup(c.CloseNow)
	return c
}

// within is a context that bounds one step of a test: a step that hangs fails.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
