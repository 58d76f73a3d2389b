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
	Heartbeat int64 `json:"heartbeat"` // ms
}

func (h *Handler) describe(w http.ResponseWriter, r *http.Request, info *gateway.Info) {
	d := Description{
		Version:    frame.Version,
		Transports: transports(info),
		Interface:  info.Interface,
		Software:   info.Software,
		Heartbeat:  h.options.Heartbeat.Milliseconds(),
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
func transports(info *gateway.Info) []string {
	if !strings.HasPrefix(info.Software, "Apache") {
		return []string{"single"}
	}
	if info.Interface == gateway.FastCGI && proxyFCGI(info) {
		return []string{"pulse"}
	}
	return []string{}
}

// transport is what carries a session over the one request r.
func transport(r *http.Request, info *gateway.Info) string {
	if pulsed(r, info) {
		return "pulse"
	}
	return "single"
}

// pulsed tells whether the response of r is released by the client's pulses
// alone: behind Apache's mod_proxy_fcgi always, whatever the client knows, and
// elsewhere where the client says that it will pulse.
func pulsed(r *http.Request, info *gateway.Info) bool {
	return r.Header.Get("Tandem-Transport") == "pulse" ||
		info.Interface == gateway.FastCGI && strings.HasPrefix(info.Software, "Apache") && proxyFCGI(info)
}

// proxyFCGI tells Apache's mod_proxy_fcgi from its mod_fcgid by the file name
// that it makes up.
func proxyFCGI(info *gateway.Info) bool {
	return strings.HasPrefix(info.Vars["SCRIPT_FILENAME"], "proxy:")
}
