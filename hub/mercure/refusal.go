package mercure

import (
	"errors"
	"net/http"
	"strconv"

	"tandem/hub"
	"tandem/internal/problem"
)

// Error codes of RFC 6750 section 3.1.
const (
	invalidRequest    = "invalid_request"
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
)

// retryAfter is what a client is told to wait when the hub can't do its work, in seconds.
const retryAfter = 5

// refusal is why a request is refused.
type refusal struct {
	status int
	code   string // of WWW-Authenticate
	detail string // for people
}

func malformed(detail string) *refusal {
	return &refusal{http.StatusBadRequest, invalidRequest, detail}
}

// noToken is the answer where a token is needed and none came.
func noToken(detail string) *refusal {
	return &refusal{status: http.StatusUnauthorized, detail: detail}
}

func forbidden(detail string) *refusal {
	return &refusal{http.StatusForbidden, insufficientScope, detail}
}

// ofHub makes a refusal of an error of the hub's.
func (h *Handler) ofHub(err error) *refusal {
	var refused *hub.Refused
	switch {
	case errors.As(err, &refused):
		switch refused.Status {
		case http.StatusBadRequest:
			return malformed(refused.Text)
		case http.StatusForbidden:
			return forbidden(refused.Text)
		}
		return &refusal{status: refused.Status, detail: refused.Text}
	case errors.Is(err, hub.ErrTooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, detail: "The update is larger than the hub's storage takes."}
	}
	if errors.Is(err, hub.ErrFull) {
		h.log.Info("mercure: request refused: the hub has as many subscribers as it may have (max_subscribers)")
		return &refusal{status: http.StatusServiceUnavailable, detail: "This hub has as many subscribers as it may have (max_subscribers). Try again later."}
	}
	h.log.Error("mercure: the hub can't do its work", "error", err)
	return &refusal{status: http.StatusServiceUnavailable, detail: "The hub can't do its work at the moment: its log says why. Nothing was confirmed; try again."}
}

// refuse answers with a refusal.
func (h *Handler) refuse(w http.ResponseWriter, f *refusal) {
	if f.code != "" || f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", h.challenge(f))
	}
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	problem.Write(w, f.status, f.detail)
}

// challenge is RFC 6750's and RFC 9728's.
func (h *Handler) challenge(f *refusal) string {
	s := "Bearer"
	if f.code != "" {
		s += ` error="` + f.code + `"`
	}
	if h.metadata != "" {
		if f.code != "" {
			s += ","
		}
		s += ` resource_metadata="` + h.metadata + `"`
	}
	return s
}
