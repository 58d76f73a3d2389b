package session

import (
	"encoding/json"
	"net/http"
	"strings"

	"tandem/internal/gateway"
	"tandem/session/flow"
	"tandem/session/frame"
)

// Description is what GET of an endpoint answers, as JSON. Clients choose their
// transport and codec by it.
type Description struct {
	Version    int      `json:"version"`
	Transports []string `json:"transports"` // to try, best first
	Codecs     []string `json:"codecs"`
	Interface  string   `json:"interface"` // how the web server reaches us
	Software   string   `json:"software,omitempty"`
	Limits     struct {
		MaxMessage  int64  `json:"max_message"`  // bytes
		LinesBuffer int64  `json:"lines_buffer"` // bytes
		Window      uint64 `json:"window"`       // bytes
		Messages    uint64 `json:"messages"`     // fragments
	} `json:"limits"`
	Heartbeat      int64 `json:"heartbeat"`       // ms
	Grace          int64 `json:"grace"`           // ms that a session can be resumed for; 0: it can't be
	StreamedUpload bool  `json:"streamed_upload"` // the send half of split may be one long request
}

func (h *Handler) describe(w http.ResponseWriter, r *http.Request, info *gateway.Info) {
	d := Description{
		Version:    frame.Version,
		Transports: h.transports(info),
		Interface:  info.Interface,
		Software:   info.Software,
		Heartbeat:  h.options.Heartbeat.Milliseconds(),
		Grace:      h.options.Grace.Milliseconds(),

		StreamedUpload: uploads(info),
	}
	for _, c := range frame.Codecs() {
		d.Codecs = append(d.Codecs, c.Name())
	}
	d.Limits.MaxMessage = h.options.MaxMessage
	d.Limits.LinesBuffer = h.options.LinesBuffer
	d.Limits.Window = flow.InitialWindow
	d.Limits.Messages = flow.InitialMessages
	body, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic(err) // numbers and strings
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	w.Write(append(body, '\n')) // an error here is the client's loss: it is gone
}

// transports are those that may work on the way that a request came, best
// first; none where the web server is known to hold either direction back
// (docs/servers.md, "Two ways at once").
func (h *Handler) transports(info *gateway.Info) []string {
	list := []string{}
	both := bothWays(info)
	if both == "single" {
		list = append(list, both)
	}
	if h.apartWorks(info) {
		list = append(list, "split")
	}
	if both == "pulse" {
		list = append(list, both)
	}
	if h.apartWorks(info) && h.options.Grace > 0 {
		list = append(list, "poll")
	}
	return list
}

// bothWays is the transport that streams both ways in one request, if one does.
func bothWays(info *gateway.Info) string {
	switch {
	case proxyFCGI(info):
		return "pulse"
	case is(info, "Apache"), is(info, "HAProxy"), is(info, "Caddy"), is(info, "h2o"):
		return ""
	}
	return "single"
}

// apartWorks tells whether a session's other requests find it: where each
// request is a process of its own, or one of several, only if these find each other.
func (h *Handler) apartWorks(info *gateway.Info) bool {
	return h.options.Owners != nil || info.Interface != gateway.CGI
}

// uploads tells whether a request whose body stays open for long does no harm
// beside the receive half: behind Apache it takes a worker, and meets time-outs on
// requests.
func uploads(info *gateway.Info) bool {
	return info.Interface == gateway.HTTP || is(info, "nginx") || is(info, "lighttpd")
}

// is tells whether the web server before us is the one of that name.
func is(info *gateway.Info, name string) bool {
	return info.Interface != gateway.HTTP && strings.HasPrefix(info.Software, name)
}

// transport is what carries a session over the one request r, or with it.
func transport(r *http.Request, info *gateway.Info) string {
	switch asked := r.Header.Get("Tandem-Transport"); {
	case asked == "split" || asked == "poll":
		return asked
	case pulsed(r, info):
		return "pulse"
	}
	return "single"
}

// pulsed tells whether the response of r is released by the client's pulses
// alone: behind Apache's mod_proxy_fcgi always, whatever the client knows, and
// elsewhere where the client says that it will pulse.
func pulsed(r *http.Request, info *gateway.Info) bool {
	return r.Header.Get("Tandem-Transport") == "pulse" || proxyFCGI(info)
}

// proxyFCGI tells Apache's mod_proxy_fcgi from its mod_fcgid by the file name
// that it makes up.
func proxyFCGI(info *gateway.Info) bool {
	return info.Interface == gateway.FastCGI && is(info, "Apache") && strings.HasPrefix(info.Vars["SCRIPT_FILENAME"], "proxy:")
}
