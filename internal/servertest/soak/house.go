package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tandem/internal/servertest"
)

// A house is all servers, twice.
type house struct {
	options
	binary string // tandem's path; its folder is ours
	stops  []func() error
}

// A route is a way from a client to a program.
type route struct {
	options
	name, config string
	url          string // of the endpoint
	tls          *tls.Config
	declared     bool // a body that stays open needs a declared length
	finite       bool // one way at a time: the request's body has to end first
}

func (h *house) start(ctx context.Context) ([]route, error) {
	source, err := servertest.Root()
	if err != nil {
		return nil, err
	}
	bare := filepath.Join(filepath.Dir(h.binary), "bare")
	if err := withoutTimeouts(source, bare); err != nil {
		return nil, err
	}
	// No grace: a session that is cut must be seen to be, not resumed.
	echo := fmt.Sprintf("app = \"echo\"\ngrace = \"0s\"\nheartbeat = %q\n", h.heartbeat)
	// Its program is as quiet as an idle session, and ends by itself, since no
	// message can reach it.
	quiet := fmt.Sprintf("command = [\"/bin/sh\", \"-c\", \"echo begin; sleep %.1f; echo end\"]\nheartbeat = %q\n", h.idle.Seconds(), h.heartbeat)
	echoFile, quietFile := filepath.Join(filepath.Dir(h.binary), "echo.toml"), filepath.Join(filepath.Dir(h.binary), "quiet.toml")
	if err := errors.Join(os.WriteFile(echoFile, []byte(echo), 0o644), os.WriteFile(quietFile, []byte(quiet), 0o644)); err != nil {
		return nil, err
	}
	td, err := servertest.Serve{Binary: h.binary, TOML: "[endpoint.echo]\n" + echo}.Run(ctx)
	if err != nil {
		return nil, err
	}
	h.stops = append(h.stops, td.Stop)

	routes := []route{{options: h.options, name: "Tandem's HTTP", config: "own", url: td.HTTP + "/tandem"}}
	for _, config := range []string{"shipped", "defaults"} {
		dir := source
		if config == "defaults" {
			dir = bare
		}
		run := func(kind servertest.Kind, c servertest.Config) (*servertest.Server, error) {
			c.Source, c.Socket = dir, td.Socket
			s, err := servertest.Run(ctx, kind, c)
			if err == nil {
				h.stops = append(h.stops, s.Stop)
			}
			return s, err
		}
		nginx, err := run(servertest.Nginx, servertest.Config{TLS: true})
		if err != nil {
			return nil, err
		}
		lighttpd, err := run(servertest.Lighttpd, servertest.Config{Binary: h.binary, TandemConfig: echoFile})
		if err != nil {
			return nil, err
		}
		// What docs/apache.md advises for clients without heartbeats: the default is
		// 60 s (Debian's 300), and is the whole virtual host's, so no shipped file sets it.
		extra := "Timeout 3600"
		if config == "defaults" {
			extra = ""
		}
		apache, err := run(servertest.Apache, servertest.Config{Binary: h.binary, TandemConfig: quietFile, Extra: extra})
		if err != nil {
			return nil, err
		}
		for _, r := range []route{
			{name: "nginx FastCGI", url: nginx.FastCGI()},
			{name: "nginx FastCGI, HTTP/2", url: nginx.TLSURL + "/tandem", tls: nginx.TLSConfig()},
			{name: "lighttpd FastCGI", url: lighttpd.FastCGI(), declared: true},
			{name: "lighttpd CGI", url: lighttpd.CGI(), declared: true},
			{name: "Apache mod_proxy_fcgi", url: apache.FastCGI()},
			{name: "Apache cgi-bin", url: apache.CGI(), finite: true},
			{name: "Apache mod_fcgid", url: apache.Fcgid(), finite: true},
		} {
			r.options, r.config = h.options, config
			routes = append(routes, r)
		}
	}
	return routes, nil
}

func (h *house) stop() error {
	var errs []error
	for i := len(h.stops) - 1; i >= 0; i-- {
		errs = append(errs, h.stops[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(filepath.Dir(h.binary)))...)
}

// timeouts are what the shipped files say about time-outs on silence. Two lines
// stay: RequestReadTimeout, as Debian's 10 s are less than a heartbeat, and
// FcgidBusyTimeout, which no heartbeat puts off.
var timeouts = []string{
	"client_body_timeout", "fastcgi_read_timeout", "fastcgi_send_timeout", "send_timeout",
	"timeout=3600", "CGIDScriptTimeout", "CGIScriptTimeout", "FcgidIOTimeout",
	"server.max-read-idle", "server.max-write-idle",
}

// withoutTimeouts copies the web servers' configuration from source to dir, less
// the lines about time-outs.
func withoutTimeouts(source, dir string) error {
	found := make(map[string]bool)
	for _, kind := range servertest.Kinds {
		files, err := filepath.Glob(filepath.Join(source, string(kind), "*.conf"))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(dir, string(kind)), 0o755); err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			lines := strings.SplitAfter(string(text), "\n")
			for i, line := range lines {
				for _, name := range timeouts {
					switch {
					case name == "timeout=3600" && strings.Contains(line, name):
						lines[i] = strings.Replace(line, name, "", 1) // an option among others
					case strings.HasPrefix(strings.TrimSpace(line), name):
						lines[i] = ""
					default:
						continue
					}
					found[name] = true
				}
			}
			if err := os.WriteFile(filepath.Join(dir, string(kind), filepath.Base(file)), []byte(strings.Join(lines, "")), 0o644); err != nil {
				return err
			}
		}
	}
	for _, name := range timeouts {
		if !found[name] {
			return fmt.Errorf("expected %s in the shipped configuration; soak takes it out, so tell internal/servertest/soak its new name", name)
		}
	}
	return nil
}

// patience is how long one step other than the silence may take.
const patience = 10 * time.Second
