package fcgi

import (
	"sync"
	"time"
)

// deadline is a point in time that others can wait for and that may be moved at
// any moment. The zero deadline never comes. It has a timer only while somebody may wait.
// It is safe for concurrent use.
type deadline struct {
	mu      sync.Mutex
	at      time.Time
	timer   *time.Timer
	expired chan struct{} // closed once at has come; nil: nobody waited yet
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
	if d.expired == nil {
		return
	}
	if isClosed(d.expired) {
		d.expired = nil
		return
	}
	d.arm()
}

// arm sees to expired being closed at the right time. Needs mu, and no timer.
func (d *deadline) arm() {
	if d.at.IsZero() {
		return
	}
	expired := d.expired
	if wait := time.Until(d.at); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(expired) })
		return
	}
	close(expired)
}

func (d *deadline) get() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

func (d *deadline) passed() bool {
	at := d.get()
	return !at.IsZero() && time.Until(at) <= 0
}

// wait returns the channel that is closed once the deadline has come. Who waits for
// it while the deadline is moved to later may get the old one.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired == nil {
		d.expired = make(chan struct{})
		d.arm()
	}
	return d.expired
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
