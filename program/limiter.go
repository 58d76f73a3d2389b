package program

import (
	"sync"

	"tandem/session/frame"
)

// A Limiter bounds how many children run at once, over all Apps that share it.
// A child counts from before its start until it is reaped: one that is still
// being stopped holds its place. Methods are safe for concurrent use.
type Limiter struct {
	children, perUser int

	mu    sync.Mutex
	all   int
	users map[string]int // by Peer's key, no entry at 0
}

// NewLimiter bounds children overall and for each user; 0: no bound.
func NewLimiter(children, perUser int) *Limiter {
	return &Limiter{children: children, perUser: perUser, users: make(map[string]int)}
}

// Children is the number of children now.
func (l *Limiter) Children() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// admit takes a place for a child of user and returns the func that gives it
// back. The error is a *frame.CloseError with CodeOverloaded that names the
// limit. A nil Limiter admits all.
func (l *Limiter) admit(user string) (release func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.children > 0 && l.all >= l.children {
		return nil, frame.Errorf(frame.CodeOverloaded,
			"%d programs are running, which is the limit limits.children; come back later, or raise limits.children on the server", l.all)
	}
	if n := l.users[user]; l.perUser > 0 && n >= l.perUser {
		return nil, frame.Errorf(frame.CodeOverloaded,
			"%d programs are running for you, which is the limit limits.children_per_user; end one, or raise limits.children_per_user on the server", n)
	}
	l.all++
	l.users[user]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.users[user]--; l.users[user] == 0 {
			delete(l.users, user)
		}
	}, nil
}
