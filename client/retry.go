package client

import (
	"errors"
	"math/rand/v2"
	"time"

	"tandem/session/frame"
)

// How long a new session is waited for: up to a bound that doubles with each failure.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// RetryAfter tells whether it makes sense to Dial again after err, which Dial or a
// Conn returned, and how long to wait before: a random time up to a bound that
// doubles with failures, the number of attempts that have failed in a row, and no less
// than the server asked for. So the clients of a server that restarts don't come
// back all at once. The new session is another one: nothing of the old one is sent
// again by itself (Conn.Unacked).
func RetryAfter(err error, failures int) (wait time.Duration, again bool) {
	bound := min(retryFirst<<min(max(failures, 0), 10), retryMost)
	var over *frame.CloseError
	var answer *HTTPError
	var usage *UsageError
	var none *NoTransportError
	switch {
	case err == nil, errors.As(err, &usage), errors.As(err, &none):
		return 0, false
	case errors.As(err, &over):
		switch over.Code.Retry() {
		case frame.RetryNever:
			return 0, false
		case frame.RetryNow:
			if failures == 0 {
				bound = resumeFirst
			}
		}
	case errors.As(err, &answer):
		if s := answer.Status; s < 500 && s != 408 && s != 425 && s != 429 {
			return 0, false
		}
		wait = answer.RetryAfter
	}
	return wait + rand.N(bound), true
}
