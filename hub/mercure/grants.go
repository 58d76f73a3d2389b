package mercure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tandem/hub"
)

// maxGrants is how many matchers a token may have.
const maxGrants = 1000

// grants are what a token allows.
type grants struct {
	publish   []hub.Matcher
	subscribe []hub.Matcher
	payloads  []payload // of subscribe, in the token's order
	fallback  string    // payload of other subscriptions
	subject   string
	expires   time.Time // zero: never
}

type payload struct {
	matchers []hub.Matcher
	json     string
}

func (g *grants) mayPublish(topic string) bool { return matches(g.publish, topic) }
func (g *grants) mayRead(topic string) bool    { return matches(g.subscribe, topic) }

func matches(list []hub.Matcher, topic string) bool {
	for _, m := range list {
		if m.Match(topic) {
			return true
		}
	}
	return false
}

// payload is what others may know of a subscription (section 6.8): that of the first matcher that is the subscription's, or
// matches it as if it were a topic.
func (g *grants) payload(of hub.Matcher) string {
	for _, p := range g.payloads {
		for _, m := range p.matchers {
			if m == of || m.Match(of.Pattern()) {
				return p.json
			}
		}
	}
	return g.fallback
}

func newGrants(c *claims) *grants {
	g := &grants{subject: c.Subject}
	if c.ExpiresAt != nil {
		g.expires = c.ExpiresAt.Time
	}
	return g
}

// detailedGrants reads authorization_details (section 6.4): all of it counts, or nothing.
func (h *Handler) detailedGrants(c *claims) (*grants, error) {
	g := newGrants(c)
	if c.Details == nil {
		return g, nil
	}
	var details []json.RawMessage
	if err := json.Unmarshal(c.Details, &details); err != nil || details == nil {
		return nil, errors.New("authorization_details: expected an array")
	}
	n := 0
	for i, raw := range details {
		var kind struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fmt.Errorf("authorization_details %d: %w", i, err)
		}
		if kind.Type != "mercure" {
			continue
		}
		var d detail
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("authorization_details %d: %w", i, err)
		}
		if n += len(d.Topics); n > maxGrants {
			return nil, fmt.Errorf("authorization_details: more than %d topics", maxGrants)
		}
		if err := h.grant(g, &d); err != nil {
			return nil, fmt.Errorf("authorization_details %d: %w", i, err)
		}
	}
	return g, nil
}

type detail struct {
	Actions []string          `json:"actions"`
	Topics  []json.RawMessage `json:"topics"`
	Payload json.RawMessage   `json:"payload"`
}

func (h *Handler) grant(g *grants, d *detail) error {
	if len(d.Actions) == 0 || len(d.Topics) == 0 {
		return errors.New("expected one or more actions and topics")
	}
	if d.Payload != nil && !isObject(d.Payload) {
		return errors.New("payload: expected an object")
	}
	var list []hub.Matcher
	for _, raw := range d.Topics {
		m, err := h.matcherObject(raw, hub.Exact)
		if err != nil {
			return err
		}
		list = append(list, m)
	}
	for _, action := range d.Actions {
		switch action {
		case "publish":
			g.publish = append(g.publish, list...)
		case "subscribe":
			g.subscribe = append(g.subscribe, list...)
			g.payloads = append(g.payloads, payload{list, string(d.Payload)})
		default:
			return fmt.Errorf("actions: expected publish or subscribe, got %.40q", action)
		}
	}
	return nil
}

// matcherObject reads a topic matcher object (section 6.7).
func (h *Handler) matcherObject(raw json.RawMessage, usual string) (hub.Matcher, error) {
	var o struct {
		Match *string `json:"match"`
		Type  *string `json:"matchType"`
	}
	if !isObject(raw) {
		return hub.Matcher{}, errors.New("topics: expected objects with match")
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return hub.Matcher{}, err
	}
	if o.Match == nil {
		return hub.Matcher{}, errors.New("topics: a matcher without match")
	}
	typ := usual
	if o.Type != nil {
		typ = *o.Type
	}
	if usual == hub.Exact && typ == hub.URITemplate {
		return hub.Matcher{}, errors.New("matchType: expected Exact or URLPattern")
	}
	return hub.ParseMatcher(typ, *o.Match, h.o.URL)
}

// legacyGrants reads the mercure claim of earlier drafts: lists of topics or URI templates, and of objects in
// drafts between 07 and 08.
func (h *Handler) legacyGrants(c *claims, raw json.RawMessage) (*grants, error) {
	g := newGrants(c)
	var m struct {
		Publish   []json.RawMessage `json:"publish"`
		Subscribe []json.RawMessage `json:"subscribe"`
		Payload   json.RawMessage   `json:"payload"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("mercure: %w", err)
	}
	if len(m.Publish)+len(m.Subscribe) > maxGrants {
		return nil, fmt.Errorf("mercure: more than %d topics", maxGrants)
	}
	for _, raw := range m.Publish {
		matcher, _, err := h.legacyMatcher(raw)
		if err != nil {
			return nil, fmt.Errorf("mercure.publish: %w", err)
		}
		g.publish = append(g.publish, matcher)
	}
	for _, raw := range m.Subscribe {
		matcher, own, err := h.legacyMatcher(raw)
		if err != nil {
			return nil, fmt.Errorf("mercure.subscribe: %w", err)
		}
		g.subscribe = append(g.subscribe, matcher)
		if own != "" {
			g.payloads = append(g.payloads, payload{[]hub.Matcher{matcher}, own})
		}
	}
	if !bytes.Equal(m.Payload, []byte("null")) {
		g.fallback = string(m.Payload)
	}
	return g, nil
}

func (h *Handler) legacyMatcher(raw json.RawMessage) (m hub.Matcher, payload string, err error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		m, err = hub.ParseMatcher(hub.URITemplate, s, h.o.URL)
		return m, "", err
	}
	var o struct {
		Payload json.RawMessage `json:"payload"`
	}
	if m, err = h.matcherObject(raw, hub.URITemplate); err == nil {
		err = json.Unmarshal(raw, &o)
	}
	return m, string(o.Payload), err
}

func isObject(raw json.RawMessage) bool {
	return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{"))
}
