package servertest

import (
	"fmt"
	"path/filepath"
)

// writePrivoxy is a forward proxy with the rules of Debian's package.
func writePrivoxy(s *Server, l layout) (args, check []string, err error) {
	file := filepath.Join(s.Dir, "privoxy.conf")
	err = s.write("privoxy.conf", fmt.Sprintf(`confdir /etc/privoxy
logdir %[1]s
logfile error.log
debug 12288
actionsfile match-all.action
actionsfile default.action
filterfile default.filter
listen-address 127.0.0.1:%[2]d
%[3]s
`, s.Dir, l.port, s.config.Global))
	return []string{"--no-daemon", file}, []string{"--config-test", file}, err
}
