package bench

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// Payload is a message of this many bytes of text.
func Payload(size int) []byte {
	const digits = "0123456789abcdef"
	return bytes.Repeat([]byte(digits), size/len(digits)+1)[:size]
}

// A wire makes the bytes of a session and counts what comes back: as much of the
// protocol as a client with nothing to lose can do with, and equally little work in
// each codec, so that the servers are compared and not the client.
type wire struct {
	codec     frame.Codec
	payload   []byte
	heartbeat time.Duration // that is promised

	sent     uint64 // last seq sent
	acked    uint64 // last seq that the server has acked
	received uint64 // last seq that came
	told     uint64 // last seq that was acked to the server
	opened   bool
	line     []byte // lines: one message

	window, messages uint64 // the server's limits

	frame frame.Frame // what is being encoded; here, as it would be an allocation each time
}

// What the load tells the server in its open: the defaults of package client.
const (
	ownWindow   = 256 << 10
	ownMessages = 1024
)

func newWire(codec frame.Codec, payload []byte, heartbeat time.Duration) *wire {
	w := &wire{codec: codec, payload: payload, heartbeat: heartbeat, window: flow.InitialWindow, messages: flow.InitialMessages}
	if !codec.Framed() {
		w.line = append(bytes.Clone(payload), '\n')
	}
	return w
}

// open appends what a session begins with.
func (w *wire) open(b []byte) ([]byte, error) {
	return w.codec.Append(b, &frame.Frame{Type: frame.TypeOpen, Version: frame.Version, Heartbeat: uint64(w.heartbeat / time.Millisecond),
		Window: ownWindow, Messages: ownMessages, MaxMessage: 1 << 20})
}

// end appends what a session ends with.
func (w *wire) end(b []byte) ([]byte, error) {
	return w.codec.Append(b, &frame.Frame{Type: frame.TypeClose, Seq: w.sent, Code: frame.CodeNormal})
}

// room is how many messages the server's window has room for.
func (w *wire) room() int {
	if !w.codec.Framed() {
		return 1 << 20
	}
	limit := min(w.messages, w.window/uint64(frame.Cost(len(w.payload))))
	return max(0, int(limit)-int(w.sent-w.acked))
}

// send appends n messages, with an ack of what came.
func (w *wire) send(b []byte, n int) ([]byte, error) {
	if !w.codec.Framed() {
		for range n {
			b = append(b, w.line...)
		}
		return b, nil
	}
	var err error
	if w.received > w.told {
		w.told = w.received
		w.frame = frame.Frame{Type: frame.TypeAck, Received: w.received, Window: ownWindow, Messages: ownMessages}
		if b, err = w.codec.Append(b, &w.frame); err != nil {
			return b, err
		}
	}
	for range n {
		w.sent++
		w.frame = frame.Frame{Type: frame.TypeMessage, Seq: w.sent, Data: w.payload, Text: true}
		if b, err = w.codec.Append(b, &w.frame); err != nil {
			return b, err
		}
	}
	return b, nil
}

// take looks at the whole frames in p: how many bytes they are, and how many
// messages.
func (w *wire) take(p []byte) (used, messages int, err error) {
	switch w.codec {
	case frame.Binary:
		return w.takeBinary(p)
	case frame.JSON:
		return w.takeJSON(p)
	}
	for {
		n := bytes.IndexByte(p[used:], '\n') + 1
		if n == 0 {
			return used, messages, nil
		}
		if n != len(w.line) {
			return used, messages, fmt.Errorf("expected a line of %d bytes, got %q", len(w.line), p[used:used+n])
		}
		used += n
		messages++
	}
}

func (w *wire) takeBinary(p []byte) (used, messages int, err error) {
	for {
		rest := p[used:]
		if len(rest) < 2 {
			return used, messages, nil
		}
		size, n := varint(rest[1:])
		end := 1 + n + int(size)
		if n == 0 || end > len(rest) {
			return used, messages, nil
		}
		switch frame.Type(rest[0]) {
		case frame.TypeMessage:
			w.received++
			messages++
			if int(size) < len(w.payload) {
				return used, messages, fmt.Errorf("expected a message of %d bytes, got a frame of %d", len(w.payload), size)
			}
		case frame.TypeAck:
			if w.acked, n = varint(rest[1+n:]); n == 0 {
				return used, messages, errors.New("an ack without received")
			}
		default:
			if err := w.other(rest[:end]); err != nil {
				return used, messages, err
			}
		}
		used += end
	}
}

// varint is RFC 9000's, in as few steps as the load needs; n is 0 where p is short.
func varint(p []byte) (v uint64, n int) {
	if len(p) == 0 {
		return 0, 0
	}
	n = 1 << (p[0] >> 6)
	if len(p) < n {
		return 0, 0
	}
	v = uint64(p[0] & 0x3f)
	for _, c := range p[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}

var (
	jsonMessage  = []byte(`{"type":"message",`)
	jsonReceived = []byte(`{"type":"ack","received":`)
)

func (w *wire) takeJSON(p []byte) (used, messages int, err error) {
	for {
		n := bytes.IndexByte(p[used:], '\n') + 1
		if n == 0 {
			return used, messages, nil
		}
		line := p[used : used+n]
		switch {
		case bytes.HasPrefix(line, jsonMessage):
			w.received++
			messages++
			if len(line) < len(jsonMessage)+len(w.payload) {
				return used, messages, fmt.Errorf("expected a message of %d bytes, got %q", len(w.payload), line)
			}
		case bytes.HasPrefix(line, jsonReceived):
			w.acked = 0
			for _, c := range line[len(jsonReceived):] {
				if c < '0' || c > '9' {
					break
				}
				w.acked = w.acked*10 + uint64(c-'0')
			}
		default:
			if err := w.other(line); err != nil {
				return used, messages, err
			}
		}
		used += n
	}
}

// other takes a frame that comes now and then, or must not come at all.
func (w *wire) other(p []byte) error {
	var f frame.Frame
	if _, err := w.codec.NewDecoder().Decode(p, &f); err != nil {
		return err
	}
	switch f.Type {
	case frame.TypeEmpty:
		return nil
	case frame.TypeOpen:
		w.opened, w.window, w.messages = true, f.Window, f.Messages
		return nil
	case frame.TypeClose:
		return &frame.CloseError{Code: f.Code, Reason: f.Reason}
	}
	return fmt.Errorf("expected messages and acks, got a frame %v", f.Type)
}
