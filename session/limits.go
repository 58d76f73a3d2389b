package session

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"tandem/internal/gateway"
)

// Limits says how many sessions there may be at once; 0 is no limit. A session whose
// app has returned, and that is only kept for a client that may not have got its end,
// counts until another one needs its place. Limits may be shared by several handlers
// and is safe for concurrent use. Its fields are set before its first use.
type Limits struct {
	Sessions int // in all
	PerUser  int // of one authenticated user
	PerAddr  int // from one address, of those with an address and without a user

	mu     sync.Mutex
	all    int
	byUser map[string]int
	byAddr map[string]int
	kept   []*place // oldest first
}

// place is what a session takes of the limits.
type place struct {
	limits *Limits // nil: there are none
	counts *map[string]int
	key    string
	given  bool          // back
	needed chan struct{} // closed when another session has got it
}

// admit takes a place for p, or tells which limit is reached.
func (l *Limits) admit(p *Peer) (*place, *refusal) {
	if l == nil {
		return &place{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &place{limits: l, counts: &l.byAddr, key: p.Addr, needed: make(chan struct{})}
	limit, name := l.PerAddr, "address (limits.sessions_per_address)"
	if p.User != "" {
		q.counts, q.key, limit, name = &l.byUser, p.User, l.PerUser, "user (limits.sessions_per_user)"
	}
	if limit > 0 && q.key != "" && (*q.counts)[q.key] >= limit && !l.makeRoom(func(k *place) bool { return k.counts == q.counts && k.key == q.key }) {
		return nil, &refusal{status: http.StatusTooManyRequests, retryAfter: 5,
			detail: fmt.Sprintf("%s already has %d sessions, the limit for one %s. Close one, or try again later.", q.key, limit, name)}
	}
	if l.Sessions > 0 && l.all >= l.Sessions && !l.makeRoom(func(*place) bool { return true }) {
		detail := fmt.Sprintf("This server already holds %d sessions, its limit (limits.sessions). Try again later.", l.all)
		if p.Interface != gateway.HTTP && strings.HasPrefix(p.Software, "Apache") {
			detail += " The limit keeps Apache's MaxRequestWorkers from being used up by open sessions: raise both together."
		}
		return nil, &refusal{status: http.StatusServiceUnavailable, detail: detail, retryAfter: 5}
	}
	if *q.counts == nil {
		*q.counts = make(map[string]int)
	}
	l.all++
	(*q.counts)[q.key]++
	return q, nil
}

// makeRoom has the oldest of the kept sessions that fit forgotten. l.mu is held.
func (l *Limits) makeRoom(fits func(*place) bool) bool {
	i := slices.IndexFunc(l.kept, fits)
	if i < 0 {
		return false
	}
	close(l.kept[i].needed)
	l.kept[i].giveBack()
	return true
}

// keep says that the session goes on only for its end.
func (p *place) keep() {
	if p.limits == nil {
		return
	}
	p.limits.mu.Lock()
	defer p.limits.mu.Unlock()
	p.limits.kept = append(p.limits.kept, p)
}

// release gives the place back.
func (p *place) release() {
	if p.limits == nil {
		return
	}
	p.limits.mu.Lock()
	defer p.limits.mu.Unlock()
	p.giveBack()
}

// giveBack is release with limits.mu held.
func (p *place) giveBack() {
	if p.given {
		return
	}
	p.given = true
	l := p.limits
	l.all--
	if (*p.counts)[p.key]--; (*p.counts)[p.key] == 0 {
		delete(*p.counts, p.key)
	}
	if i := slices.Index(l.kept, p); i >= 0 {
		l.kept = slices.Delete(l.kept, i, i+1)
	}
}
