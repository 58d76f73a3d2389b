// Package hub is publish and subscribe: topics, events, history, who is there. Behind it
// is a Bus, which joins the processes of one hub.
package hub

import (
	"context"
	"log/slog"
)

// Options of a Hub. The zero value works.
type Options struct {
	Log *slog.Logger
}

// A Hub passes events of a Bus on to subscribers of this process, and publishes.
type Hub struct{}

func New(bus Bus, opts *Options) *Hub

// Publish checks e (topic, size, reserved names), gives it an ID if it has none, and stores it. Errors: *Refused
// for what is wrong with e, else what the bus says.
func (h *Hub) Publish(ctx context.Context, e *Event) error

// Subscribe adds a subscriber: it first gets, on the caller's goroutine, what history it asks for, then
// events as they come. Start tells it between the two what was recovered.
func (h *Hub) Subscribe(ctx context.Context, s *Subscriber) error

// Unsubscribe removes it; no event comes after it has returned.
func (h *Hub) Unsubscribe(s *Subscriber)

// A Subscriber is a set of matchers, and a way to deliver.
type Subscriber struct {
	ID       string // of the subscriber, as shown in presence
	Matchers []Matcher
	// May tells whether it may read private events of the topic; nil: none.
	May     func(topic string) bool
	After   string // Last-Event-ID; "": no history
	Payload func(Matcher) string

	// Deliver takes an event, of the history or a new one; it must not block. The encoded form is shared between subscribers: e.SSE().
	Deliver func(e *Event)
	Start   func(recovered bool, last string)
}

// A Matcher selects topics. ParseMatcher makes one of a type ("Exact", "URLPattern", "URITemplate" of earlier drafts) and a pattern.
type Matcher struct{}

func (m Matcher) Match(topic string) bool
