package session

import "context"

// Echo is the App that sends back each message.
var Echo = React(func(ctx context.Context, s *Session) func(Message) error {
	return func(m Message) error { return s.Pass(ctx, m) }
})
