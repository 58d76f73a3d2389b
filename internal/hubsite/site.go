// Package hubsite makes a hub of an endpoint's configuration: its bus, and at one URL both of its
// interfaces, sessions and Mercure's HTTP.
//
// Which of them a request is for, it says itself (docs/hub.md): Mercure has GET of an event stream, or with a topic in the
// query, POST of a form, and what is below the URL; sessions have the rest.
package hubsite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"tandem/hub"
	"tandem/hub/app"
	"tandem/hub/mercure"
	"tandem/hub/natsbus"
	"tandem/hub/sqlitebus"
	"tandem/internal/config"
	"tandem/internal/natsowner"
	"tandem/internal/owner"
	"tandem/session"
)

// KeyError is what is wrong with a key of the configuration.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

// bus is one that was opened here.
type bus interface {
	hub.Bus
	Close() error
}

// Site is one hub. It is safe for concurrent use.
type Site struct {
	hub     *hub.Hub
	bus     bus
	mercure *mercure.Handler
	nats    *natsbus.Bus // bus, if that is what it is
	config  *config.Hub
	log     *slog.Logger
}

// New makes the hub of e, and returns it with the app for its sessions. No file and no connection is opened before it is
// needed, but for those of NATS. An error is a *KeyError.
func New(e *config.Endpoint, log *slog.Logger) (*Site, session.App, error) {
	c := &e.Hub
	var rules []hub.Rule
	for _, s := range c.Slow {
		policy, pattern, _ := strings.Cut(s, " ")
		p, err := hub.ParsePolicy(policy)
		if err != nil {
			return nil, nil, &KeyError{"slow", err}
		}
		m, err := hub.ParseMatcher(hub.URLPattern, pattern, c.URL)
		if err != nil {
			return nil, nil, &KeyError{"slow", err}
		}
		rules = append(rules, hub.Rule{Matcher: m, Policy: p})
	}
	publishers, err := keys("publisher_keys", c.PublisherKeys)
	if err != nil {
		return nil, nil, err
	}
	subscribers, err := keys("subscriber_keys", c.SubscriberKeys)
	if err != nil {
		return nil, nil, err
	}
	s := &Site{config: c, log: log}
	if s.bus, err = openBus(c, log); err != nil {
		return nil, nil, err
	}
	s.nats, _ = s.bus.(*natsbus.Bus)
	s.hub = hub.New(s.bus, &hub.Options{
		Log: log, Base: c.URL, MaxData: int(c.MaxData), MaxMatchers: c.MaxMatchers, MaxSubscribers: c.MaxSubscribers,
		QueueEvents: c.QueueEvents, QueueBytes: int(c.QueueBytes), Slow: rules, Presence: c.Presence,
	})
	s.mercure, err = mercure.New(mercure.Options{
		Hub: s.hub, URL: c.URL, PublisherKeys: publishers, SubscriberKeys: subscribers, Issuers: c.Issuers, Strict: c.Strict,
		PublishUsers: c.PublishUsers, PublishAnyone: c.Publish == config.PublishAnyone, RequireToken: !c.Anonymous,
		Origins: e.Origins, Cookie: c.Cookie, Heartbeat: e.Heartbeat, MaxLifetime: e.MaxLife, MaxBody: 3*c.MaxData + 64<<10, Log: log,
	})
	if err != nil {
		s.bus.Close()
		return nil, nil, &KeyError{"url", err}
	}
	return s, app.New(s.hub, app.Options{Authorize: func(p *session.Peer) (*hub.Rights, error) {
		return s.mercure.Rights(p.Header, p.User)
	}}), nil
}

func keys(name string, files []string) (list []mercure.Key, err error) {
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, &KeyError{name, err}
		}
		l, err := mercure.ParseKeys(data)
		if err != nil {
			return nil, &KeyError{name, fmt.Errorf("%s: %w", f, err)}
		}
		list = append(list, l...)
	}
	return list, nil
}

