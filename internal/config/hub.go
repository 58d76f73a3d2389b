package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Who may publish at a hub without a token and without being one of PublishUsers.
const (
	PublishClosed = "closed"
	PublishAnyone = "anyone"
)

// SlowPolicies are what may become of events that a subscriber is too slow for.
var SlowPolicies = []string{"disconnect", "drop-oldest", "keep-latest"}

// Hub is what an endpoint with AppHub has beside the rest.
type Hub struct {
	Database     string // file; "": Servers
	DatabaseSync bool

	Servers         []string // of NATS
	ServersName     string
	Replicas        int
	NATSCredentials string // files
	NATSNKey        string
	NATSCA          string
	NATSCert        string
	NATSKey         string

	HistoryAge    time.Duration // 0: no bound
	HistoryEvents int
	HistoryBytes  int64

	URL            string
	PublisherKeys  []string // files
	SubscriberKeys []string
	Issuers        []string
	Cookie         string
	Strict         bool
	Anonymous      bool
	Publish        string
	PublishUsers   []string
	Presence       bool

	MaxData        int64
	MaxMatchers    int
	MaxSubscribers int // at once; 0: no limit
	QueueEvents    int
	QueueBytes     int64
	Slow           []string // "POLICY PATTERN"
}

func newHub() Hub {
	return Hub{
		ServersName: "tandem", Replicas: 1,
		HistoryAge: week, HistoryEvents: 1_000_000, HistoryBytes: 256 << 20,
		Anonymous: true, Publish: PublishClosed, Cookie: "mercureAccessToken",
		MaxData: 1 << 20, MaxMatchers: 100, MaxSubscribers: 10_000, QueueEvents: 1024, QueueBytes: 1 << 20,
	}
}

func (h *Hub) keys() []key {
	return []key{
		{"database", text{&h.Database, nil}},
		{"database_sync", boolean{&h.DatabaseSync}},
		{"nats", texts{&h.Servers, natsServer}},
		{"nats_name", text{&h.ServersName, nil}},
		{"nats_replicas", count{&h.Replicas}},
		{"nats_credentials", text{&h.NATSCredentials, nil}},
		{"nats_nkey", text{&h.NATSNKey, nil}},
		{"nats_ca", text{&h.NATSCA, nil}},
		{"nats_cert", text{&h.NATSCert, nil}},
		{"nats_key", text{&h.NATSKey, nil}},
		{"history_age", duration{&h.HistoryAge, 0, 520 * week}},
		{"history_events", count{&h.HistoryEvents}},
		{"history_bytes", size{&h.HistoryBytes, 0, 1 << 50}},
		{"url", text{&h.URL, hubURL}},
		{"publisher_keys", texts{&h.PublisherKeys, nil}},
		{"subscriber_keys", texts{&h.SubscriberKeys, nil}},
		{"issuers", texts{&h.Issuers, nil}},
		{"cookie", text{&h.Cookie, nil}},
		{"strict", boolean{&h.Strict}},
		{"anonymous", boolean{&h.Anonymous}},
		{"publish", oneOf{&h.Publish, []string{PublishClosed, PublishAnyone}}},
		{"publish_users", texts{&h.PublishUsers, nil}},
		{"presence", boolean{&h.Presence}},
		{"max_data", size{&h.MaxData, 1, 1 << 30}},
		{"max_matchers", count{&h.MaxMatchers}},
		{"max_subscribers", count{&h.MaxSubscribers}},
		{"queue_events", count{&h.QueueEvents}},
		{"queue_bytes", size{&h.QueueBytes, 1 << 10, 1 << 30}},
		{"slow", texts{&h.Slow, slow}},
	}
}

// natsKeys are those that mean something only with nats.
var natsKeys = []string{"nats_name", "nats_replicas", "nats_credentials", "nats_nkey", "nats_ca", "nats_cert", "nats_key"}

func natsServer(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
		shown := strconv.Quote(s)
		if strings.Contains(s, "@") {
			shown = "this" // it may have a password
		}
		return "", fmt.Errorf(`%s is no NATS server: expected a URL such as "nats://10.0.0.1:4222" or "tls://nats.example.org"`, shown)
	}
	return s, nil
}

func hubURL(s string) (string, error) {
	if s == "" {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf(`got %q, expected the hub's public URL, such as "https://example.org/.well-known/mercure"`, s)
	}
	return s, nil
}

// slow checks a policy; the pattern is the hub's to check.
func slow(s string) (string, error) {
	policy, pattern, _ := strings.Cut(s, " ")
	if pattern = strings.TrimSpace(pattern); pattern == "" || !slices.Contains(SlowPolicies, policy) {
		return "", fmt.Errorf(`got %q, expected one of %s and a topic or URL pattern, such as "keep-latest /prices/*"`, s, strings.Join(SlowPolicies, ", "))
	}
	return policy + " " + pattern, nil
}

// hub checks e, whose app is AppHub, and makes its paths absolute.
func (d *decoder) hub(e *Endpoint, has func(*Endpoint, string) bool) {
	h := &e.Hub
	switch {
	case !has(e, "database") && !has(e, "nats"):
		d.fail(d.at(e, "app"), errors.New(`app = "hub" needs database = "/var/lib/tandem/hub.db", which it makes, or nats = ["nats://HOST:4222"]`))
	case has(e, "database") && has(e, "nats"):
		d.fail(e.key("nats"), errors.New("a hub has a database or NATS, not both: leave out either"))
	case has(e, "database") && h.Database == "" && len(d.errs) == 0:
		d.fail(e.key("database"), errors.New(`expected the path of a file, such as "/var/lib/tandem/hub.db", which is made`))
	case has(e, "nats") && len(h.Servers) == 0 && len(d.errs) == 0:
		d.fail(e.key("nats"), errors.New(`expected one or more servers, such as ["nats://10.0.0.1:4222"]`))
	}
	if !has(e, "nats") {
		for _, k := range natsKeys {
			if has(e, k) {
				d.fail(e.key(k), errors.New("only a hub with nats has this key"))
			}
		}
	} else if has(e, "database_sync") {
		d.fail(e.key("database_sync"), errors.New("only a hub with a database has this key"))
	}
	if h.Replicas != 1 && h.Replicas != 3 && h.Replicas != 5 {
		d.fail(e.key("nats_replicas"), fmt.Errorf("got %d, expected 1, 3 or 5", h.Replicas))
	}
	for name, list := range map[string][]string{"publisher_keys": h.PublisherKeys, "subscriber_keys": h.SubscriberKeys} {
		if len(list) > 0 && h.URL == "" {
			d.fail(e.key(name), errors.New(`keys need url = "https://example.org/.well-known/mercure": access tokens must name their hub (aud)`))
		}
	}
	if !h.Anonymous && len(h.SubscriberKeys) == 0 {
		d.fail(e.key("anonymous"), errors.New("without subscriber_keys nobody could subscribe"))
	}
	if h.Publish == PublishAnyone && len(h.PublisherKeys) > 0 {
		d.fail(e.key("publish"), errors.New(`"anyone" makes publisher_keys meaningless: leave out either`))
	}
	for _, p := range []*string{&h.Database, &h.NATSCredentials, &h.NATSNKey, &h.NATSCA, &h.NATSCert, &h.NATSKey} {
		if *p != "" {
			*p = d.path(*p)
		}
	}
	for _, list := range [][]string{h.PublisherKeys, h.SubscriberKeys} {
		for i := range list {
			list[i] = d.path(list[i])
		}
	}
}
