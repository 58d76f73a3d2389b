package session

import (
	"maps"
	"sync"
)

// Stats are counts since the start, but for Open.
type Stats struct {
	Open    map[string]int    // now, by the transport that each was opened with
	Opened  map[string]uint64 // by transport
	Ended   map[Code]uint64   // 0: with a code that is none of the protocol's, which clients may send
	Resumed uint64            // times that another request went on with a session
	Refused map[int]uint64    // requests, by the status of their answer
}

// stats counts what becomes of sessions, not what they carry.
type stats struct {
	mu sync.Mutex
	Stats
}

func newStats() stats {
	return stats{Stats: Stats{Open: make(map[string]int), Opened: make(map[string]uint64), Ended: make(map[Code]uint64), Refused: make(map[int]uint64)}}
}

// Stats counts.
func (h *Handler) Stats() Stats {
	h.stats.mu.Lock()
	defer h.stats.mu.Unlock()
	s := h.stats.Stats
	s.Open, s.Opened, s.Ended, s.Refused = maps.Clone(s.Open), maps.Clone(s.Opened), maps.Clone(s.Ended), maps.Clone(s.Refused)
	return s
}

// opened counts s, once.
func (t *stats) opened(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.openedLocked(s)
}

func (t *stats) openedLocked(s *Session) {
	if !s.counted {
		s.counted = true
		t.Opened[s.peer.Transport]++
		t.Open[s.peer.Transport]++
	}
}

// ended counts the end of s, which may come before opened has been called.
func (t *stats) ended(s *Session, code Code) {
	if !code.Known() {
		code = 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.openedLocked(s)
	t.Open[s.peer.Transport]--
	t.Ended[code]++
}

func (t *stats) resumed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Resumed++
}

func (t *stats) refused(status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Refused[status]++
}
