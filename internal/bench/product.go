package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// product is a session of package client, as its users have it.
type product struct {
	conn   *client.Conn
	ctx    context.Context
	cancel context.CancelFunc
}

func dialProduct(url, codec string) (*product, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, url, &client.Options{Codec: codec})
	if err != nil {
		return nil, err
	}
	s := &product{conn: c}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *product) send(n int) (int, error) {
	for i := range n {
		if err := s.conn.Send(s.ctx, frame.Message{Data: payload, Text: true}); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (s *product) receive() (int, error) {
	m, err := s.conn.Receive(s.ctx)
	if err == nil && !bytes.Equal(m.Data, payload) {
		err = fmt.Errorf("expected the message that was sent, got %q", m.Data)
	}
	return 1, err
}

func (s *product) deadline(t time.Time) {
	s.cancel()
	s.ctx, s.cancel = context.WithDeadline(context.Background(), t)
}

func (s *product) close() error {
	s.cancel()
	return s.conn.Close(frame.CodeNormal, "")
}
