// Package servertest runs real web servers, with the configuration that this
// repository ships, for tests and for scripts/try.
//
// Start with [Start] in a test, or [Run] outside of one:
//
//	td := servertest.StartTandem(t, `[endpoint.echo] ...`)
//	srv := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})
//	http.Post(srv.FastCGI(), ...)
//
// A server gets a temporary folder of its own, listens on 127.0.0.1 at ports that
// the kernel chose, runs in a process group of its own, and is gone at the end,
// also if the test process dies. What surrounds the shipped files is written here
// and holds the defaults of Debian's packages that the shipped files must win
// against: compression on, mod_reqtimeout as Debian sets it up.
//
// Everything runs as the current user, but for Apache when that is root: Apache
// refuses to, so it and what it starts run as www-data then.
//
// Linux only: the death of the parent is PR_SET_PDEATHSIG's business.
package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kind is a web server or a proxy.
type Kind string

// The web servers: all have /tandem, for [Config].Socket.
const (
	Nginx    Kind = "nginx"
	Apache   Kind = "apache"
	Lighttpd Kind = "lighttpd"
	HAProxy  Kind = "haproxy"
	Caddy    Kind = "caddy"
	H2O      Kind = "h2o"
)

// The forward proxies: see [Server.Proxy].
const (
	Squid     Kind = "squid"
	Privoxy   Kind = "privoxy"
	Tinyproxy Kind = "tinyproxy"
)

// Kinds are the web servers that people run Tandem behind, in the order that tests
// and documentation name them.
var Kinds = []Kind{Nginx, Apache, Lighttpd}

// Config says how to start a server. The zero value is a server of static files.
type Config struct {
	// Socket is the path of the unix socket that /tandem goes to. Empty: no /tandem.
	Socket string

	// Upstream makes a reverse proxy of a web server: /tandem goes to this server over
	// HTTP, with the proxy's defaults. It is a URL without a path.
	Upstream string

	// Binary is started for /cgi-bin/tandem, and by mod_fcgid for /fcgid/tandem.
	// It is linked (or copied) into CGIDir. Empty: neither path. Only Apache and
	// lighttpd have them.
	Binary string

	// TandemConfig is the configuration file that Binary is told of by TANDEM_CONFIG.
	TandemConfig string

	// Mercure is what /.well-known/mercure goes to, beside the paths above: [ByFastCGI],
	// [ByCGI] or [ByFcgid]. Only [Kinds] have it. Empty: nothing.
	Mercure string

	// TLS adds a second port with a certificate made for this server, and HTTP/2.
	TLS bool

	// Prefork makes Apache run one process per connection (mpm_prefork, mod_cgi)
	// instead of threads (mpm_event, mod_cgid).
	Prefork bool

	// Global and Extra are configuration lines of the server's own, outside of and
	// inside the virtual host, ahead of the shipped files.
	Global, Extra string

	// Port is the port on 127.0.0.1; 0 lets the kernel choose.
	Port int

	// Source is the repository's root, whose configuration is used. Empty: found
	// above the working directory.
	Source string

	// replace changes the shipped files: a text and what goes in its place, to see
	// what a directive is good for.
	replace [2]string
}

// The values of [Config].Mercure.
const (
	ByFastCGI = "fastcgi" // Config.Socket
	ByCGI     = "cgi"     // Config.Binary
	ByFcgid   = "fcgid"
)

// Server is a running web server. Its methods may be called from any goroutine.
type Server struct {
	Kind   Kind
	URL    string // http://127.0.0.1:PORT
	TLSURL string // https://127.0.0.1:PORT, if Config.TLS
	Dir    string // everything the server has on disk; removed by Stop
	CGIDir string // what /cgi-bin/ and /fcgid/ show; a test may add files

	config Config
	env    []string // of the server's process, beside ours
	roots  *x509.CertPool
	proc   *Process
}

// FastCGI is the URL of /tandem, which goes to Config.Socket.
func (s *Server) FastCGI() string { return s.URL + "/tandem" }

// CGI is the URL of the binary in cgi-bin.
func (s *Server) CGI() string { return s.URL + "/cgi-bin/tandem" }

// Fcgid is the URL of the binary under mod_fcgid.
func (s *Server) Fcgid() string { return s.URL + "/fcgid/tandem" }

// Pid is the server's main process.
func (s *Server) Pid() int { return s.proc.Pid() }

// TLSConfig trusts the server's certificate.
func (s *Server) TLSConfig() *tls.Config { return &tls.Config{RootCAs: s.roots} }

// Log is what the server logged and printed so far.
func (s *Server) Log() string {
	return readLogs(filepath.Join(s.Dir, "error.log"), s.proc.output)
}

