package servertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeNginx surrounds nginx/tandem.conf and nginx/upstream.conf (the socket is ours), or
// passes all on to another server.
func writeNginx(s *Server, l layout) (args, check []string, err error) {
	if err := s.install("nginx/tandem.conf", "nginx/upstream.conf"); err != nil {
		return nil, nil, err
	}
	if err := s.substitute("upstream.conf", "/run/tandem/tandem.sock", orNone(s.config.Socket)); err != nil {
		return nil, nil, err
	}
	var conf strings.Builder
	if os.Geteuid() == 0 {
		conf.WriteString("user root;\n") // as ourselves; nginx's default is nobody
	}
	tmp := filepath.Join(s.Dir, "tmp")
	fmt.Fprintf(&conf, `daemon off;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log info;
events { worker_connections 10000; }
http {
    access_log off;
    server_tokens on;
    client_body_temp_path %[2]s/body;
    fastcgi_temp_path %[2]s/fastcgi;
    proxy_temp_path %[2]s/proxy;
    scgi_temp_path %[2]s/scgi;
    uwsgi_temp_path %[2]s/uwsgi;

    # What the shipped file must win against.
    gzip on;
    gzip_types *;
    gzip_min_length 0;

    include %[1]s/upstream.conf;
    %[3]s
    server {
        listen 127.0.0.1:%[4]d;
`, s.Dir, tmp, s.config.Global, l.port)
	if s.config.TLS {
		fmt.Fprintf(&conf, `        listen 127.0.0.1:%d ssl http2;
        ssl_certificate %s;
        ssl_certificate_key %s;
`, l.tlsPort, l.cert, l.key)
	}
	fmt.Fprintf(&conf, "        root %s/www;\n        %s\n", s.Dir, s.config.Extra)
	if s.config.Socket != "" {
		fmt.Fprintf(&conf, "        location /tandem { include %s/tandem.conf; }\n", s.Dir)
	}
	if s.config.Mercure == ByFastCGI {
		// As nginx/tandem.conf says, and what it must win against.
		conf.WriteString("        location ~ /\\. { deny all; }\n")
		for _, path := range []string{"mercure", "oauth-protected-resource/.well-known/mercure"} {
			fmt.Fprintf(&conf, "        location ^~ /.well-known/%s { include %s/tandem.conf; }\n", path, s.Dir)
		}
	}
	if s.config.Upstream != "" {
		fmt.Fprintf(&conf, "        location /tandem { proxy_pass %s; }\n", s.config.Upstream)
	}
	conf.WriteString("    }\n}\n")
	file := filepath.Join(s.Dir, "nginx.conf")
	args = []string{"-e", filepath.Join(s.Dir, "error.log"), "-c", file}
	return args, append([]string{"-t", "-q"}, args...), s.write("nginx.conf", conf.String())
}

func orNone(socket string) string {
	if socket == "" {
		return "/nonexistent"
	}
	return socket
}
