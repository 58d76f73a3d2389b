package servertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lighttpdTLS is where Debian keeps the module.
const lighttpdTLS = "/usr/lib/lighttpd/mod_openssl.so"

// writeLighttpd surrounds lighttpd/tandem-*.conf (the paths are ours), or passes all
// on to another server.
func writeLighttpd(s *Server, l layout) (args, check []string, err error) {
	if err := s.install("lighttpd/tandem-fastcgi.conf", "lighttpd/tandem-cgi.conf", "lighttpd/mercure-fastcgi.conf", "lighttpd/mercure-cgi.conf"); err != nil {
		return nil, nil, err
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `server.document-root = "%[1]s/www"
server.bind = "127.0.0.1"
server.port = %[2]d
server.errorlog = "%[1]s/error.log"
server.upload-dirs = ( "%[1]s/tmp" )
server.max-connections = 10000
server.max-fds = 20000
mimetype.assign = ( ".txt" => "text/plain" )
var.tandem_socket = "%[3]s"
var.tandem_cgi_dir = "%[4]s"
var.tandem_config = "%[5]s"
%[6]s
%[7]s
`, s.Dir, l.port, orNone(s.config.Socket), s.CGIDir, s.config.TandemConfig, s.config.Global, s.config.Extra)
	if s.config.Socket != "" {
		fmt.Fprintf(&conf, "include \"%s/tandem-fastcgi.conf\"\n", s.Dir)
	}
	if s.config.Binary != "" {
		fmt.Fprintf(&conf, "include \"%s/tandem-cgi.conf\"\n", s.Dir)
	}
	if s.config.Mercure != "" {
		fmt.Fprintf(&conf, "include \"%s/mercure-%s.conf\"\n", s.Dir, s.config.Mercure)
	}
	if s.config.Upstream != "" {
		host, port, _ := strings.Cut(strings.TrimPrefix(s.config.Upstream, "http://"), ":")
		fmt.Fprintf(&conf, `server.modules += ( "mod_proxy" )
$HTTP["url"] =~ "^/tandem" { proxy.server = ( "" => (( "host" => "%s", "port" => %s )) ) }
`, host, port)
	}
	if s.config.TLS {
		if _, err := os.Stat(lighttpdTLS); err != nil {
			return nil, nil, &MissingError{lighttpdTLS, "lighttpd-mod-openssl"}
		}
		fmt.Fprintf(&conf, `server.modules += ( "mod_openssl" )
$SERVER["socket"] == "127.0.0.1:%d" {
    ssl.engine = "enable"
    ssl.pemfile = "%s"
    ssl.privkey = "%s"
}
`, l.tlsPort, l.cert, l.key)
	}
	file := filepath.Join(s.Dir, "lighttpd.conf")
	return []string{"-D", "-f", file}, []string{"-tt", "-f", file}, s.write("lighttpd.conf", conf.String())
}
