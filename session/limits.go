package session

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"tandem/internal/gateway"
)

// Limits says how many sessions there may be at once; 0 is no limit. It may be
// shared by several handlers and is safe for concurrent use. Its fields are set
// before its first use.
type Limits struct {
	Sessions int // in all
	PerUser  int // of one authenticated user
	PerAddr  int // from one address, of those with an address and without a user

	mu     sync.Mutex
	all    int
	byUser map[string]int
	byAddr map[string]int
}

// admit takes a place for p, or tells which limit is reached. release gives the
// place back; it is never nil.
func (l *Limits) admit(p *Peer) (release func(), refused *refusal) {
	if l == nil {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Sessions > 0 && l.all >= l.Sessions {
		detail := fmt.Sprintf("This server already holds %d sessions, its limit (limits.sessions). Try again later.", l.all)
		if p.Interface != gateway.HTTP && strings.HasPrefix(p.Software, "Apache") {
			detail += " The limit keeps Apache's MaxRequestWorkers from being used up by open sessions: raise both together."
		}
		return func() {}, &refusal{status: http.StatusServiceUnavailable, detail: detail, retryAfter: 5}
	}
	counts, key, limit, name := &l.byAddr, p.Addr, l.PerAddr, "address (limits.sessions_per_address)"
	if p.User != "" {
		counts, key, limit, name = &l.byUser, p.User, l.PerUser, "user (limits.sessions_per_user)"
	}
	if limit > 0 && key != "" && (*counts)[key] >= limit {
		return func() {}, &refusal{status: http.StatusTooManyRequests, retryAfter: 5,
			detail: fmt.Sprintf("%s already has %d sessions, the limit for one %s. Close one, or try again later.", key, limit, name)}
	}
	if *counts == nil {
		*counts = make(map[string]int)
	}
	l.all++
	(*counts)[key]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if (*counts)[key]--; (*counts)[key] == 0 {
			delete(*counts, key)
		}
	}, nil
}
