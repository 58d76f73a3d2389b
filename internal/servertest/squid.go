package servertest

import (
	"fmt"
	"path/filepath"
)

// writeSquid is a forward proxy that keeps nothing and lets everybody through.
func writeSquid(s *Server, l layout) (args, check []string, err error) {
	file := filepath.Join(s.Dir, "squid.conf")
	err = s.write("squid.conf", fmt.Sprintf(`http_port 127.0.0.1:%[2]d
http_access allow all
cache deny all
cache_mem 1 MB
max_filedescriptors 4096
pid_filename %[1]s/squid.pid
cache_log %[1]s/error.log
access_log none
coredump_dir %[1]s
netdb_filename none
pinger_enable off
visible_hostname localhost
shutdown_lifetime 0 seconds
%[3]s
`, s.Dir, l.port, s.config.Global))
	return []string{"-N", "-f", file}, []string{"-k", "parse", "-f", file}, err
}
