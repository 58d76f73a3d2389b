package probe

import (
	"slices"
	"strings"

	"tandem/internal/gateway"
)

// Echo is the answer to the probe "echo": the request as it came here.
type Echo struct {
	Process   string `json:"process"`
	Interface string `json:"interface"`        // as in the endpoint's description
	Module    string `json:"module,omitempty"` // of Apache: "mod_proxy_fcgi", "mod_fcgid" or "mod_cgi"
	Software  string `json:"software,omitempty"`
	Protocol  string `json:"protocol"` // SERVER_PROTOCOL
	Port      string `json:"port"`     // REMOTE_PORT: the client's own, where no proxy is in between
	User      bool   `json:"user"`     // the web server named a user
	// Header is the request's header. Of fields that may hold what hops keep
	// to themselves there are the names alone.
	Header map[string][]string `json:"header"`
	// Sent is the answer's own header, before any hop had it.
	Sent map[string]string `json:"sent"`
}

// shown are the fields whose values are no secret to who sent the request.
var shown = []string{"Accept", "Accept-Encoding", "Cache-Control", "Connection", "Content-Length", "Content-Type", "Host", "Incremental", "Prefer",
	"Te", "Transfer-Encoding", "User-Agent", "Via"}

func (h *Handler) echo(x *exchange) {
	info := gateway.Of(x.r)
	e := Echo{
		Process:   h.process,
		Interface: info.Interface,
		Software:  info.Software,
		Module:    module(info),
		Protocol:  info.Vars["SERVER_PROTOCOL"],
		Port:      info.Vars["REMOTE_PORT"],
		User:      info.User != "",
		Header:    make(map[string][]string, len(x.r.Header)),
		Sent:      streamed,
	}
	for name, values := range x.r.Header {
		if !slices.Contains(shown, name) && !strings.HasPrefix(name, "Tandem-") {
			values = nil
		}
		e.Header[name] = values
	}
	x.answer(e)
}

// module is by which of its modules Apache passed the request on: docs/servers.md
// trap 17.
func module(info *gateway.Info) string {
	switch {
	case !strings.HasPrefix(info.Software, "Apache"):
		return ""
	case info.Interface == gateway.CGI:
		return "mod_cgi"
	case strings.HasPrefix(info.Vars["SCRIPT_FILENAME"], "proxy:"):
		return "mod_proxy_fcgi"
	default:
		return "mod_fcgid"
	}
}
