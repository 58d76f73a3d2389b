package natsbus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"tandem/hub"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eventHeader is the header with all of an event but its data, which is the message's.
const eventHeader = "Tandem-Event"

// Version 1. Other versions are refused, and so a gap.
type head struct {
	Version int    `json:"v"`
	ID      string `json:"id"`
	Topic   string `json:"topic"`
	Type    string `json:"type,omitempty"`
	Retry   uint64 `json:"retry,omitempty"`
	Private bool   `json:"private,omitempty"`
	Time    int64  `json:"time"` // ns since 1970
}

func (b *Bus) encode(e *hub.Event) (*nats.Msg, error) {
	h, err := json.Marshal(&head{1, e.ID, e.Topic, e.Type, e.Retry, e.Private, e.Time.UnixNano()})
	if err != nil {
		return nil, err
	}
	m := nats.NewMsg(b.stored(e.Topic))
	m.Data = []byte(e.Data)
	m.Header[eventHeader] = []string{string(h)}
	m.Header[jetstream.MsgIDHeader] = []string{msgID(e.ID)}
	m.Header[jetstream.ExpectedStreamHeader] = []string{b.o.Name}
	return m, nil
}

func decode(header nats.Header, data []byte, seq uint64) (*hub.Event, error) {
	var h head
	if err := json.Unmarshal([]byte(header.Get(eventHeader)), &h); err != nil {
		return nil, fmt.Errorf("expected an event's header %s: %w", eventHeader, err)
	}
	if h.Version != 1 {
		return nil, fmt.Errorf("expected an event of version 1, got version %d: update this process", h.Version)
	}
	return &hub.Event{ID: h.ID, Topic: h.Topic, Type: h.Type, Data: string(data), Retry: h.Retry, Private: h.Private,
		Seq: seq, Time: time.Unix(0, h.Time)}, nil
}

func number(h nats.Header, name string) (uint64, error) {
	n, err := strconv.ParseUint(h.Get(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("expected a number in %s: %w", name, err)
	}
	return n, nil
}
