package bench

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// Client opens sessions of package client. as its users have them: any transport, HTTP/2,
// forward proxies. Its CPU time and memory are part of what is measured.
type Client struct {
	URL     string
	Options client.Options
	Payload []byte
}

// Open is an [Opener].
func (c *Client) Open(ctx context.Context, _ int) (Session, error) { return orNone(c.dial(ctx)) }

func (c *Client) dial(ctx context.Context) (*product, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	conn, err := client.Dial(ctx, c.URL, &c.Options)
	if err != nil {
		return nil, err
	}
	s := &product{conn: conn, payload: c.Payload}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// product is a session of package client, as its users have it.
type product struct {
	conn    *client.Conn
	payload []byte
	ctx     context.Context
	cancel  context.CancelFunc
}

func (s *product) Send(n int) (int, error) {
	for i := range n {
		if err := s.conn.Send(s.ctx, frame.Message{Data: s.payload, Text: true}); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (s *product) Receive() (int, error) {
	m, err := s.conn.Receive(s.ctx)
	if err == nil && !bytes.Equal(m.Data, s.payload) {
		err = fmt.Errorf("expected the message that was sent, got %.100q", m.Data)
	}
	return 1, err
}

func (s *product) Deadline(t time.Time) {
	s.cancel()
	if t.IsZero() {
		s.ctx, s.cancel = context.WithCancel(context.Background())
		return
	}
	s.ctx, s.cancel = context.WithDeadline(context.Background(), t)
}

func (s *product) Close() error {
	s.cancel()
	return s.conn.Close(frame.CodeNormal, "")
}