// Start starts a server that ends with the test. A server that isn't installed,
// doesn't start, or doesn't stop fails the test; a test that failed shows the
// server's log.
func Start(t testing.TB, kind Kind, c Config) *Server {
	t.Helper()
	s, err := Run(context.Background(), kind, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", kind, s.Log())
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Run starts a server and returns once it answers. The caller must Stop it. ctx
// bounds the start alone.
func Run(ctx context.Context, kind Kind, c Config) (*Server, error) {
	if err := Installed(kind); err != nil {
		return nil, err
	}
	flavour := flavours[kind]
	binary, err := flavour.find()
	if err != nil {
		return nil, err
	}
	if c.Source == "" {
		if c.Source, err = Root(); err != nil {
			return nil, err
		}
	}
	// A port that the kernel gave is free when we ask, not when the server binds.
	for attempt := 1; ; attempt++ {
		s, err := run(ctx, kind, flavour, binary, c)
		var taken *portTakenError
		if errors.As(err, &taken) && c.Port == 0 && attempt < 5 {
			continue
		}
		return s, err
	}
}

type portTakenError struct{ error }

func run(ctx context.Context, kind Kind, f *flavour, binary string, c Config) (_ *Server, err error) {
	s := &Server{Kind: kind, config: c}
	if s.Dir, err = makeDir(string(kind)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(s.Dir)
		}
	}()
	var l layout
	if l.port = c.Port; l.port == 0 {
		if l.port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	s.URL = fmt.Sprintf("http://127.0.0.1:%d", l.port)
	if c.TLS {
		if l.tlsPort, err = FreePort(); err != nil {
			return nil, err
		}
		s.TLSURL = fmt.Sprintf("https://127.0.0.1:%d", l.tlsPort)
		l.cert, l.key = filepath.Join(s.Dir, "cert.pem"), filepath.Join(s.Dir, "key.pem")
		if s.roots, err = writeCertificate(l.cert, l.key); err != nil {
			return nil, err
		}
	}
	for _, sub := range []string{"www", "cgi-bin", "tmp"} {
		if err := os.Mkdir(filepath.Join(s.Dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	s.CGIDir = filepath.Join(s.Dir, "cgi-bin")
	if c.Binary != "" {
		if err := linkProgram(c.Binary, filepath.Join(s.CGIDir, "tandem")); err != nil {
			return nil, err
		}
	}
	ready := filepath.Base(s.Dir) // names this very server: another may have our port
	if err := os.WriteFile(filepath.Join(s.Dir, "www", "ready.txt"), []byte(ready), 0o644); err != nil {
		return nil, err
	}
	args, check, err := f.write(s, l)
	if err != nil {
		return nil, err
	}
	var user *syscall.Credential
	if f.user != nil {
		user = f.user()
	}
	if user != nil {
		if err := chownTree(s.Dir, int(user.Uid), int(user.Gid)); err != nil {
			return nil, err
		}
	}
	if check != nil {
		if err := s.checkConfig(binary, check, user); err != nil {
			return nil, err
		}
	}
	if s.proc, err = StartProcess(Command{Args: append([]string{binary}, args...), Dir: s.Dir, Env: s.env, User: user, Output: filepath.Join(s.Dir, "output.log")}); err != nil {
		return nil, err
	}
	if f.forward {
		err = s.awaitForwarding(ctx, ready)
	} else {
		err = s.awaitReady(ctx, s.URL+"/ready.txt", nil, ready)
	}
	if err != nil {
		s.proc.Stop()
		if log := s.Log(); strings.Contains(strings.ToLower(log), "address already in use") {
			err = &portTakenError{fmt.Errorf("%w: a port is taken:\n%s", err, log)}
		} else {
			err = fmt.Errorf("%w; its log:\n%s", err, log)
		}
		return nil, err
	}
	return s, nil
}

// awaitReady polls url until want comes: no web server tells when it listens.
func (s *Server) awaitReady(ctx context.Context, url string, proxy func(*http.Request) (*url.URL, error), want string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: proxy}}
	ask := func() error {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if err == nil && string(body) != want {
			err = fmt.Errorf("status %s, body %q, expected %q", resp.Status, body, want)
		}
		return err
	}
	return poll(ctx, s.proc, string(s.Kind), ask)
}

// poll calls ready until it returns nil, the process ends, or ctx does.
func poll(ctx context.Context, p *Process, name string, ready func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("servertest: %s ended instead of starting: %v", name, p.Err())
		case <-ctx.Done():
			return fmt.Errorf("servertest: %s didn't get ready: %w (%v)", name, err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Stop ends the server as an administrator would (SIGTERM: at once, open requests
// are cut) and removes its folder. It is an error if the server had to be killed;
// it is gone all the same.
func (s *Server) Stop() error {
	if flavours[s.Kind].patient {
		s.proc.Kill()
	}
	err := s.proc.Stop()
	if err != nil {
		err = fmt.Errorf("servertest: %s: %w; its log:\n%s", s.Kind, err, s.Log())
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.proc.Done() }

// Kill ends the server without giving it a chance to tidy up (SIGKILL to it and its
// workers).
func (s *Server) Kill() { s.proc.Kill() }

// Signal sends sig to the server's main process: SIGHUP or SIGUSR1 to reload, say.
func (s *Server) Signal(sig syscall.Signal) error { return s.proc.Signal(sig) }

// FreePort returns a port on 127.0.0.1 that was free a moment ago.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("servertest: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
