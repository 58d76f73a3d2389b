package mercure

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tandem/hub"
)

// Defaults of Options.
const (
	DefaultCookie      = "mercureAccessToken"
	DefaultHeartbeat   = 30 * time.Second
	DefaultMaxLifetime = time.Hour
	DefaultMaxBody     = 2 << 20
	DefaultLeeway      = 10 * time.Second
	legacyCookie       = "mercureAuthorization" // of drafts 02 to 07
)

// Options of a Handler. All but Hub may be left out.
type Options struct {
	Hub *hub.Hub
	// URL is the hub's public URL, such as https://example.com/.well-known/mercure: the base of relative topics
	// (it has to be Hub's, too), and the audience (aud) that access tokens must name. Needed with
	// keys: what a request says of the host that it is for proves nothing.
	URL string
	// PublisherKeys and SubscriberKeys verify the access tokens of either role.
	PublisherKeys, SubscriberKeys []Key
	// Issuers are the authorization servers whose tokens are taken (iss), and that the hub's metadata
	// names; none: whoever has a key.
	Issuers []string
	// Strict takes only what draft 08 has: no topic parameters, mercure claims, or cookies of earlier drafts.
	Strict bool

	// PublishUsers are those who may publish when the web server has authenticated them; "*": all that it
	// has authenticated.
	PublishUsers []string
	// PublishAnyone lets everybody publish who reaches the hub.
	PublishAnyone bool
	// RequireToken refuses subscribers that have no access token. Else they get what isn't private.
	RequireToken bool

	// Origins are those besides the hub's own whose pages may use it, such as https://example.com; "*": all, but
	// without cookies.
	Origins []string
	// Cookie is the name of the one that has the access token of a browser.
	Cookie string

	// Heartbeat is how long a subscriber's connection is silent at most.
	Heartbeat time.Duration
	// MaxLifetime is how long a subscriber's connection lasts at most; it then connects again and is
	// authorized anew. Negative: no limit but its token's.
	MaxLifetime time.Duration
	// MaxBody is how large a request to publish may be, in bytes.
	MaxBody int64
	// Leeway is how far the clocks of those who issue tokens may be ahead (nbf, iat). exp has none.
	Leeway time.Duration

	Log *slog.Logger // nil: slog.Default()
}

// Handler serves the Mercure protocol. It is safe for concurrent use. It ends with its Hub: hub.Close ends the
// requests of all subscribers.
type Handler struct {
	o        Options
	log      *slog.Logger
	path     string // of URL
	origin   string // of URL
	link     string // see Link
	metadata string // URL of the protected resource metadata; "": not known
}

// New makes a Handler. An error names the option that it is about.
func New(o Options) (*Handler, error) {
	h := &Handler{o: o, log: o.Log, path: hub.Reserved}
	if h.log == nil {
		h.log = slog.Default()
	}
	if h.o.Cookie == "" {
		h.o.Cookie = DefaultCookie
	}
	for _, d := range []struct {
		p     *time.Duration
		value time.Duration
	}{{&h.o.Heartbeat, DefaultHeartbeat}, {&h.o.MaxLifetime, DefaultMaxLifetime}, {&h.o.Leeway, DefaultLeeway}} {
		if *d.p == 0 {
			*d.p = d.value
		}
	}
	if h.o.MaxBody == 0 {
		h.o.MaxBody = DefaultMaxBody
	}
	keys := len(o.PublisherKeys) + len(o.SubscriberKeys)
	switch {
	case o.Hub == nil:
		return nil, errors.New("mercure: no Hub")
	case keys > 0 && o.URL == "":
		return nil, errors.New("mercure: url: expected the hub's public URL, such as https://example.com/.well-known/mercure: access tokens have to name it (aud)")
	case o.RequireToken && len(o.SubscriberKeys) == 0:
		return nil, errors.New("mercure: anonymous subscribers are refused, and there is no subscriber key: nobody could subscribe")
	}
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("mercure: url: expected an absolute URL, such as https://example.com/.well-known/mercure, got %q", o.URL)
		}
		h.path = strings.TrimSuffix(u.EscapedPath(), "/")
		h.origin = originOf(u)
		h.metadata = h.origin + metadataPath + h.path
	}
	for _, origin := range o.Origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || originOf(u) != origin) {
			return nil, fmt.Errorf("mercure: origins: expected origins such as https://example.com or \"*\", got %q", origin)
		}
	}
	h.link = "<" + hub.Reserved + `>; rel="mercure"`
	if o.URL != "" {
		h.link = "<" + o.URL + `>; rel="mercure"`
	}
	return h, nil
}

// Link is the value of the Link header by which pages and APIs tell their clients
// of the hub (section 10.1).
func (h *Handler) Link() string { return h.link }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Origin")
	h.allowOrigin(w, r)
	rest, ok := h.below(r)
	switch {
	case !ok:
		h.refuse(w, &refusal{status: http.StatusNotFound, detail: "Nothing is here. Expected the hub, " + h.path + ", or " + h.path + "/subscriptions."})
	case r.Method == http.MethodOptions:
		h.preflight(w)
	case rest == metadataPath:
		h.serveMetadata(w, r)
	case rest != "":
		h.serveSubscriptions(w, r, rest)
	case r.Method == http.MethodGet:
		h.subscribe(w, r)
	case r.Method == http.MethodPost:
		h.publish(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, OPTIONS")
		h.refuse(w, &refusal{status: http.StatusMethodNotAllowed, detail: fmt.Sprintf("Expected GET to subscribe or POST to publish, got %.20s.", r.Method)})
	}
}

// below is what the request's path has below the hub's, as it was written: metadataPath, subscriptionsPath and what
// follows, or nothing. Where the hub is not at its URL's path, whoever routes requests here has put it elsewhere.
func (h *Handler) below(r *http.Request) (rest string, ok bool) {
	p := r.URL.EscapedPath()
	if strings.HasPrefix(p, metadataPath) {
		return metadataPath, true
	}
	p, known := strings.CutPrefix(p, h.path)
	for at := 0; ; {
		i := strings.Index(p[at:], subscriptionsPath)
		if i < 0 {
			return "", !known || p == "" || p == "/"
		}
		at += i
		rest := strings.TrimSuffix(p[at:], "/")
		at += len(subscriptionsPath)
		if at == len(p) || p[at] == '/' {
			return rest, true
		}
	}
}
