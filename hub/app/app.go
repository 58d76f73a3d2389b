package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tandem/hub"
	"tandem/session"
	"tandem/session/frame"
)

// Options of an app. The zero value works: nobody may publish, and private events reach nobody.
type Options struct {
	// Authorize says what the client of a new session may do. Its Peer is there until it returns. The error's text is the
	// reason that the session is closed with, CodePolicy, unless it is a *session.CloseError.
	Authorize func(*session.Peer) (*hub.Rights, error)
}

// New makes the app of h.
func New(h *hub.Hub, o Options) session.App {
	return session.React(func(ctx context.Context, s *session.Session) func(session.Message) error {
		c := &conn{hub: h, s: s, ctx: ctx, rights: new(hub.Rights)}
		if o.Authorize != nil {
			rights, err := o.Authorize(s.Peer())
			if err != nil {
				var e *session.CloseError
				if !errors.As(err, &e) {
					err = frame.Errorf(frame.CodePolicy, "%.500s", err)
				}
				go end(s, err)
				return func(session.Message) error { return err }
			}
			c.rights = rights
		}
		c.begin()
		return c.request
	})
}

// conn is one session. Its fields don't change, but for those that only request uses.
type conn struct {
	hub    *hub.Hub
	s      *session.Session
	ctx    context.Context // done when the session is over
	rights *hub.Rights
	sub    *hub.Subscriber

	subs map[int]*hub.Subscription // by the number that the client knows
	next int
}

// begin makes the subscriber, which lasts as long as the session.
func (c *conn) begin() {
	c.sub = c.hub.NewSubscriber(hub.SubscriberOptions{
		Name: c.s.Name(), ID: c.rights.ID, Readable: c.rights.Readable, Payload: c.rights.Payload,
		Write: c.write,
		End:   c.ended,
	})
	context.AfterFunc(c.ctx, c.sub.Close)
	if e := c.rights.Expires; !e.IsZero() {
		t := time.AfterFunc(time.Until(e), func() {
			end(c.s, frame.Errorf(frame.CodeExpired, "the session's access token has expired: open another one with a new token"))
		})
		context.AfterFunc(c.ctx, func() { t.Stop() })
	}
}

// write passes events on. It blocks while the client's window is full; then the hub has the next ones wait.
func (c *conn) write(list []*hub.Update) error {
	for _, u := range list {
		if err := c.s.Pass(c.ctx, session.Message{Data: u.JSON(), Text: true}); err != nil {
			return err
		}
	}
	return nil
}

// ended: the hub is done with the subscriber.
func (c *conn) ended(err error) {
	switch {
	case errors.Is(err, hub.ErrTooSlow):
		err = frame.Errorf(frame.CodeTooSlow, "events came faster than they were read: open another session, and subscribe after the last event that came")
	case errors.Is(err, hub.ErrFull):
		err = frame.Errorf(frame.CodeOverloaded, "this hub has as many subscribers as it may have (max_subscribers): come back later")
	case errors.Is(err, hub.ErrClosed):
		err = frame.Errorf(frame.CodeRestart, "the hub stops")
	}
	end(c.s, err)
}

// end closes s. err, if it is no *session.CloseError, is of a session that is over already.
func end(s *session.Session, err error) {
	var e *session.CloseError
	if errors.As(err, &e) {
		_ = s.Close(e.Code, e.Reason) // an error is the client's loss: it is gone
		return
	}
	_ = s.Close(frame.CodeInternal, fmt.Sprintf("the hub failed: %.200s", err))
}
