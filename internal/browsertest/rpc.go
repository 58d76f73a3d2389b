package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"
)

// rpc is what both protocols have in common: a request has an id, its answer the
// same; what has none is an event, which nobody here needs.
type rpc struct {
	conn *websocket.Conn

	mu      sync.Mutex
	last    int
	waiting map[int]chan<- answer
	err     error // the connection's end
	done    chan struct{}
}

type request struct {
	ID      int    `json:"id"`
	Session string `json:"sessionId,omitempty"` // DevTools: the tab
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	// WebDriver has the error's name in error and its text here.
	Message string `json:"message"`
}

func dial(ctx context.Context, url string) (*rpc, error) {
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return nil, fmt.Errorf("browsertest: %w", err)
	}
	conn.SetReadLimit(64 << 20) // screenshots
	r := &rpc{conn: conn, waiting: make(map[int]chan<- answer), done: make(chan struct{})}
	go r.read()
	return r, nil
}

func (r *rpc) close() {
	r.conn.CloseNow()
	<-r.done
}

func (r *rpc) read() {
	defer close(r.done)
	for {
		_, data, err := r.conn.Read(context.Background())
		var a answer
		if err == nil {
			err = json.Unmarshal(data, &a)
		}
		r.mu.Lock()
		if err != nil {
			r.err = err
			for _, c := range r.waiting {
				close(c)
			}
			r.waiting = nil
			r.mu.Unlock()
			return
		}
		if c := r.waiting[a.ID]; a.ID != 0 && c != nil {
			c <- a
			delete(r.waiting, a.ID)
		}
		r.mu.Unlock()
	}
}

// call makes a request and puts its result into out, if that is not nil.
func (r *rpc) call(ctx context.Context, session, method string, params, out any) error {
	c := make(chan answer, 1)
	r.mu.Lock()
	if r.err != nil {
		defer r.mu.Unlock()
		return fmt.Errorf("browsertest: the browser is gone: %w", r.err)
	}
	r.last++
	id := r.last
	r.waiting[id] = c
	r.mu.Unlock()

	if params == nil {
		params = struct{}{}
	}
	data, err := json.Marshal(request{id, session, method, params})
	if err != nil {
		return err
	}
	if err := r.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return fmt.Errorf("browsertest: %w", err)
	}
	select {
	case a, ok := <-c:
		switch {
		case !ok:
			return errors.New("browsertest: the browser is gone")
		case len(a.Error) > 0:
			return fmt.Errorf("browsertest: %s: %s %s", method, a.Error, a.Message)
		case out == nil:
			return nil
		}
		return json.Unmarshal(a.Result, out)
	case <-ctx.Done():
		return fmt.Errorf("browsertest: %s: %w", method, ctx.Err())
	}
}
