package servertest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// A flavour is what differs between the servers.
type flavour struct {
	commands []string // names of its program
	packages string   // what to install, by Debian's names
	user     func() *syscall.Credential
	// patient marks a server that waits for open requests when it gets SIGTERM, for
	// ever: it is killed.
	patient bool
	// forward marks a forward proxy, which has nothing of its own to show.
	forward bool
	// write writes all configuration and returns the arguments that make the
	// server run in the foreground, and those that check the configuration (nil:
	// it can't).
	write func(s *Server, l layout) (args, check []string, err error)
}

// layout is what a configuration is made of.
type layout struct {
	port, tlsPort int
	cert, key     string
}

var flavours = map[Kind]*flavour{
	Nginx:     {commands: []string{"nginx"}, packages: "nginx-light", write: writeNginx},
	Apache:    {commands: []string{"apache2", "httpd"}, packages: "apache2 libapache2-mod-fcgid", user: notRoot, write: writeApache},
	Lighttpd:  {commands: []string{"lighttpd"}, packages: "lighttpd lighttpd-mod-openssl", write: writeLighttpd},
	HAProxy:   {commands: []string{"haproxy"}, packages: "haproxy", write: writeHAProxy},
	Caddy:     {commands: []string{"caddy"}, packages: "caddy", write: writeCaddy},
	H2O:       {commands: []string{"h2o"}, packages: "h2o", patient: true, write: writeH2O},
	Squid:     {commands: []string{"squid"}, packages: "squid", user: notRoot, forward: true, write: writeSquid},
	Privoxy:   {commands: []string{"privoxy"}, packages: "privoxy", forward: true, write: writePrivoxy},
	Tinyproxy: {commands: []string{"tinyproxy"}, packages: "tinyproxy", forward: true, write: writeTinyproxy},
}

// Known tells whether k is one of [Kinds].
func (k Kind) Known() bool { return slices.Contains(Kinds, k) }

// MissingError says that something isn't installed.
type MissingError struct {
	What     string // what was looked for
	Packages string // what brings it, by Debian's names
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("servertest: no %s on this machine; install it: apt-get install %s", e.What, e.Packages)
}

// Installed returns a *[MissingError] if the server can't run here.
func Installed(k Kind) error {
	f := flavours[k]
	if f == nil {
		return fmt.Errorf("servertest: %q is no web server; there are %v", k, slices.Sorted(maps.Keys(flavours)))
	}
	_, err := f.find()
	return err
}

// find looks where distributions put servers, too: sbin is in no user's PATH.
func (f *flavour) find() (string, error) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin")
	for _, name := range f.commands {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", &MissingError{f.commands[0], f.packages}
}
