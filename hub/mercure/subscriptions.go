package mercure

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tandem/hub"
)

const subscriptionsPath = "/subscriptions"

// serveSubscriptions is the API of active subscriptions (section 8.2). rest is the path below the hub's.
func (h *Handler) serveSubscriptions(w http.ResponseWriter, r *http.Request, rest string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		h.refuse(w, &refusal{status: http.StatusMethodNotAllowed, detail: "Expected GET."})
		return
	}
	of, refused := parseSubscriptions(rest)
	if refused == nil {
		refused = h.mayList(r, of)
	}
	if refused != nil {
		h.refuse(w, refused)
		return
	}
	var found []hub.Member
	err := h.o.Hub.Present(r.Context(), func(m hub.Member) bool {
		if of.includes(m) {
			found = append(found, m)
		}
		return true
	})
	last := ""
	if err == nil {
		last, err = h.o.Hub.LastID(r.Context())
	}
	if err != nil {
		h.refuse(w, h.ofHub(err))
		return
	}
	if last == "" {
		last = earliest
	}
	body := collection(of.path(), found, last)
	if of.Subscriber != "" {
		if len(found) == 0 {
			h.refuse(w, &refusal{status: http.StatusNotFound, detail: "There is no such subscription now."})
			return
		}
		body = single(found[0], last)
	}
	hd := w.Header()
	hd.Set("Content-Type", "application/ld+json")
	hd.Set("Cache-Control", "private, no-cache, must-revalidate")
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("Link", h.link)
	w.Write(body)
}

// selection is what a path of the API stands for: what is empty is any.
type selection struct{ hub.Member }

// parseSubscriptions reads /subscriptions, and behind it a type, a matcher and a subscriber, each encoded as a whole.
func parseSubscriptions(rest string) (selection, *refusal) {
	var of selection
	none := &refusal{status: http.StatusNotFound, detail: "Expected /subscriptions, /subscriptions/TYPE/MATCH or /subscriptions/TYPE/MATCH/SUBSCRIBER, each part percent-encoded as a whole."}
	parts := strings.Split(strings.TrimPrefix(rest, subscriptionsPath), "/")[1:]
	if len(parts) == 1 || len(parts) > 3 {
		return of, none
	}
	for i, p := range parts {
		s, err := url.PathUnescape(p)
		if err != nil || s == "" {
			return of, none
		}
		*[]*string{&of.MatchType, &of.Match, &of.Subscriber}[i] = s
	}
	return of, nil
}

// path is the canonical one: the topic that has to be granted.
func (of selection) path() string {
	switch {
	case of.Subscriber != "":
		return hub.SubscriptionTopic(of.Member)
	case of.Match != "":
		return strings.TrimSuffix(hub.SubscriptionTopic(of.Member), "/")
	}
	return hub.Reserved + subscriptionsPath
}

func (of selection) includes(m hub.Member) bool {
	return (of.Match == "" || of.MatchType == m.MatchType && of.Match == m.Match) && (of.Subscriber == "" || of.Subscriber == m.Subscriber)
}

// mayList tells why r may not have of.
func (h *Handler) mayList(r *http.Request, of selection) *refusal {
	cred, refused := h.credentialsOf(r, r.URL.Query())
	switch {
	case refused != nil:
		return refused
	case cred.token == "":
		return noToken("Who subscribes is told only to who has an access token.")
	}
	g, refused := h.check(cred, h.o.SubscriberKeys)
	if refused == nil && !g.mayRead(of.path()) {
		refused = forbidden("The access token does not grant subscribe on " + of.path() + ".")
	}
	return refused
}

// collection is the document of several subscriptions, in the order of their ids.
func collection(path string, found []hub.Member, last string) []byte {
	slices.SortFunc(found, func(a, b hub.Member) int { return strings.Compare(hub.SubscriptionTopic(a), hub.SubscriptionTopic(b)) })
	list := make([]json.RawMessage, len(found))
	for i, m := range found {
		list[i] = hub.SubscriptionJSON(m, true, false)
	}
	return marshal(struct {
		Context       string            `json:"@context"`
		ID            string            `json:"id"`
		Type          string            `json:"type"`
		Last          string            `json:"lastEventID"`
		Subscriptions []json.RawMessage `json:"subscriptions"`
	}{"https://mercure.rocks/", path, "Subscriptions", last, list})
}

// single is the document of one subscription.
func single(m hub.Member, last string) []byte {
	doc := hub.SubscriptionJSON(m, true, true)
	return append(append(doc[:len(doc)-1], `,"lastEventID":`...), append(marshal(last), '}')...)
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, and JSON
	}
	return b
}
