package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tandem/hub"
	"tandem/session"
)

// request is what a client sends: exactly one of the pointers is there.
type request struct {
	Ref         json.RawMessage `json:"ref"`
	Subscribe   *subscribe      `json:"subscribe"`
	Unsubscribe *int            `json:"unsubscribe"`
	Publish     *publish        `json:"publish"`
	Presence    *presence       `json:"presence"`
}

type subscribe struct {
	Topics   []string `json:"topics"`
	Patterns []string `json:"patterns"`
	After    string   `json:"after"`
	Earliest bool     `json:"earliest"`
}

type publish struct {
	Topic   string `json:"topic"`
	Data    string `json:"data"`
	Type    string `json:"type"`
	ID      string `json:"id"`
	Private bool   `json:"private"`
	Retry   uint64 `json:"retry"`
}

type presence struct {
	Match string `json:"match"` // only of this topic or pattern; "": of all
}

// An answer has the request's ref, and one of the others.
type answer struct {
	Ref          json.RawMessage `json:"ref,omitempty"`
	Subscribed   *subscribed     `json:"subscribed,omitempty"`
	Unsubscribed int             `json:"unsubscribed,omitempty"`
	Published    *published      `json:"published,omitempty"`
	Present      *[]member       `json:"present,omitempty"`
	Error        *failure        `json:"error,omitempty"`
}

type subscribed struct {
	Subscription int  `json:"subscription"`
	Recovered    bool `json:"recovered"`
}

type published struct {
	ID string `json:"id"`
}

type member struct {
	Subscriber string          `json:"subscriber"`
	MatchType  string          `json:"matchType"`
	Match      string          `json:"match"`
	Payload    json.RawMessage `json:"payload,omitempty"`
}

// failure is what was wrong with a request. Nothing of it was done, but with unavailable: then a publish under the
// same id may be tried again.
type failure struct {
	Code string `json:"code"` // of codes
	Text string `json:"text"` // what was expected and what came
	Do   string `json:"do"`
}

func (f *failure) Error() string { return f.Text }

var codes = map[int]string{
	http.StatusBadRequest:            "bad-request",
	http.StatusForbidden:             "forbidden",
	http.StatusRequestEntityTooLarge: "too-large",
	http.StatusServiceUnavailable:    "unavailable",
}

func badRequest(do, format string, args ...any) *failure {
	return &failure{codes[http.StatusBadRequest], fmt.Sprintf(format, args...), do}
}

const (
	maxRef     = 256 // bytes
	vocabulary = `{"subscribe":{"topics":["…"]}}, {"unsubscribe":1}, {"publish":{"topic":"…","data":"…"}} or {"presence":{}}, with or without "ref"`
	// busTime is how long the storage may take for one request.
	busTime = 30 * time.Second
)

// request does what a message asks for, and answers. An error is the session's.
func (c *conn) request(m session.Message) error {
	r, err := parse(m)
	var a *answer
	if err == nil {
		c.s.WillBlock() // for the storage
		a, err = c.do(r)
	}
	switch {
	case err != nil && c.ctx.Err() != nil:
		return c.ctx.Err()
	case err != nil:
		a = &answer{Error: failed(err)}
	case a == nil:
		return nil
	}
	return c.answer(r, a)
}

func (c *conn) answer(r *request, a *answer) error {
	a.Ref = r.Ref
	data, err := json.Marshal(a)
	if err != nil {
		return err // a ref is JSON, and all else strings and numbers
	}
	return c.s.Pass(c.ctx, session.Message{Data: data, Text: true})
}

