package servertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeHAProxy puts a frontend before haproxy/tandem.cfg, or before another server.
func writeHAProxy(s *Server, l layout) (args, check []string, err error) {
	if err := s.install("haproxy/tandem.cfg"); err != nil {
		return nil, nil, err
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `global
    maxconn 2000
    setenv TANDEM_SOCKET %[1]s
    %[2]s

defaults
    mode http
    timeout connect 5s
    timeout client  1h
    timeout server  1h
    timeout http-request 10s
    %[3]s

frontend front
    bind 127.0.0.1:%[4]d
`, orNone(s.config.Socket), s.config.Global, s.config.Extra, l.port)
	if s.config.TLS {
		pem := filepath.Join(s.Dir, "both.pem")
		if err := joinFiles(pem, l.cert, l.key); err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(&conf, "    bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1\n", l.tlsPort, pem)
	}
	fmt.Fprintf(&conf, `    http-request return status 200 content-type text/plain file %s/www/ready.txt if { path /ready.txt }
    use_backend tandem if { path /tandem } || { path_beg /tandem/ }
`, s.Dir)
	file := filepath.Join(s.Dir, "haproxy.cfg")
	args = []string{"-db", "-f", file}
	if s.config.Upstream != "" {
		fmt.Fprintf(&conf, "\nbackend tandem\n    server upstream %s\n", strings.TrimPrefix(s.config.Upstream, "http://"))
	} else {
		args = append(args, "-f", filepath.Join(s.Dir, "tandem.cfg"))
	}
	return args, append([]string{"-c", "-q"}, args...), s.write("haproxy.cfg", conf.String())
}

// joinFiles writes the contents of all files to one, for our eyes only.
func joinFiles(to string, files ...string) error {
	var all []byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		all = append(all, data...)
	}
	return os.WriteFile(to, all, 0o600)
}
