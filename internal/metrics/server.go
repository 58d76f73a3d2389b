// Package metrics shows operators what a server does, as a page that Prometheus reads.
//
// [Server] is its http.Handler. Nothing is counted here: each request asks the packages that count, for sessions and
// connections, not for messages. Nothing on the page names a client.
package metrics

import (
	"cmp"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"tandem/fcgi"
	"tandem/hub"
	"tandem/internal/problem"
	"tandem/program"
	"tandem/session"
	"tandem/session/frame"
)

// Server is what the page tells of; what is nil or 0 is left out. Its fields are not changed while it serves.
type Server struct {
	Version string
	Started time.Time

	FastCGI        *fcgi.Server
	MaxConnections int
	MaxSessions    int
	Programs       *program.Limiter
	MaxPrograms    int
	Endpoints      []Endpoint
}

// Endpoint is one of a server's.
type Endpoint struct {
	Name           string
	Sessions       *session.Handler
	Hub            *hub.Hub // nil: it is none
	MaxSubscribers int
	Database       string // the hub's file; "": it has none
}

// ServeHTTP answers /metrics.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/metrics":
		problem.Write(w, http.StatusNotFound, "Nothing is here. Expected /metrics.")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		problem.Write(w, http.StatusMethodNotAllowed, "Expected GET.")
	default:
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, s.page()) // an error is the reader's loss: it is gone
	}
}

func (s *Server) page() string {
	t := new(text)
	t.head("tandem_build_info", gauge, "Always 1; the version is a label.")
	t.sample(1, "version", s.Version)
	s.sessions(t)
	if s.FastCGI != nil {
		stats := s.FastCGI.Stats()
		t.one("tandem_fastcgi_connections", gauge, "FastCGI connections of web servers, one for each open request, and those that are kept for later ones.", float64(stats.Open))
		t.one("tandem_fastcgi_connections_refused_total", counter, "Connections beyond max_connections, which got 503 or were closed.", float64(stats.Refused))
		limit(t, "tandem_fastcgi_max_connections", "The limit max_connections.", s.MaxConnections)
	}
	if s.Programs != nil {
		t.one("tandem_programs", gauge, "Programs that run, those being stopped included.", float64(s.Programs.Children()))
		limit(t, "tandem_max_programs", "The limit limits.children.", s.MaxPrograms)
	}
	s.hubs(t)
	t.process(s.Started)
	return t.String()
}

// limit writes a limit; 0 is none.
func limit(t *text, name, help string, n int) {
	if n > 0 {
		t.one(name, gauge, help, float64(n))
	}
}

// watched are there from the beginning: to Prometheus a counter that comes with its first 1 has not risen.
var watched = []session.Code{frame.CodeNormal, frame.CodeInternal, frame.CodeOverloaded, frame.CodeHeartbeat, frame.CodeTooSlow}

func (s *Server) sessions(t *text) {
	if len(s.Endpoints) == 0 {
		return
	}
	all := make([]session.Stats, len(s.Endpoints))
	for i, e := range s.Endpoints {
		all[i] = e.Sessions.Stats()
		for _, code := range watched {
			all[i].Ended[code] += 0
		}
		for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			all[i].Refused[status] += 0
		}
	}
	t.head("tandem_sessions", gauge, "Open sessions, by the transport that each was opened with.")
	for i, e := range s.Endpoints {
		each(t, e.Name, "transport", all[i].Open, func(transport string) string { return transport })
	}
	limit(t, "tandem_max_sessions", "The limit limits.sessions, for all endpoints together.", s.MaxSessions)
	t.head("tandem_sessions_opened_total", counter, "Sessions that were opened, by transport.")
	for i, e := range s.Endpoints {
		each(t, e.Name, "transport", all[i].Opened, func(transport string) string { return transport })
	}
	t.head("tandem_sessions_ended_total", counter, "Sessions that have ended, by close code; other: a client's own code.")
	for i, e := range s.Endpoints {
		each(t, e.Name, "code", all[i].Ended, func(code session.Code) string {
			if code == 0 {
				return "other"
			}
			return strconv.Itoa(int(code))
		})
	}
	t.head("tandem_sessions_resumed_total", counter, "Times that another request went on with a session whose request was cut.")
	for i, e := range s.Endpoints {
		t.sample(float64(all[i].Resumed), "endpoint", e.Name)
	}
	t.head("tandem_requests_refused_total", counter, "Requests of sessions that were refused, by HTTP status.")
	for i, e := range s.Endpoints {
		each(t, e.Name, "status", all[i].Refused, strconv.Itoa)
	}
}

