package session

// Taken is how many places are taken in l, and checks that no key is left behind.
func Taken(l *Limits) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all + len(l.byAddr) + len(l.byUser) + len(l.kept)
}

// Remembered is how many openings h knows by their Tandem-Open.
func Remembered(h *Handler) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.opens)
}
