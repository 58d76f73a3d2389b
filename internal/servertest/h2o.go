package servertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeH2O surrounds h2o/tandem.yaml, or passes all on to another server. h2o has no variables: the socket's path is
// changed in the copy.
func writeH2O(s *Server, l layout) (args, check []string, err error) {
	if err := s.install("h2o/tandem.yaml"); err != nil {
		return nil, nil, err
	}
	shipped := filepath.Join(s.Dir, "tandem.yaml")
	data, err := os.ReadFile(shipped)
	if err != nil {
		return nil, nil, err
	}
	text := strings.ReplaceAll(string(data), "/run/tandem/tandem.sock", orNone(s.config.Socket))
	if err := s.write("tandem.yaml", text); err != nil {
		return nil, nil, err
	}
	var conf strings.Builder
	if os.Geteuid() == 0 {
		conf.WriteString("user: root\n") // as ourselves; the default is nobody
	}
	fmt.Fprintf(&conf, `error-log: %[1]s/error.log
num-threads: 2
temp-buffer-path: %[1]s/tmp
# What the shipped file must win against.
compress: ON
%[2]s
listen:
  host: 127.0.0.1
  port: %[3]d
`, s.Dir, s.config.Global, l.port)
	if s.config.TLS {
		fmt.Fprintf(&conf, `listen:
  host: 127.0.0.1
  port: %d
  ssl:
    certificate-file: %s
    key-file: %s
`, l.tlsPort, l.cert, l.key)
	}
	tandem := fmt.Sprintf("!file %s/tandem.yaml", s.Dir)
	if s.config.Upstream != "" {
		tandem = fmt.Sprintf("{ proxy.reverse.url: %s/tandem }", s.config.Upstream)
	}
	fmt.Fprintf(&conf, `hosts:
  default:
    paths:
      "/tandem": %[1]s
      "/": { file.dir: %[2]s/www }
    %[3]s
`, tandem, s.Dir, s.config.Extra)
	file := filepath.Join(s.Dir, "h2o.yaml")
	args = []string{"-c", file}
	return args, append([]string{"-t"}, args...), s.write("h2o.yaml", conf.String())
}
