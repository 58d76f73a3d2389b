package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"
)

// Reserved is the path of the topics that only the hub itself publishes: the path itself, and
// all below it.
const Reserved = "/.well-known/mercure"

// Refused is what is wrong with an event or a subscription: nothing was stored, nothing begun. Status is that of
// HTTP; the text says what was expected and what came.
type Refused struct {
	Status int // 400, 403 or 413
	Text   string
}

func (e *Refused) Error() string { return "hub: " + e.Text }

func refusedf(status int, format string, args ...any) *Refused {
	return &Refused{Status: status, Text: fmt.Sprintf(format, args...)}
}

// Publish checks e, gives it an ID if it has none, and stores it. An error is a *Refused for what is wrong with e, or the bus's: it
// may wrap ErrUnavailable or ErrTooLarge. Whether somebody may publish e is the caller's
// to know.
func (h *Hub) Publish(ctx context.Context, e *Event) error {
	if err := h.check(e); err != nil {
		return err
	}
	return h.publish(ctx, e)
}

func (h *Hub) publish(ctx context.Context, e *Event) error {
	if e.ID == "" {
		e.ID = newID()
	}
	if err := h.bus.Publish(ctx, e); err != nil {
		if errors.Is(err, ErrTooLarge) {
			return err
		}
		h.unpublished.Add(1)
		return fmt.Errorf("hub: publishing: %w", err)
	}
	h.published.Add(1)
	return nil
}

func (h *Hub) check(e *Event) error {
	if err := CheckTopic(e.Topic); err != nil {
		return err
	}
	if h.reserved(e.Topic) {
		return refusedf(403, "topic %.100q: topics whose path is %s, or below it, are the hub's own; expected another one", e.Topic, Reserved)
	}
	switch {
	case len(e.Data) > h.opt.MaxData:
		return refusedf(413, "data of %d bytes: expected %d at most", len(e.Data), h.opt.MaxData)
	case !utf8.ValidString(e.Data):
		return refusedf(400, "data: expected UTF-8, got bytes that aren't; encode binary data, such as with base64")
	case len(e.ID) > maxID:
		return refusedf(413, "id of %d bytes: expected %d at most", len(e.ID), maxID)
	case strings.HasPrefix(e.ID, "#"), e.ID == "earliest":
		return refusedf(400, "id %.100q: expected one that is not \"earliest\" and doesn't begin with #, or none: the hub makes one", e.ID)
	case len(e.Type) > maxType:
		return refusedf(413, "type of %d bytes: expected %d at most", len(e.Type), maxType)
	}
	if err := checkText(e.ID); err != nil {
		return refusedf(400, "id %.100q: %v", e.ID, err)
	}
	if err := checkText(e.Type); err != nil {
		return refusedf(400, "type %.100q: %v", e.Type, err)
	}
	return nil
}

// CheckTopic tells what is wrong with a topic, as a *Refused.
func CheckTopic(topic string) error {
	switch {
	case topic == "":
		return refusedf(400, "no topic: expected one, such as https://example.org/books/1 or news")
	case len(topic) > MaxTopic:
		return refusedf(413, "topic of %d bytes: expected %d at most", len(topic), MaxTopic)
	case topic == Everything:
		return refusedf(400, "topic %q: that stands for all topics, expected one", topic)
	}
	if err := checkText(topic); err != nil {
		return refusedf(400, "topic %.100q: %v", topic, err)
	}
	return nil
}

// reserved tells whether topic, taken for a URL relative to the hub's, has a path that is
// the hub's own. What browsers and this library's parsers read differently counts as both.
func (h *Hub) reserved(topic string) bool {
	if !strings.Contains(strings.ToLower(topic), "mercure") && !strings.ContainsAny(topic, "%?#.") {
		return false
	}
	base := h.opt.Base
	if base == "" {
		base = NoBase
	}
	at, err := url.Parse(base)
	if err != nil {
		return true
	}
	t := strings.ReplaceAll(strings.TrimSpace(topic), `\`, "/")
	u, err := url.Parse(t)
	if err != nil {
		return strings.Contains(t, Reserved)
	}
	p := at.ResolveReference(u).Path
	p = path.Clean("/" + p)
	return p == Reserved || strings.HasPrefix(p, Reserved+"/")
}

// newID is a random UUID (RFC 9562, version 4) as a URN.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