// each writes a sample for each key, in order.
func each[K cmp.Ordered, V int | uint64](t *text, endpoint, label string, m map[K]V, show func(K) string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		t.sample(float64(m[k]), "endpoint", endpoint, label, show(k))
	}
}

// hubFamilies are what hub.Stats has, but for Dropped.
var hubFamilies = []struct {
	name, kind, help string
	value            func(*hub.Stats) float64
}{
	{"tandem_hub_subscribers", gauge, "Subscribers: sessions, and streams of events.", func(s *hub.Stats) float64 { return float64(s.Subscribers) }},
	{"tandem_hub_subscribers_refused_total", counter, "Subscribers beyond max_subscribers.", func(s *hub.Stats) float64 { return float64(s.Full) }},
	{"tandem_hub_subscribers_too_slow_total", counter, "Subscribers that were disconnected as too slow (policy disconnect).", func(s *hub.Stats) float64 { return float64(s.TooSlow) }},
	{"tandem_hub_events_published_total", counter, "Events that this process has stored.", func(s *hub.Stats) float64 { return float64(s.Published) }},
	{"tandem_hub_publish_failures_total", counter, "Events that the storage didn't take, or not for sure.", func(s *hub.Stats) float64 { return float64(s.Unpublished) }},
	{"tandem_hub_events_delivered_total", counter, "Events written to subscribers, each for each of them.", func(s *hub.Stats) float64 { return float64(s.Delivered) }},
	{"tandem_hub_gaps_total", counter, "Times that a subscriber was told that events are missing.", func(s *hub.Stats) float64 { return float64(s.Gaps) }},
}

func (s *Server) hubs(t *text) {
	var hubs []Endpoint
	var all []hub.Stats
	for _, e := range s.Endpoints {
		if e.Hub != nil {
			hubs = append(hubs, e)
			all = append(all, e.Hub.Stats())
		}
	}
	if len(hubs) == 0 {
		return
	}
	for _, f := range hubFamilies {
		t.head(f.name, f.kind, f.help)
		for i, e := range hubs {
			t.sample(f.value(&all[i]), "endpoint", e.Name)
		}
	}
	t.head("tandem_hub_events_dropped_total", counter, "Events that a slow subscriber doesn't get, by policy; with keep-latest mostly because a newer one has come.")
	for i, e := range hubs {
		for _, p := range []hub.Policy{hub.DropOldest, hub.KeepLatest} {
			t.sample(float64(all[i].Dropped[p]), "endpoint", e.Name, "policy", p.String())
		}
	}
	t.head("tandem_hub_max_subscribers", gauge, "The limit max_subscribers; 0: none.")
	for _, e := range hubs {
		t.sample(float64(e.MaxSubscribers), "endpoint", e.Name)
	}
	t.head("tandem_hub_database_bytes", gauge, "Size of the history's file, with SQLite's log beside it.")
	for _, e := range hubs {
		if n, ok := size(e.Database); ok {
			t.sample(float64(n), "endpoint", e.Name)
		}
	}
}

// size is that of a database; false: there is none yet.
func size(file string) (n int64, ok bool) {
	for _, f := range []string{file, file + "-wal"} {
		if info, err := os.Stat(f); err == nil {
			n, ok = n+info.Size(), true
		}
	}
	return n, ok
}
