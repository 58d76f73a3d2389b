package mercure

import (
	"encoding/json"
	"net/http"
)

// metadataPath is where the metadata of protected resources is (RFC 9728); the resource's path follows.
const metadataPath = "/.well-known/oauth-protected-resource"

// draft is the revision of the protocol.
const draft = 8

// serveMetadata answers with the hub's metadata (section 10.2).
func (h *Handler) serveMetadata(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		h.refuse(w, &refusal{status: http.StatusMethodNotAllowed, detail: "Expected GET."})
		return
	case h.o.URL == "":
		h.refuse(w, &refusal{status: http.StatusNotFound, detail: "The hub has no metadata: its URL is not configured."})
		return
	}
	body, err := json.Marshal(struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers,omitempty"`
		Methods  []string `json:"bearer_methods_supported"`
		Details  []string `json:"authorization_details_types_supported"`
		Cookie   bool     `json:"mercure_cookie"`
		Version  int      `json:"mercure_version"`
	}{h.o.URL, h.o.Issuers, []string{"header", "query"}, []string{"mercure"}, true, draft})
	if err != nil {
		panic(err) // strings, a bool and a number
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Link", h.link)
	w.Write(body)
}
