package client

import (
	"context"
	"sync"
	"time"
)

// A Memory remembers how endpoints are reached. It must be safe for concurrent
// use, and should forget what is older than Known.Until.
type Memory interface {
	// Recall gives what is known of an endpoint, a URL without user and query.
	Recall(endpoint string) (Known, bool)
	// Remember replaces what is known of an endpoint; nothing is, if k is zero.
	Remember(endpoint string, k Known)
}

// Known is what is remembered of an endpoint.
type Known struct {
	Transport string    `json:"transport"`          // worked last
	Declared  int64     `json:"declared"`           // as in Path
	Best      []string  `json:"best,omitempty"`     // the transports that the endpoint recommends, best first
	Streamed  bool      `json:"streamed,omitempty"` // Split may use one long request
	Until     time.Time `json:"until,omitzero"`     // then it is looked for anew
}

// How long a way is remembered: the best one long, another one not, as what was in the
// way may be gone.
const (
	knownBest  = 24 * time.Hour
	knownOther = 15 * time.Minute
	knownMost  = 1000 // endpoints in a process
)

// inProcess is the Memory of those that have none of their own.
var inProcess processMemory

type processMemory struct {
	mu    sync.Mutex
	known map[string]Known
}

func (m *processMemory) Recall(endpoint string) (Known, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.known[endpoint]
	return k, ok
}

func (m *processMemory) Remember(endpoint string, k Known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= knownMost {
		m.known = make(map[string]Known)
	}
	if k.Transport == "" {
		delete(m.known, endpoint)
	} else {
		m.known[endpoint] = k
	}
}

// endpoint is the name of the dialer's endpoint in its memory.
func (d *dialer) endpoint() string {
	return d.url.Scheme + "://" + d.url.Host + d.url.EscapedPath()
}

// recall opens a session the way that worked before: at once, but the program is
// started only when the server has answered, so nothing has run where that way does
// not work any more. Neither a Conn nor an error: look for a way.
func (d *dialer) recall(ctx context.Context) (*Conn, error) {
	k, ok := d.options.Memory.Recall(d.endpoint())
	w := way{k.Transport, k.Declared}
	if !ok || time.Now().After(k.Until) || !w.valid() {
		return nil, nil
	}
	known := advice{k.Best, k.Streamed}
	c, err := d.open(ctx, w, opening{hold: true, ladder: newLadder(known, known.ways(), w)})
	switch {
	case err == nil:
		c.now.Load().prove()
		c.begin()
		return c, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !d.isTheWay(err):
		return nil, err
	}
	d.options.Memory.Remember(d.endpoint(), Known{})
	return nil, nil
}

// remember keeps the way that the session is on.
func (c *Conn) remember(w way, best bool) {
	if c.dialer.options.Transport != "" {
		return
	}
	known := c.ladder.Load().advice
	k := Known{Transport: w.Transport, Declared: w.Declared, Best: known.Transports, Streamed: known.Streamed, Until: time.Now().Add(knownOther)}
	if best {
		k.Until = time.Now().Add(knownBest)
	}
	c.dialer.options.Memory.Remember(c.dialer.endpoint(), k)
}

// valid tells whether w is a way that there is: a Memory may come from a file.
func (w way) valid() bool {
	switch w.Transport {
	case Single, Pulse:
		return w.Declared == -1 || w.Declared >= lengths[len(lengths)-1]
	case Split:
		return w.Declared == 0 || w.Declared >= lengths[len(lengths)-1]
	case Poll:
		return w.Declared == 0
	}
	return false
}
