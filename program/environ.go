package program

import (
	"maps"
	"os"
	"slices"
	"strings"
)

// peer is what the child's environment and the limits need to know of the
// other end: a copy of session.Peer's fields, so that tests need no session.
type peer struct {
	user, addr string
	header     map[string][]string
	vars       map[string]string
}

// key is whom the child counts for: the user whom the web server has
// authenticated, else the address. Peers with neither (plain HTTP on a unix
// socket) count as one. The prefix keeps a user named like an address apart.
func (p *peer) key() string {
	if p.user != "" {
		return "user " + p.user
	}
	return "address " + p.addr
}

// metaVariables are the variables of RFC 3875 section 4.1 that a program gets
// from the request. Everything else that a web server sends stays out: FastCGI
// params may carry any name, LD_PRELOAD and BASH_ENV included. Left out of the RFC's
// are CONTENT_LENGTH and CONTENT_TYPE, which describe the request's body: the program's
// stdin is not that body, and a CGI library would wait for so many bytes.
// REMOTE_USER comes from the peer.
var metaVariables = []string{
	"AUTH_TYPE", "GATEWAY_INTERFACE", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING",
	"REMOTE_ADDR", "REMOTE_HOST", "REMOTE_IDENT", "REQUEST_METHOD", "SCRIPT_NAME",
	"SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
}

// unpassedHeaders never become HTTP_* variables.
var unpassedHeaders = map[string]bool{
	"PROXY":               true, // HTTP_PROXY is configuration to HTTP libraries ("httpoxy")
	"AUTHORIZATION":       true, // passwords: RFC 3875 section 4.1.18 lets servers leave it out; REMOTE_USER says who it is
	"PROXY_AUTHORIZATION": true,
	"CONTENT_LENGTH":      true, // as above, of the request's body
	"CONTENT_TYPE":        true,
}

// requestSets tells whether name is one that, in a CGI program's own
// environment, came from the request.
func requestSets(name string) bool {
	switch name {
	case "REMOTE_USER", "CONTENT_LENGTH", "CONTENT_TYPE", "REQUEST_URI", "SCRIPT_FILENAME":
		return true
	}
	return strings.HasPrefix(name, "HTTP_") || strings.HasPrefix(name, "REDIRECT_") ||
		slices.Contains(metaVariables, name)
}

// passedEnv is what names bring from the server's own environment.
func passedEnv(names []string) []string {
	var env []string
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// environ makes the child's whole environment for one session. Later entries
// win, so what the administrator wrote (passed, extra) can't be changed by a request.
func environ(id string, p *peer, passed, extra []string) []string {
	env := []string{"PATH=" + Path, "LANG=C.UTF-8"}
	add := func(name, value string) {
		// A NUL would end the value early in the child; os/exec refuses it.
		if !strings.ContainsRune(value, 0) {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range metaVariables {
		if v, ok := p.vars[name]; ok {
			add(name, v)
		}
	}
	if p.user != "" {
		add("REMOTE_USER", p.user)
	}
	// Sorted, so that the same request gives the same environment.
	for _, name := range slices.Sorted(maps.Keys(p.header)) {
		if v, ok := headerVariable(name); ok {
			sep := ", "
			if v == "HTTP_COOKIE" {
				sep = "; "
			}
			add(v, strings.Join(p.header[name], sep))
		}
	}
	add("TANDEM_SESSION", id)
	env = append(env, passed...)
	return append(env, extra...)
}

// headerVariable gives the HTTP_* name of a header field. Only names of letters,
// digits and hyphens have one: with any other character two fields could become
// the same variable (X_Real_IP would pose as X-Real-IP).
func headerVariable(field string) (string, bool) {
	for _, c := range []byte(field) {
		switch {
		case c == '-' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z':
		default:
			return "", false
		}
	}
	name := strings.ToUpper(strings.ReplaceAll(field, "-", "_"))
	if field == "" || unpassedHeaders[name] {
		return "", false
	}
	return "HTTP_" + name, true
}
