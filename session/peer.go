package session

import (
	"net"
	"net/http"
	"strings"
	"unique"

	"tandem/internal/gateway"
)

// Peer is what a session knows about its client.
type Peer struct {
	Transport string // "single" or "pulse"
	Codec     string // of what the client sends: "lines", "json" or "binary"
	Interface string // how the request came: "cgi", "fastcgi" or "http"
	Software  string // the web server's SERVER_SOFTWARE, where it tells
	User      string // REMOTE_USER: whom the web server authenticated; "" for nobody
	Addr      string // the client's IP address, as the web server saw it; "" where there is none
	Header    http.Header
	Vars      map[string]string // CGI meta-variables (RFC 3875 section 4.1) without HTTP_*
}

func newPeer(r *http.Request, info *gateway.Info) Peer {
	p := Peer{
		Interface: info.Interface,
		// What stays when the request is let go must not hold all its variables, which
		// may be pieces of one string.
		Software: unique.Make(info.Software).Value(),
		User:     strings.Clone(info.User),
		Header:   r.Header,
		Vars:     info.Vars,
	}
	p.Header.Set("Host", r.Host) // which net/http keeps apart, and programs know as HTTP_HOST
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		p.Addr = host // a unix socket's peer has none
	}
	return p
}
