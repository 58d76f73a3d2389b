package session

import (
	"context"
	"fmt"
	"runtime/debug"

	"tandem/session/frame"
)

// React makes an App that has no goroutine while its client is silent, which is
// half of what an idle session costs. open is called as Serve is, and returns what is
// then called with each message, in order, by one goroutine at a time; an error
// ends the session as one of Serve does, and so does the end of the client's
// input.
//
// The goroutine may be one that reads for other sessions too. Before it waits for
// anything but s's own methods, s.WillBlock must be called.
//
// The Header and the Vars of s.Peer() are there until open returns, and not
// longer.
func React(open func(ctx context.Context, s *Session) func(Message) error) App {
	return reactor(open)
}

type reactor func(context.Context, *Session) func(Message) error

// Serve makes a reactor an App like others.
func (r reactor) Serve(ctx context.Context, s *Session) error {
	f := r(ctx, s)
	for {
		m, err := s.Receive(ctx)
		if err == nil {
			err = f(m)
		}
		if err != nil {
			return err
		}
	}
}

// react runs r: it is opened now, and called when something comes.
func (s *Session) react(r reactor) {
	var f func(Message) error
	err := s.guard(func() error {
		f = r(s.ctx, s)
		return nil
	})
	if err != nil {
		s.over(err)
		return
	}
	s.ForgetRequest()
	s.link.React(func(m frame.Message, err error) bool {
		if err == nil {
			err = s.guard(func() error { return f(m) })
		}
		if err == nil {
			return true
		}
		s.over(err)
		return false
	})
}

// guard calls f and makes an error of its panic.
func (s *Session) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.Log().Error("the app panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = frame.Errorf(frame.CodeInternal, "the app failed")
		}
	}()
	return f()
}
