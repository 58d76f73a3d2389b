package bench

import (
	"context"
	"time"
)

// Patience is how long one step, such as opening a session, may take.
const Patience = 20 * time.Second

// A Session is one client. One goroutine uses it, but Close may be called by another
// while Receive runs.
type Session interface {
	// Send sends up to n messages and tells how many: fewer while the other end's
	// window is full.
	Send(n int) (int, error)
	// Receive waits for messages and tells how many came.
	Receive() (int, error)
	// Deadline bounds all that is called from now on.
	Deadline(time.Time)
	// Close ends the session in order and waits for that.
	Close() error
}

// An Opener opens session number i.
type Opener func(ctx context.Context, i int) (Session, error)

// Progress is told how far a measurement is, about once a second; nil: nobody
// wants to know.
type Progress func(step string, done, of int)

func (p Progress) tell(step string, done, of int) {
	if p != nil {
		p(step, done, of)
	}
}

// orNone keeps a nil pointer from becoming a Session.
func orNone[S Session](s S, err error) (Session, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
