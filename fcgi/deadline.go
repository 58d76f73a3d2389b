package fcgi

import (
	"sync"
	"time"
)

// deadline is a point in time that others can wait for and that may be moved at
// any moment. The zero deadline never comes. It is safe for concurrent use.
type deadline struct {
	mu      sync.Mutex
	at      time.Time
	timer   *time.Timer
	expired chan struct{} // closed once at has come; replaced when at is moved after that
}

// set moves the deadline: the zero time is never, a past time is now.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		// The timer's function runs, or has run: it closes the channel it was made for.
		d.expired = nil
	}
	d.timer = nil
	d.at = t
	if d.expired == nil || isClosed(d.expired) {
		d.expired = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		expired := d.expired
		d.timer = time.AfterFunc(wait, func() { close(expired) })
		return
	}
	close(d.expired)
}

// get returns the deadline, and the channel that is closed once it has come. Who
// waits for the channel while the deadline is moved to later may get the old one.
func (d *deadline) get() (time.Time, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	return d.at, d.expired
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
