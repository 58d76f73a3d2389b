package fcgi

import (
	"sync"
	"time"
)

// slowWriter sees to it that a client which takes nothing doesn't hold a request
// whose server has gone: nobody reads the server's connection meanwhile, so it
// is looked at from time to time. Once the server has hung up, the client has
// finishTimeout for what is left.
type slowWriter struct {
	e *exchange

	mu      sync.Mutex
	timer   *time.Timer
	writing bool
	limited bool
}

func newSlowWriter(e *exchange) *slowWriter { return &slowWriter{e: e} }

func (s *slowWriter) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = true
	if s.timer == nil {
		s.timer = time.AfterFunc(hangUpInterval, s.look)
		return
	}
	s.timer.Reset(hangUpInterval)
}

func (s *slowWriter) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	s.timer.Stop()
}

func (s *slowWriter) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.writing || s.limited:
	case hungUp(s.e.nc):
		s.limited = true
		_ = s.e.rc.SetWriteDeadline(time.Now().Add(finishTimeout))
	default:
		s.timer.Reset(hangUpInterval)
	}
}

// stop is the end of the response: its deadline is not the next one's.
func (s *slowWriter) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.limited {
		_ = s.e.rc.SetWriteDeadline(time.Time{})
	}
}
