package probe

import (
	"encoding/json"
	"sync"
	"time"
)

// What became of the client of a visit.
const (
	Closed  = "closed"  // the web server told that it has gone
	Write   = "write"   // a write to it failed
	Stayed  = "stayed"  // it did not go, for all that the probe saw
	Unknown = "unknown" // this process had no such visit
	Waiting = "waiting" // the visit goes on
)

// Seen is the answer to the probe "seen".
type Seen struct {
	Process string `json:"process"`
	How     string `json:"how"`
	Ago     int64  `json:"ago,omitempty"` // µs since the end was noticed
}

// visit is a request whose client is to disappear.
type visit struct {
	id   string
	how  string
	at   time.Time
	over chan struct{} // closed when how and at are known
}

// visits are the last of a process.
type visits struct {
	mu   sync.Mutex
	list []*visit
}

const keptVisits = 64

func (v *visits) add(id string) *visit {
	n := &visit{id: id, over: make(chan struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.list) == keptVisits {
		v.list = append(v.list[:0], v.list[1:]...)
	}
	v.list = append(v.list, n)
	return n
}

func (v *visits) find(id string) *visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range v.list {
		if n.id == id {
			return n
		}
	}
	return nil
}

// gone is a response that its client leaves. First the probe is silent, then it
// writes: some web servers tell only then.
func (h *Handler) gone(x *exchange) {
	v := h.visits.add(x.words["id"])
	v.how = Stayed
	defer func() {
		v.at = time.Now()
		close(v.over)
	}()
	if x.say(Start, 0, 0) != nil {
		return
	}
	late := time.NewTimer(MaxTime - time.Second)
	defer late.Stop()
	next := time.NewTimer(x.millis("quiet", 500*time.Millisecond))
	defer next.Stop()
	for {
		select {
		case <-x.ctx.Done():
			v.how = Closed
			return
		case <-next.C:
			if x.say(Beat, 0, 0) != nil {
				v.how = Write
				return
			}
			next.Reset(100 * time.Millisecond)
		case <-late.C:
			return
		case <-h.stop:
			return
		}
	}
}

// seen tells what became of a visit's client, once that is known.
func (h *Handler) seen(x *exchange) {
	s := Seen{Process: h.process, How: Unknown}
	if v := h.visits.find(x.words["id"]); v != nil {
		s.How = Waiting
		timer := time.NewTimer(x.millis("wait", 0))
		defer timer.Stop()
		select {
		case <-v.over:
			s.How, s.Ago = v.how, time.Since(v.at).Microseconds()
		case <-timer.C:
		case <-x.ctx.Done():
			return
		case <-h.stop:
			return
		}
	}
	x.answer(s)
}

// answer sends v as the whole answer.
func (x *exchange) answer(v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	x.w.Write(append(body, '\n')) // an error here is the client's loss
}
