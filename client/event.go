package client

// EventKind is what an Event tells.
type EventKind uint8

const (
	Lost    EventKind = iota // the transport is lost: the session waits for another one
	Resumed                  // the session goes on, over Event.Path
)

// An Event is a change of what carries a session.
type Event struct {
	Kind EventKind
	Path Path  // that was lost, or that it goes on over
	Err  error // Lost: why
}

func (c *Conn) notify(kind EventKind, err error) {
	if f := c.dialer.options.Notify; f != nil {
		f(Event{kind, c.Path(), err})
	}
}
