package mercure

import (
	"errors"
	"net/http"
	"slices"

	"tandem/hub"
)

// Rights says what the client of a session may do, whose request has header and whom the web server knows as user: the same
// as with this interface. A token that both roles' keys verify grants what it says for both.
func (h *Handler) Rights(header http.Header, user string) (*hub.Rights, error) {
	cred, refused := h.credentialsOf(&http.Request{Header: header}, nil)
	if refused != nil {
		return nil, errors.New(refused.detail)
	}
	trusted := h.o.PublishAnyone || user != "" && (slices.Contains(h.o.PublishUsers, user) || slices.Contains(h.o.PublishUsers, "*"))
	r := &hub.Rights{Present: trusted}
	if user != "" {
		r.ID = user + "#" + randomID()
	}
	if trusted {
		r.Publish = []hub.Matcher{hub.All}
	}
	// Without keys a token is for somebody else: the web server, perhaps.
	if cred.token == "" || len(h.o.SubscriberKeys)+len(h.o.PublisherKeys) == 0 {
		if h.o.RequireToken {
			return nil, errors.New("subscribing takes an access token: Authorization: Bearer TOKEN")
		}
		return r, nil
	}
	subscriber, err := h.verify(cred.token, h.o.SubscriberKeys)
	publisher, perr := h.verify(cred.token, h.o.PublisherKeys)
	if err != nil && (perr != nil || h.o.RequireToken) {
		h.log.Info("mercure: access token refused", "error", errors.Join(err, perr))
		return nil, errors.New("the access token is not valid here: the hub's log says why")
	}
	if perr == nil {
		r.Publish, r.Expires = append(r.Publish, publisher.publish...), publisher.expires
	}
	if err == nil {
		r.Readable, r.Payload, r.Expires = subscriber.subscribe, subscriber.payload, subscriber.expires
		r.Present = r.Present || subscriber.mayRead(hub.Reserved+subscriptionsPath)
		if subscriber.subject != "" {
			r.ID = subscriber.subject + "#" + randomID()
		}
	}
	return r, nil
}
