package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"

	"tandem/session/frame"
)

// maxDescription is how much of a description is read, in bytes.
const maxDescription = 64 << 10

// describe asks the endpoint which transports work behind its web server.
func (d *dialer) describe(ctx context.Context) (advice, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*connectTimeout,
		fmt.Errorf("client: GET %s: expected the endpoint's description, got no answer in %v", d.url.Redacted(), 2*connectTimeout))
	defer cancel()
	req := d.request(ctx, http.MethodGet, "application/json")
	rt := d.options.roundTripper(false)
	defer rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return advice{}, cause
		}
		return advice{}, fmt.Errorf("client: GET %s: %w", req.URL.Redacted(), err)
	}
	defer resp.Body.Close()
	if server := resp.Header.Get("Server"); server != "" {
		d.software.Store(&server)
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return advice{}, nil // GET is not let through; POST may be
	default:
		return advice{}, notASession(req, resp, d.codec.MediaType())
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "application/json" {
		return advice{}, nil
	}
	var description struct {
		Version    int
		Transports []string
		Software   string
		Streamed   bool `json:"streamed_upload"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDescription))
	if err != nil {
		return advice{}, fmt.Errorf("client: GET %s: %w", req.URL.Redacted(), err)
	}
	if json.Unmarshal(body, &description) != nil || description.Version == 0 {
		return advice{}, nil
	}
	if description.Version != frame.Version {
		return advice{}, fmt.Errorf("client: %s speaks version %d of the protocol, expected %d: use a client of that version", d.url.Redacted(), description.Version, frame.Version)
	}
	if description.Software != "" {
		d.software.Store(&description.Software)
	}
	return advice{description.Transports, description.Streamed}, nil
}
