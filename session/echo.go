package session

import "context"

// Echo is the App that sends back each message.
var Echo App = AppFunc(func(ctx context.Context, s *Session) error {
	for {
		m, err := s.Receive(ctx)
		if err != nil {
			return err
		}
		if err := s.Send(ctx, m); err != nil {
			return err
		}
	}
})
