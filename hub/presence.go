package hub

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"time"
)

// members keeps the bus's list of who is there up to date, and publishes the subscription events. Its goroutine runs while there is
// a subscription. Off, it does nothing.
type members struct {
	hub *Hub

	mu      sync.Mutex
	here    map[member]int // subscriptions that are one member, such as of two tabs of a user
	pending []Change
	kick    chan struct{} // not nil while the goroutine runs
	done    chan struct{} // closed when it has ended
	ending  bool

	calling sync.Mutex // one call at a time, so that changes arrive in order
}

// member is what makes a Member one.
type member struct{ subscriber, typ, match string }

func (c *Change) key() member { return member{c.Subscriber, c.MatchType, c.Match} }

func (m *members) joined(s *Subscriber, sub *Subscription) { m.change(s, sub, false) }
func (m *members) left(s *Subscriber, sub *Subscription)   { m.change(s, sub, true) }

func (m *members) change(s *Subscriber, sub *Subscription, gone bool) {
	if !m.hub.opt.Presence {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mt := range sub.Matchers {
		c := Change{Member: Member{Subscriber: s.opt.ID, MatchType: mt.Type(), Match: mt.Pattern()}, Gone: gone}
		if s.opt.Payload != nil {
			c.Payload = s.opt.Payload(mt)
		}
		if m.here == nil {
			m.here = make(map[member]int)
		}
		k := c.key()
		if gone {
			if m.here[k]--; m.here[k] > 0 {
				continue
			}
			delete(m.here, k)
		} else if m.here[k]++; m.here[k] > 1 {
			continue
		}
		m.pending = append(m.pending, c)
	}
	if m.ending {
		return // close does it
	}
	if m.kick == nil {
		m.kick, m.done = make(chan struct{}, 1), make(chan struct{})
		go m.run(m.kick, m.done)
	}
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// run tells the bus of changes, and that this process lives.
func (m *members) run(kick, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(PresenceInterval)
	defer tick.Stop()
	for {
		select {
		case <-kick:
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), PresenceInterval)
		err := m.call(ctx, nil)
		cancel()
		if err != nil {
			m.hub.log.Warn("presence is behind: the bus can't be told who is there", "error", err)
		}
		m.mu.Lock()
		if m.ending || len(m.here) == 0 && len(m.pending) == 0 {
			m.kick = nil
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
	}
}

// call brings the changes to the bus, and publishes an event for each, and for members whose process has died.
func (m *members) call(ctx context.Context, list func(Member) bool) error {
	m.calling.Lock()
	defer m.calling.Unlock()
	m.mu.Lock()
	changes := m.pending
	m.pending = nil
	m.mu.Unlock()
	lost, err := m.hub.bus.Presence(ctx, changes, list)
	if err != nil {
		m.mu.Lock()
		m.pending = append(changes, m.pending...)
		m.mu.Unlock()
		return err
	}
	for _, l := range lost {
		changes = append(changes, Change{Member: l, Gone: true})
	}
	for i, c := range changes {
		if err := m.hub.publish(ctx, SubscriptionEvent(c.Member, !c.Gone)); err != nil {
			m.hub.log.Warn("subscription events are lost: the bus can't store them", "events", len(changes)-i, "error", err)
			break
		}
	}
	return nil
}

func (m *members) close(ctx context.Context) error {
	if !m.hub.opt.Presence {
		return nil
	}
	m.mu.Lock()
	m.ending = true
	kick, done := m.kick, m.done
	m.mu.Unlock()
	if done == nil {
		return nil
	}
	if kick != nil {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.call(ctx, nil)
}

// Present passes who is there on to list, until it returns false. Without Options.Presence that is nobody of this
// process.
func (h *Hub) Present(ctx context.Context, list func(Member) bool) error {
	return h.members.call(ctx, list)
}

// SubscriptionEvent is the event that says that a subscription began, or ended.
func SubscriptionEvent(m Member, active bool) *Event {
	return &Event{Topic: SubscriptionTopic(m), Data: string(SubscriptionJSON(m, active, true)), Private: true}
}

// SubscriptionTopic is the topic of a subscription's events, and the path of what the
// subscription API tells of it.
func SubscriptionTopic(m Member) string {
	return Reserved + "/subscriptions/" + m.MatchType + "/" + escape(m.Match) + "/" + escape(m.Subscriber)
}

// SubscriptionJSON is the JSON-LD document of a subscription; context: with @context, as one that stands alone has.
func SubscriptionJSON(m Member, active, context bool) []byte {
	d := struct {
		Context    string          `json:"@context,omitempty"`
		ID         string          `json:"id"`
		Type       string          `json:"type"`
		MatchType  string          `json:"matchType"`
		Match      string          `json:"match"`
		Subscriber string          `json:"subscriber"`
		Active     bool            `json:"active"`
		Payload    json.RawMessage `json:"payload,omitempty"`
	}{ID: SubscriptionTopic(m), Type: "Subscription", MatchType: m.MatchType, Match: m.Match, Subscriber: m.Subscriber, Active: active}
	if context {
		d.Context = "https://mercure.rocks/"
	}
	if json.Valid([]byte(m.Payload)) {
		d.Payload = json.RawMessage(m.Payload)
	}
	return encode(d)
}

// escape percent-encodes all but RFC 3986's unreserved characters, as RFC 6570 has it.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
