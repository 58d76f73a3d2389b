package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// A key is a name in the file and its place in the Config.
type key struct {
	name  string
	value value
}

const week = 7 * 24 * time.Hour

func (c *Config) keys() []key {
	return []key{
		{"drain", duration{&c.Drain, 0, time.Hour}},
		{"state_dir", text{&c.StateDir, nil}},
		{"relay", socket{&c.Relay}},
	}
}

func (l *Listener) keys() []key {
	return []key{
		{"listen", texts{&l.Listen, address}},
		{"public", boolean{&l.Public}},
		{"mode", mode{&l.Mode}},
		{"group", text{&l.Group, nil}},
	}
}

func (f *FastCGI) keys() []key {
	return append(f.Listener.keys(),
		key{"max_connections", count{&f.MaxConnections}},
		key{"allowed", addrs{&f.Allowed}},
		key{"relay_users", texts{&f.RelayUsers, nil}},
		key{"engine", oneOf{&f.Engine, []string{EngineOwn, EngineNetHTTP}}},
	)
}

func (l *Log) keys() []key {
	return []key{
		{"level", oneOf{&l.Level, []string{"debug", "info", "warn", "error"}}},
		{"format", oneOf{&l.Format, []string{"text", "json"}}},
	}
}

func (l *Limits) keys() []key {
	return []key{
		{"sessions", count{&l.Sessions}},
		{"sessions_per_user", count{&l.SessionsPerUser}},
		{"sessions_per_address", count{&l.SessionsPerAddress}},
		{"children", count{&l.Children}},
		{"children_per_user", count{&l.ChildrenPerUser}},
	}
}

func (e *Endpoint) keys() []key {
	return append([]key{
		{"path", text{&e.Path, endpointPath}},
		{"app", oneOf{&e.App, []string{AppEcho, AppProgram, AppHub}}},
		{"command", command{&e.Command}},
		{"dir", text{&e.Dir, nil}},
		{"env", table{&e.Env}},
		{"pass_env", texts{&e.PassEnv, envName}},
		{"framing", oneOf{&e.Framing, []string{"lines", "netstring", "json"}}},
		{"stderr", oneOf{&e.Stderr, []string{"log", "client", "both"}}},
		{"stdin_grace", duration{&e.StdinGrace, 0, 24 * time.Hour}},
		{"term_grace", duration{&e.TermGrace, 0, 24 * time.Hour}},
		{"max_message", size{&e.MaxMessage, 1, 1 << 30}},
		{"lines_buffer", size{&e.LinesBuffer, 1, 1 << 30}},
		{"heartbeat", duration{&e.Heartbeat, 50 * time.Millisecond, time.Hour}},
		{"max_life", duration{&e.MaxLife, 0, 52 * week}},
		{"max_idle", duration{&e.MaxIdle, 0, 52 * week}},
		{"grace", duration{&e.Grace, 0, time.Hour}},
		{"origins", texts{&e.Origins, origin}},
		{"page", boolean{&e.Page}},
		{"probe", boolean{&e.Probe}},
	}, e.Hub.keys()...)
}

// appKeys are the endpoint's keys that only one app reads.
var appKeys = map[string][]string{
	AppProgram: {"command", "dir", "env", "pass_env", "framing", "stderr", "stdin_grace", "term_grace"},
	AppHub:     names(new(Hub).keys()),
}

// address checks the form of a listen address; internal/listen does the rest.
func address(s string) (string, error) {
	if p, ok := strings.CutPrefix(s, "unix:"); ok && p != "" {
		return s, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 || i == len(s)-1 || strings.HasPrefix(s, "/") || strings.Contains(s, "//") {
		return "", fmt.Errorf(`%q is no address to listen on: expected "unix:/path/to.sock", "127.0.0.1:9000" or ":9000"`, s)
	}
	return s, nil
}

// endpointPath checks and normalises an endpoint's path.
func endpointPath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf(`got %q, expected a path that begins with "/", such as "/chat"`, s)
	}
	if strings.ContainsAny(s, "?#*") {
		return "", fmt.Errorf("%q: a path matches whole segments, it has no query, fragment or pattern", s)
	}
	clean := path.Clean(s)
	if clean != s && clean+"/" != s {
		return "", fmt.Errorf("%q is never what a request's path looks like: write %q", s, clean)
	}
	return clean, nil
}

func origin(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.Scheme+"://"+u.Host != s {
		return "", fmt.Errorf(`%q is no origin: expected scheme, host and, if not the default, port, such as "https://example.org"`, s)
	}
	return strings.ToLower(s), nil
}

// checkName keeps names to what a web server's configuration passes on unquoted.
func checkName(s string) error {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			s = ""
			break
		}
	}
	if s == "" {
		return errors.New(`an endpoint's name is made of letters, digits, "-" and "_"`)
	}
	return nil
}

// nearest returns the name in list that s was probably meant to be, or "".
func nearest(s string, list []string) string {
	best, least := "", len(s)/3+1
	for _, name := range list {
		if d := distance(strings.ToLower(s), name); d <= least && s != "" {
			best, least = name, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour that makes b of a.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

func names(keys []key) []string {
	l := make([]string, len(keys))
	for i, k := range keys {
		l[i] = k.name
	}
	slices.Sort(l)
	return l
}
