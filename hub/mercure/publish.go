package mercure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tandem/hub"
	"tandem/internal/gateway"
)

// publishTimeout is how long the hub may take to store an update. A publisher that hangs up does
// not cut that short: its update would be there or not.
const publishTimeout = 30 * time.Second

func (h *Handler) publish(w http.ResponseWriter, r *http.Request) {
	may, refused := h.publisher(r)
	if refused != nil {
		h.refuse(w, refused)
		return
	}
	e, refused := h.update(w, r)
	if refused == nil && !may(e.Topic) {
		refused = forbidden("The access token does not grant publish on this topic.")
	}
	if refused != nil {
		h.refuse(w, refused)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), publishTimeout)
	defer cancel()
	if err := h.o.Hub.Publish(ctx, e); err != nil {
		h.refuse(w, h.ofHub(err))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	io.WriteString(w, e.ID) // an error is the publisher's loss: it is gone
}

// publisher tells which topics who sent r may publish: by its token, else because the web server knows it, or
// anybody may.
func (h *Handler) publisher(r *http.Request) (may func(topic string) bool, refused *refusal) {
	all := func(string) bool { return true }
	cred, refused := h.credentialsOf(r, r.URL.Query())
	if refused != nil {
		return nil, refused
	}
	user := gateway.Of(r).User
	switch {
	case cred.token != "" && len(h.o.PublisherKeys) > 0:
		if cred.ambient {
			if refused := h.forged(r, true); refused != nil {
				return nil, refused
			}
		}
		g, refused := h.check(cred, h.o.PublisherKeys)
		if refused != nil {
			return nil, refused
		}
		return g.mayPublish, nil
	case h.o.PublishAnyone, user != "" && (slices.Contains(h.o.PublishUsers, user) || slices.Contains(h.o.PublishUsers, "*")):
		return all, h.forged(r, false)
	case user != "" && len(h.o.PublishUsers) > 0:
		return nil, &refusal{status: http.StatusForbidden, detail: "The user that the web server has authenticated may not publish here."}
	case cred.token != "":
		h.log.Warn("mercure: a token to publish with can't be verified: no publisher key is configured")
		return nil, &refusal{http.StatusUnauthorized, invalidToken, "The access token is not valid here."}
	case len(h.o.PublisherKeys) > 0:
		return nil, noToken("Publishing takes an access token: Authorization: Bearer TOKEN.")
	case len(h.o.PublishUsers) > 0:
		return nil, noToken("Publishing takes a user that the web server has authenticated.")
	}
	return nil, &refusal{status: http.StatusForbidden, detail: "Publishing is closed: no key is configured, no user, and not \"anyone\"."}
}

// check verifies a token.
func (h *Handler) check(cred credentials, keys []Key) (*grants, *refusal) {
	g, err := h.verify(cred.token, keys)
	if err != nil {
		h.log.Info("mercure: access token refused", "error", err)
		return nil, &refusal{http.StatusUnauthorized, invalidToken, "The access token is not valid here. The hub's log says why."}
	}
	return g, nil
}

// update reads the event out of a form (section 5).
func (h *Handler) update(w http.ResponseWriter, r *http.Request) (*hub.Event, *refusal) {
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/x-www-form-urlencoded" {
		return nil, malformed(fmt.Sprintf("Expected a body of application/x-www-form-urlencoded, got %.60q.", r.Header.Get("Content-Type")))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.o.MaxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, &refusal{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("Expected a body of %d bytes at most.", h.o.MaxBody)}
		}
		return nil, malformed("The body could not be read to its end.")
	}
	return parseUpdate(string(body))
}

// parseUpdate checks what is about the form. What an event may be is the hub's to check.
func parseUpdate(body string) (*hub.Event, *refusal) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, malformed("The form can't be read: " + err.Error() + ".")
	}
	for name, values := range form {
		for _, v := range values {
			if !utf8.ValidString(name) || !utf8.ValidString(v) {
				return nil, malformed(fmt.Sprintf("Field %.40q: expected UTF-8, got bytes that aren't.", name))
			}
		}
	}
	switch topics := form["topic"]; {
	case len(topics) == 0 || topics[0] == "":
		return nil, malformed("Expected a topic field, got none.")
	case len(topics) > 1:
		return nil, malformed(fmt.Sprintf("Expected one topic field, got %d: an update is of one topic (draft 08). Publish one for each.", len(topics)))
	}
	for _, name := range []string{"data", "id", "type", "retry"} {
		if len(form[name]) > 1 {
			return nil, malformed(fmt.Sprintf("Expected one %s field at most, got %d.", name, len(form[name])))
		}
	}
	e := &hub.Event{Topic: form.Get("topic"), Data: form.Get("data"), ID: form.Get("id"), Type: form.Get("type"), Private: form.Has("private")}
	if retry := form.Get("retry"); retry != "" {
		if strings.Trim(retry, "0123456789") != "" {
			return nil, malformed(fmt.Sprintf("retry: expected digits, ms, got %.40q.", retry))
		}
		if e.Retry, err = strconv.ParseUint(retry, 10, 64); err != nil {
			return nil, malformed(fmt.Sprintf("retry: expected a number of ms, got %.40q.", retry))
		}
	}
	return e, nil
}
