package session

import (
	"fmt"
	"net/http"
	"strconv"

	"tandem/internal/problem"
)

// refusal is an answer to a request that does not become a session.
type refusal struct {
	status     int
	detail     string // for people
	retryAfter int    // seconds; 0: don't say
	allow      string // methods, for 405
	ack        bool   // of a batch: answered with an ack
	late       bool   // because a later request of the session has come
}

func refusalf(status int, format string, args ...any) *refusal {
	return &refusal{status: status, detail: fmt.Sprintf(format, args...)}
}

func (p *refusal) write(w http.ResponseWriter) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.allow != "" {
		w.Header().Set("Allow", p.allow)
	}
	problem.Write(w, p.status, p.detail)
}
