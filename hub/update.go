package hub

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
)

// An Update is an event on its way to subscribers, who share it and what it is encoded as: nobody may
// change either. A Gap has no Event.
type Update struct {
	*Event
	policy Policy

	sse, json       []byte
	sseOne, jsonOne sync.Once
}

// Gap stands where events are missing that can't be had any more.
var Gap = &Update{}

// SSE is the update as an event of a text/event-stream; of a Gap, nothing.
func (u *Update) SSE() []byte {
	u.sseOne.Do(func() {
		if u.Event != nil {
			u.sse = AppendSSE(nil, u.Event)
		}
	})
	return u.sse
}

// AppendSSE appends e as an event of a text/event-stream.
func AppendSSE(b []byte, e *Event) []byte {
	if e.ID != "" {
		b = append(append(append(b, "id: "...), e.ID...), '\n')
	}
	if e.Type != "" {
		b = append(append(append(b, "event: "...), e.Type...), '\n')
	}
	if e.Retry > 0 {
		b = append(strconv.AppendUint(append(b, "retry: "...), e.Retry, 10), '\n')
	}
	for data := e.Data; ; {
		i := strings.IndexAny(data, "\r\n")
		if i < 0 {
			b = append(append(append(b, "data: "...), data...), '\n')
			return append(b, '\n')
		}
		b = append(append(append(b, "data: "...), data[:i]...), '\n')
		if strings.HasPrefix(data[i:], "\r\n") {
			i++
		}
		data = data[i+1:]
	}
}

// JSON is the update as a message of the session vocabulary (docs/hub.md).
func (u *Update) JSON() []byte {
	u.jsonOne.Do(func() {
		if u.Event == nil {
			u.json = []byte(`{"gap":true}`)
			return
		}
		u.json = encode(struct {
			Event jsonEvent `json:"event"`
		}{jsonEvent{u.ID, u.Topic, u.Type, u.Data, u.Private}})
	})
	return u.json
}

type jsonEvent struct {
	ID      string `json:"id"`
	Topic   string `json:"topic"`
	Type    string `json:"type,omitempty"`
	Data    string `json:"data"`
	Private bool   `json:"private,omitempty"`
}

// encode is json.Marshal without its escapes for HTML.
func encode(v any) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings and numbers
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

// size is what an update counts for in a queue.
func (u *Update) size() int {
	if u.Event == nil {
		return 0
	}
	return len(u.Data) + len(u.Topic) + len(u.ID) + 64
}