// parse reads a request. It returns what it could read beside an error, for the ref.
func parse(m session.Message) (*request, error) {
	if !m.Text {
		return new(request), badRequest("send JSON text", "expected a text message, got a binary one of %d bytes", len(m.Data))
	}
	var loose struct {
		Ref json.RawMessage `json:"ref"`
	}
	r := new(request)
	if json.Unmarshal(m.Data, &loose) == nil && len(loose.Ref) <= maxRef {
		r.Ref = loose.Ref
	}
	dec := json.NewDecoder(bytes.NewReader(m.Data))
	dec.DisallowUnknownFields()
	var known request
	if err := dec.Decode(&known); err != nil {
		return r, badRequest("correct the message", "expected one of %s; got %.60q: %v", vocabulary, m.Data, strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return r, badRequest("send each request as a message of its own", "expected one JSON object, got more behind it")
	}
	n := 0
	for _, there := range []bool{known.Subscribe != nil, known.Unsubscribe != nil, known.Publish != nil, known.Presence != nil} {
		if there {
			n++
		}
	}
	switch {
	case len(loose.Ref) > maxRef:
		return r, badRequest("use a number or a short string", "expected a ref of %d bytes at most, got %d", maxRef, len(loose.Ref))
	case n != 1:
		return r, badRequest("send each request as a message of its own", "expected one of %s; got %d of them", vocabulary, n)
	}
	return &known, nil
}

// do does what r asks for, and returns the answer; nil: it has answered itself.
func (c *conn) do(r *request) (*answer, error) {
	switch {
	case r.Subscribe != nil:
		return nil, c.subscribe(r)
	case r.Unsubscribe != nil:
		return c.unsubscribe(*r.Unsubscribe)
	case r.Publish != nil:
		return c.publish(r.Publish)
	}
	return c.present(r.Presence)
}

func (c *conn) unsubscribe(n int) (*answer, error) {
	sub := c.subs[n]
	if sub == nil {
		return nil, badRequest("use the number that the answer to subscribe had", "expected the number of a subscription of this session, got %d", n)
	}
	c.sub.Unsubscribe(sub)
	delete(c.subs, n)
	return &answer{Unsubscribed: n}, nil
}

func (c *conn) subscribe(r *request) error {
	sub := &hub.Subscription{After: r.Subscribe.After, Earliest: r.Subscribe.Earliest}
	for typ, list := range map[string][]string{hub.Exact: r.Subscribe.Topics, hub.URLPattern: r.Subscribe.Patterns} {
		for _, s := range list {
			m, err := c.hub.Matcher(typ, s)
			if err != nil {
				return badRequest("correct it", "%s", strings.TrimPrefix(err.Error(), "hub: "))
			}
			sub.Matchers = append(sub.Matchers, m)
		}
	}
	c.next++
	n := c.next
	sub.Start = func(recovered bool) error {
		return c.answer(r, &answer{Subscribed: &subscribed{n, recovered}})
	}
	if err := c.sub.Subscribe(c.ctx, sub); err != nil {
		return err
	}
	if c.subs == nil {
		c.subs = make(map[int]*hub.Subscription)
	}
	c.subs[n] = sub
	return nil
}

func (c *conn) publish(p *publish) (*answer, error) {
	if !c.rights.MayPublish(p.Topic) {
		do := c.rights.NoPublish
		if do == "" {
			do = "ask the operator of this hub for it, or open the session with a token that grants it"
		}
		return nil, &failure{codes[http.StatusForbidden], fmt.Sprintf("expected a topic that this session may publish, got %.100q", p.Topic), do}
	}
	e := &hub.Event{Topic: p.Topic, Data: p.Data, Type: p.Type, ID: p.ID, Private: p.Private, Retry: p.Retry}
	// The session's end doesn't cut it short: the event would be there or not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), busTime)
	defer cancel()
	if err := c.hub.Publish(ctx, e); err != nil {
		return nil, err
	}
	return &answer{Published: &published{e.ID}}, nil
}

func (c *conn) present(p *presence) (*answer, error) {
	if !c.rights.Present {
		return nil, &failure{codes[http.StatusForbidden], "expected a session that may know who is there, this one may not", "ask the operator of this hub for it, or open the session with a token that grants it"}
	}
	ctx, cancel := context.WithTimeout(c.ctx, busTime)
	defer cancel()
	list := []member{}
	err := c.hub.Present(ctx, func(m hub.Member) bool {
		if p.Match == "" || p.Match == m.Match {
			list = append(list, member{m.Subscriber, m.MatchType, m.Match, json.RawMessage(m.Payload)})
		}
		return true
	})
	return &answer{Present: &list}, err
}

// failed is err as the client is told it.
func failed(err error) *failure {
	var f *failure
	var refused *hub.Refused
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &refused):
		return &failure{codes[refused.Status], refused.Text, "correct it"}
	case errors.Is(err, hub.ErrTooLarge):
		return &failure{codes[http.StatusRequestEntityTooLarge], "the event is larger than the hub's storage takes", "publish less at once"}
	}
	return &failure{codes[http.StatusServiceUnavailable], "the hub's storage is not available now, its log says why", "try again later; a publish under the same id, so that it is not stored twice"}
}
