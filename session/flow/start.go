package flow

import "tandem/session/frame"

// Start writes a start frame: the app that this end's open held back runs now.
func (l *Link) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.control(frame.Frame{Type: frame.TypeStart})
		l.write()
	}
}
