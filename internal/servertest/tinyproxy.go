package servertest

import (
	"fmt"
	"path/filepath"
)

// writeTinyproxy is a forward proxy as tinyproxy's defaults make it.
func writeTinyproxy(s *Server, l layout) (args, check []string, err error) {
	file := filepath.Join(s.Dir, "tinyproxy.conf")
	err = s.write("tinyproxy.conf", fmt.Sprintf(`Port %[2]d
Listen 127.0.0.1
LogFile "%[1]s/error.log"
PidFile "%[1]s/tinyproxy.pid"
MaxClients 1000
%[3]s
`, s.Dir, l.port, s.config.Global))
	return []string{"-d", "-c", file}, nil, err
}
