package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// Sessions are an [Audience] by sessions with the app hub, of package client. Their CPU time and memory are
// part of what is measured.
type Sessions struct {
	URL     string
	Topic   string
	Options client.Options

	mu      sync.Mutex
	conns   []*client.Conn
	readers sync.WaitGroup
	cancel  context.CancelFunc
}

// Open is an Audience's.
func (a *Sessions) Open(ctx context.Context, _ int) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	c, err := client.Dial(ctx, a.URL, &a.Options)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.conns = append(a.conns, c)
	a.mu.Unlock()
	type subscribe struct {
		Topics []string `json:"topics"`
	}
	request, err := json.Marshal(struct {
		Subscribe subscribe `json:"subscribe"`
	}{subscribe{[]string{a.Topic}}})
	if err != nil {
		return err
	}
	if err := c.Send(ctx, frame.Message{Data: request, Text: true}); err != nil {
		return err
	}
	m, err := c.Receive(ctx)
	if err == nil && !bytes.Contains(m.Data, []byte(`"subscribed"`)) {
		err = fmt.Errorf("expected a hub that answers with subscribed, got %.300q", m.Data)
	}
	return err
}

// Listen is an Audience's.
func (a *Sessions) Listen(l Listener) {
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	for i, c := range a.conns {
		a.readers.Go(func() {
			for {
				m, err := c.Receive(ctx)
				if err != nil {
					if ctx.Err() == nil {
						l.Failed(i, fmt.Errorf("the session ended: %w", err))
					}
					return
				}
				_, data, _ := bytes.Cut(m.Data, []byte(`"data":"`))
				l.Heard(i, i, data, time.Now())
			}
		})
	}
}

// Close is an Audience's.
func (a *Sessions) Close() {
	if a.cancel != nil {
		a.cancel()
	}
	a.readers.Wait()
	limit := make(chan struct{}, closing)
	var all sync.WaitGroup
	for _, c := range a.conns {
		limit <- struct{}{}
		all.Go(func() {
			c.Close(frame.CodeNormal, "")
			<-limit
		})
	}
	all.Wait()
	a.conns = nil
}
