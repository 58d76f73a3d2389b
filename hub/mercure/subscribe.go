package mercure

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tandem/hub"
)

// earliest asks for all of the history (section 7).
const earliest = "earliest"

// subscription is what a request to subscribe asks for, and may.
type subscription struct {
	matchers []hub.Matcher
	after    string // "", earliest, or an event's id
	grants   *grants
	id       string // in presence; "": the hub makes one
}

func (h *Handler) subscribe(w http.ResponseWriter, r *http.Request) {
	s, refused := h.subscription(r)
	if refused != nil {
		h.refuse(w, refused)
		return
	}
	h.stream(w, r, s)
}

// subscription reads a request. Who asks for more than one may have is refused only private events, not the
// subscription (section 6.6).
func (h *Handler) subscription(r *http.Request) (*subscription, *refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, malformed("The query can't be read: " + err.Error() + ".")
	}
	s := &subscription{}
	var refused *refusal
	if s.grants, refused = h.subscriber(r, query); refused != nil {
		return nil, refused
	}
	if s.grants.subject != "" {
		s.id = s.grants.subject + "#" + randomID()
	}
	if s.after, refused = h.lastEventID(r, query); refused != nil {
		return nil, refused
	}
	s.matchers, refused = h.matchers(query)
	return s, refused
}

// subscriber returns what the request's token grants, and without one nothing.
func (h *Handler) subscriber(r *http.Request, query url.Values) (*grants, *refusal) {
	cred, refused := h.credentialsOf(r, query)
	switch {
	case refused != nil:
		return nil, refused
	case cred.token == "" && h.o.RequireToken:
		return nil, noToken("Subscribing takes an access token.")
	case cred.token == "":
		return new(grants), nil
	}
	return h.check(cred, h.o.SubscriberKeys)
}

// matchers are those of the query, each once (section 3).
func (h *Handler) matchers(query url.Values) ([]hub.Matcher, *refusal) {
	var list []hub.Matcher
	known := make(map[hub.Matcher]bool)
	for name, patterns := range query {
		typ, ok := h.matcherType(name)
		if !ok {
			return nil, malformed(fmt.Sprintf("Parameter %.40q: expected match, matchExact or matchURLPattern; names that begin with match are reserved.", name))
		}
		if typ == "" {
			continue
		}
		for _, p := range patterns {
			m, err := hub.ParseMatcher(typ, p, h.o.URL)
			if err != nil {
				return nil, malformed(fmt.Sprintf("Parameter %s: %s.", name, strings.TrimPrefix(err.Error(), "hub: ")))
			}
			if known[m] {
				continue
			}
			known[m] = true
			if list = append(list, m); len(list) > h.o.Hub.MaxMatchers() { // the hub would say so, but patterns take time to compile
				return nil, malformed(fmt.Sprintf("Expected %d topics and patterns at most.", h.o.Hub.MaxMatchers()))
			}
		}
	}
	if len(list) == 0 {
		return nil, malformed("Expected one match or matchURLPattern parameter or more, got none.")
	}
	return list, nil
}

// matcherType is the type that a parameter's name says; "": it is no matcher. False: it ought to be
// one.
func (h *Handler) matcherType(name string) (string, bool) {
	switch {
	case name == "match" || name == "matchExact":
		return hub.Exact, true
	case name == "matchURLPattern":
		return hub.URLPattern, true
	case name == "topic" && !h.o.Strict:
		return hub.URITemplate, true
	}
	return "", len(name) < len("match") || !strings.EqualFold(name[:len("match")], "match")
}

// lastEventID is the id after which the history is asked for: of the header, which browsers send when they connect
// again, else of a parameter (section 7).
func (h *Handler) lastEventID(r *http.Request, query url.Values) (string, *refusal) {
	id := r.Header.Get("Last-Event-ID")
	names := []string{"lastEventID"}
	if !h.o.Strict {
		names = append(names, "Last-Event-ID", "last-event-id")
	}
	for _, name := range names {
		if id == "" {
			id = query.Get(name)
		}
	}
	if strings.ContainsAny(id, "\x00\r\n") {
		return "", malformed("lastEventID: expected no NUL, CR or LF.")
	}
	return id, nil
}

// randomID tells subscribers of one user (sub) apart: of several tabs, perhaps at several processes.
func randomID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
