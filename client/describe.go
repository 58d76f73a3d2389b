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

// describe asks the endpoint which transports work behind its web server: an
// empty list if it knows that none does, nil if it doesn't tell.
func (d *dialer) describe(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*connectTimeout,
		fmt.Errorf("client: GET %s: expected the endpoint's description, got no answer in %v", d.url.Redacted(), 2*connectTimeout))
	defer cancel()
	req := d.request(ctx, http.MethodGet, "application/json")
	rt := d.options.roundTripper()
	defer rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("client: GET %s: %w", req.URL.Redacted(), err)
	}
	defer resp.Body.Close()
	d.software = resp.Header.Get("Server")
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return nil, nil // GET is not let through; POST may be
	default:
		return nil, notASession(req, resp, d.codec.MediaType())
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "application/json" {
		return nil, nil
	}
	var description struct {
		Version    int
		Transports []string
		Software   string
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDescription))
	if err != nil {
		return nil, fmt.Errorf("client: GET %s: %w", req.URL.Redacted(), err)
	}
	if json.Unmarshal(body, &description) != nil || description.Version == 0 {
		return nil, nil
	}
	if description.Version != frame.Version {
		return nil, fmt.Errorf("client: %s speaks version %d of the protocol, expected %d: use a client of that version", d.url.Redacted(), description.Version, frame.Version)
	}
	if description.Software != "" {
		d.software = description.Software
	}
	return supported(description.Transports), nil
}
