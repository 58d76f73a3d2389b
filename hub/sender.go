package hub

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// senders are the goroutines that empty subscribers' queues. A Write may block, and there is no way to know before. So there
// are about as many senders as processors, each takes the next subscriber that has something,
// and one that stays in a Write for a while is replaced: it keeps to its subscriber until that one's
// queue is empty. That subscriber is served by a goroutine of its own from then on, as long as its writes take
// time. There are no senders while there is nothing to send.
type senders struct {
	mu      sync.Mutex
	line    []*Subscriber // who has something, in the order it came
	head    int
	running map[*sender]struct{} // those that take from the line
	extra   int                  // how many may run beyond the processors, after some got stuck
	watched bool                 // the watch runs
}

// A sender is one of the goroutines.
type sender struct {
	turn  atomic.Uint64 // odd within a Write
	seen  uint64        // turn at the watch's last look
	stuck atomic.Bool   // it was replaced
	batch []*Update
}

// stuckTime is the time between the watch's looks: a Write that lasts from one to the next has its sender
// replaced.
const stuckTime = 2 * time.Millisecond

// add puts subscribers in the line.
func (t *senders) add(list []*Subscriber) {
	if len(list) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line = append(t.line, list...)
	t.start()
}

// start starts senders for what is in the line. t.mu is held.
func (t *senders) start() {
	if t.running == nil {
		t.running = make(map[*sender]struct{})
	}
	most := runtime.GOMAXPROCS(0) + t.extra
	for n := len(t.line) - t.head; n > 0 && len(t.running) < most; n-- {
		w := new(sender)
		t.running[w] = struct{}{}
		go t.run(w)
	}
	if !t.watched && len(t.running) > 0 {
		t.watched = true
		time.AfterFunc(stuckTime, t.watch)
	}
}

// watch replaces senders that are stuck. Each time that happens there may be more of them: where
// many subscribers stop reading at once, their number must not add up to a delay for the others.
func (t *senders) watch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	stuck := 0
	for w := range t.running {
		now := w.turn.Load()
		if now == w.seen && now%2 == 1 {
			w.stuck.Store(true)
			delete(t.running, w)
			stuck++
		}
		w.seen = now
	}
	t.extra = min(t.extra+stuck, 1024)
	if stuck == 0 {
		t.extra /= 2
	}
	t.start()
	if len(t.running) == 0 {
		t.watched, t.extra = false, 0
		return
	}
	time.AfterFunc(stuckTime, t.watch)
}

// next takes a subscriber from the line, or ends w.
func (t *senders) next(w *sender) *Subscriber {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.head == len(t.line) {
		delete(t.running, w)
		if cap(t.line) > 1<<10 && t.head < cap(t.line)/4 {
			t.line = nil
		}
		t.line, t.head = t.line[:0], 0
		return nil
	}
	s := t.line[t.head]
	t.line[t.head] = nil
	if t.head++; t.head > 1<<10 && t.head > len(t.line)/2 {
		n := copy(t.line, t.line[t.head:])
		clear(t.line[n:])
		t.line, t.head = t.line[:n], 0
	}
	return s
}

func (t *senders) run(w *sender) {
	for s := t.next(w); s != nil; s = t.next(w) {
		more := s.write(w)
		if w.stuck.Load() {
			s.alone(w, more)
			return
		}
		if more {
			t.add([]*Subscriber{s})
		}
	}
}

// alone serves one subscriber, whose writes may block. more: there is something, and s is w's.
func (s *Subscriber) alone(w *sender, more bool) {
	slow := w.stuck.Load()
	for more {
		start := time.Now()
		more = s.write(w)
		slow = slow || time.Since(start) > stuckTime
	}
	s.slow.Store(slow)
}
