package servertest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// writeCaddy surrounds caddy/tandem.caddyfile, or passes all on to another server.
func writeCaddy(s *Server, l layout) (args, check []string, err error) {
	if err := s.install("caddy/tandem.caddyfile"); err != nil {
		return nil, nil, err
	}
	s.env = []string{"TANDEM_SOCKET=" + orNone(s.config.Socket), "HOME=" + s.Dir, "XDG_DATA_HOME=" + s.Dir, "XDG_CONFIG_HOME=" + s.Dir}
	var conf strings.Builder
	fmt.Fprintf(&conf, "{\n\tadmin off\n\tauto_https off\n\t%s\n}\n", s.config.Global)
	s.caddySite(&conf, fmt.Sprintf("http://127.0.0.1:%d", l.port), "")
	if s.config.TLS {
		s.caddySite(&conf, fmt.Sprintf("https://127.0.0.1:%d", l.tlsPort), fmt.Sprintf("tls %s %s", l.cert, l.key))
	}
	file := filepath.Join(s.Dir, "Caddyfile")
	args = []string{"--adapter", "caddyfile", "--config", file}
	return append([]string{"run"}, args...), append([]string{"validate"}, args...), s.write("Caddyfile", conf.String())
}

func (s *Server) caddySite(conf *strings.Builder, address, tls string) {
	fmt.Fprintf(conf, "%s {\n\tbind 127.0.0.1\n\troot * %s/www\n\tfile_server /ready.txt\n\t%s\n\t%s\n", address, s.Dir, tls, s.config.Extra)
	if s.config.Upstream != "" {
		fmt.Fprintf(conf, "\treverse_proxy /tandem* %s\n", s.config.Upstream)
	} else {
		fmt.Fprintf(conf, "\timport %s/tandem.caddyfile\n", s.Dir)
	}
	conf.WriteString("}\n")
}
