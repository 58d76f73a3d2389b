package servertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// apacheModuleDirs are where Debian, Fedora and Arch keep the modules.
var apacheModuleDirs = []string{"/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules"}

// writeApache surrounds apache/tandem-*.conf, or passes all on to another server.
func writeApache(s *Server, l layout) (args, check []string, err error) {
	var modules string
	for _, dir := range apacheModuleDirs {
		if _, err := os.Stat(filepath.Join(dir, "mod_proxy_fcgi.so")); err == nil {
			modules = dir
			break
		}
	}
	if modules == "" {
		return nil, nil, &MissingError{fmt.Sprintf("mod_proxy_fcgi.so in %v", apacheModuleDirs), "apache2"}
	}
	if err := s.install("apache/tandem-proxy-fcgi.conf", "apache/tandem-cgi.conf", "apache/tandem-fcgid.conf"); err != nil {
		return nil, nil, err
	}
	load := []string{"authz_core", "authn_core", "authn_file", "auth_basic", "authz_user", "mime", "alias", "env", "deflate", "filter", "reqtimeout", "proxy", "proxy_fcgi"}
	mpm := "ThreadsPerChild 64\nServerLimit 16\nThreadLimit 64\nMaxRequestWorkers 1024\n"
	if s.config.Prefork {
		load = append(load, "mpm_prefork", "cgi")
		mpm = "ServerLimit 256\nMaxRequestWorkers 256\n"
	} else {
		load = append(load, "mpm_event", "cgid")
	}
	if s.config.TLS {
		load = append(load, "socache_shmcb", "ssl", "http2")
	}
	if s.config.Upstream != "" {
		load = append(load, "proxy_http")
	}
	if s.config.Binary != "" {
		if _, err := os.Stat(filepath.Join(modules, "mod_fcgid.so")); err != nil {
			return nil, nil, &MissingError{"mod_fcgid.so in " + modules, "libapache2-mod-fcgid"}
		}
		load = append(load, "fcgid")
	}
	var conf strings.Builder
	for _, name := range load {
		fmt.Fprintf(&conf, "LoadModule %s_module %s/mod_%s.so\n", name, modules, name)
	}
	fmt.Fprintf(&conf, `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/httpd.pid
ErrorLog %[1]s/error.log
LogLevel info
ServerName 127.0.0.1
StartServers 1
%[2]s
TypesConfig /dev/null
AddType text/plain .txt
Listen 127.0.0.1:%[3]d

# What the shipped files must win against: Debian's mods-available.
RequestReadTimeout header=20-40,minrate=500 body=10,minrate=500
AddOutputFilterByType DEFLATE text/plain application/x-ndjson application/json

<Directory />
    AllowOverride None
    Require all denied
</Directory>
<Directory %[1]s/www>
    Require all granted
</Directory>
`, s.Dir, mpm, l.port)
	if !s.config.Prefork {
		conf.WriteString("ScriptSock cgid.sock\n")
	}
	if s.config.Binary != "" {
		fmt.Fprintf(&conf, "FcgidIPCDir %[1]s/tmp\nFcgidProcessTableFile %[1]s/fcgid.shm\n", s.Dir)
	}
	if s.config.Socket != "" {
		fmt.Fprintf(&conf, "Define TANDEM_SOCKET %s\n", s.config.Socket)
	}
	if s.config.Binary != "" {
		fmt.Fprintf(&conf, "Define TANDEM_CGI_DIR %[1]s\nDefine TANDEM_FCGID_DIR %[1]s\n", s.CGIDir)
	}
	if s.config.TandemConfig != "" {
		fmt.Fprintf(&conf, "Define TANDEM_CONFIG %s\n", s.config.TandemConfig)
	}
	fmt.Fprintf(&conf, "%s\n", s.config.Global)
	s.apacheHost(&conf, l.port, "")
	if s.config.TLS {
		fmt.Fprintf(&conf, "Listen 127.0.0.1:%d\n", l.tlsPort)
		s.apacheHost(&conf, l.tlsPort, fmt.Sprintf("SSLEngine on\nSSLCertificateFile %s\nSSLCertificateKeyFile %s\nProtocols h2 http/1.1\n", l.cert, l.key))
	}
	file := filepath.Join(s.Dir, "httpd.conf")
	args = []string{"-d", s.Dir, "-f", file}
	return append(args, "-DFOREGROUND"), append(args, "-t"), s.write("httpd.conf", conf.String())
}

func (s *Server) apacheHost(conf *strings.Builder, port int, tls string) {
	fmt.Fprintf(conf, "<VirtualHost 127.0.0.1:%d>\nDocumentRoot %s/www\n%s%s\n", port, s.Dir, tls, s.config.Extra)
	include := func(file, by string) {
		line := fmt.Sprintf("Include %s/%s\n", s.Dir, file)
		if s.config.Mercure == by {
			line = "Define TANDEM_MERCURE\n" + line + "UnDefine TANDEM_MERCURE\n"
		}
		conf.WriteString(line)
	}
	if s.config.Socket != "" {
		include("tandem-proxy-fcgi.conf", ByFastCGI)
	}
	if s.config.Binary != "" {
		include("tandem-cgi.conf", ByCGI)
		include("tandem-fcgid.conf", ByFcgid)
	}
	if s.config.Upstream != "" {
		fmt.Fprintf(conf, "ProxyPass /tandem %s/tandem\n", s.config.Upstream)
	}
	conf.WriteString("</VirtualHost>\n")
}
