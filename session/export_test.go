package session

// Taken is how many places are taken in l, and checks that no key is left behind.
func Taken(l *Limits) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all + len(l.byAddr) + len(l.byUser)
}