func openBus(c *config.Hub, log *slog.Logger) (bus, error) {
	if len(c.Servers) == 0 {
		none := func(n int64) int64 { // to sqlitebus 0 stands for its default
			if n == 0 {
				return -1
			}
			return n
		}
		return sqlitebus.New(c.Database, &sqlitebus.Options{
			MaxAge: time.Duration(none(int64(c.HistoryAge))), MaxEvents: none(int64(c.HistoryEvents)), MaxBytes: none(c.HistoryBytes),
			Sync: c.DatabaseSync, Log: log,
		}), nil
	}
	b, err := natsbus.New(natsbus.Options{
		Servers: c.Servers, Name: c.ServersName, Replicas: c.Replicas,
		Credentials: natsbus.Credentials{File: c.NATSCredentials, NKeyFile: c.NATSNKey},
		TLS:         natsbus.TLS{CAFile: c.NATSCA, CertFile: c.NATSCert, KeyFile: c.NATSKey},
		MaxAge:      c.HistoryAge, MaxEvents: int64(c.HistoryEvents), MaxBytes: c.HistoryBytes, Log: log,
	})
	if err == nil {
		return b, nil
	}
	key := "nats"
	var oe *natsbus.OptionError
	if errors.As(err, &oe) {
		if k, ok := natsKeys[oe.Option]; ok {
			key = k
		}
		err = errors.New(oe.Text)
	}
	return nil, &KeyError{key, err}
}

// natsKeys are the keys of natsbus's options.
var natsKeys = map[string]string{
	"Name": "nats_name", "Replicas": "nats_replicas", "MaxAge": "history_age", "DuplicateWindow": "history_age", "MaxEvents": "history_events", "MaxBytes": "history_bytes",
	"Credentials": "nats_credentials", "TLS": "nats_ca",
}

// Handler serves both interfaces; sessions is that of the app.
func (s *Site) Handler(sessions http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isMercure(r) {
			s.mercure.ServeHTTP(w, r)
			return
		}
		sessions.ServeHTTP(w, r)
	})
}

// Paths are those of the hub's URL, which web servers may route here beside the endpoint's own.
func Paths(c *config.Hub) []string {
	u, err := url.Parse(c.URL)
	if err != nil || c.URL == "" {
		return nil
	}
	path := strings.TrimSuffix(u.Path, "/")
	return []string{path, metadata + path}
}

const metadata = "/.well-known/oauth-protected-resource"

// isMercure tells whether r is for Mercure's interface.
func isMercure(r *http.Request) bool {
	for name := range r.Header {
		if strings.HasPrefix(name, "Tandem-") {
			return false
		}
	}
	if strings.HasPrefix(r.URL.Path, metadata) || strings.Contains(r.URL.Path, "/subscriptions") {
		return true
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			return true
		}
		for name := range r.URL.Query() {
			if name == "topic" || strings.HasPrefix(strings.ToLower(name), "match") {
				return true
			}
		}
	case http.MethodPost:
		media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		return strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded")
	case http.MethodOptions: // of a page's request: those of sessions have headers of their own
		return r.Header.Get("Access-Control-Request-Method") != "" && !strings.Contains(strings.ToLower(r.Header.Get("Access-Control-Request-Headers")), "tandem-")
	}
	return false
}

// Hub is the hub itself.
func (s *Site) Hub() *hub.Hub { return s.hub }

// Owners has the processes of all hosts that share the hub find each other's sessions, where NATS joins them. local is this process among
// those of its host. nil: the hub is one host's. Who has it closes it before the Site.
func (s *Site) Owners(local *owner.Owner) *natsowner.Owner {
	if s.nats == nil {
		return nil
	}
	return &natsowner.Owner{Local: local, Conn: s.nats.Conn(), Name: s.config.ServersName, Replicas: s.config.Replicas, Log: s.log}
}

// Watch has the log say whether NATS is there, and is what the configuration says, until it is or ctx is done. A database is
// looked at when it is needed.
func (s *Site) Watch(ctx context.Context) {
	if s.nats == nil {
		return
	}
	const longest = time.Minute
	for wait := time.Second; ; wait = min(2*wait, longest) {
		err := s.nats.Check(ctx)
		switch {
		case err == nil:
			s.log.Info("the hub's servers are ready", "nats_name", s.config.ServersName, "nats_replicas", s.config.Replicas)
			return
		case ctx.Err() != nil:
			return
		}
		s.log.Error("the hub can't work: nothing can be published, nor who comes subscribe", "error", err, "again_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// End ends all subscriptions. Publishing still works.
func (s *Site) End(ctx context.Context) error { return s.hub.Close(ctx) }

// Close closes the bus.
func (s *Site) Close() error { return s.bus.Close() }
