// Package config is Tandem's configuration: where it is looked for, what it
// may say, and what it says when nothing is said.
//
// [Find] finds the file, [Load] reads it, [Config.Show] prints what is in force.
// The format is TOML. Every key is in one table ([Config.keys] and its like):
// decoding, checking, the hint in an error and the output of Show come from
// there. An unknown key or a bad value is an error that names file, line and
// key, and says what would be valid; all of a file's errors are reported at once.
//
// Nothing that a request carries is configuration: this package reads a file
// and, of the environment, only TANDEM_CONFIG (and in CGI what tells a #! script
// from a query string, see [Find]). Environment variables are not expanded in
// values. Relative paths in a file are relative to the file's folder.
package config

import (
	"io/fs"
	"net/netip"
	"time"
)

// Apps that an endpoint may name.
const (
	AppEcho    = "echo"    // sends every message back
	AppProgram = "program" // one child process per session
	AppHub     = "hub"     // publish and subscribe
)

// Engines that FastCGI may name.
const (
	EngineOwn     = "own"      // package fcgi reads and writes the records
	EngineNetHTTP = "net/http" // net/http/fcgi does
)

// Config is a whole configuration. It is read-only once loaded.
type Config struct {
	// File is the path it was read from, empty without a file.
	File string
	// Source says how File was found, or what stands in its place.
	Source string

	HTTP    Listener
	FastCGI FastCGI
	Metrics Listener // of tandem serve; without Listen there are none
	Log     Log
	Limits  Limits
	// Drain is how long a stopping process waits for its sessions.
	Drain time.Duration
	// StateDir is where processes find each other; empty: see package owner.
	StateDir string
	// Relay is the path of the unix socket that every request is passed on to; empty:
	// requests are served here.
	Relay string
	// Endpoints is ordered as in the file. After Load it is empty if there is a Relay,
	// and only then.
	Endpoints []*Endpoint

	file *decoder // knows which keys the file gave, and where; nil without a file
}

// Blame makes err an *Error at e's key: for what only the parts that Tandem is
// made of can find, such as a command that is not there.
func (c *Config) Blame(e *Endpoint, key string, err error) error {
	out := c.BlameTop(e.key(key), err)
	if c.file != nil {
		out.Line = c.file.lineOf(c.file.at(e, key))
	}
	return out
}

// BlameTop is Blame for a key with this full name.
func (c *Config) BlameTop(key string, err error) *Error {
	out := &Error{File: c.File, Key: key, Err: err}
	if c.file != nil {
		out.Line = c.file.lineOf(key)
	}
	return out
}

// gave tells whether the file has the key with this full name.
func (c *Config) gave(name string) bool {
	if c.file == nil {
		return false
	}
	_, ok := c.file.given[name]
	return ok
}

// Listener is where one interface listens.
type Listener struct {
	Listen []string    // "unix:/path", "host:port" or ":port"
	Public bool        // allow TCP addresses beyond loopback
	Mode   fs.FileMode // of unix sockets
	Group  string      // of unix sockets: a name or a number; empty: the process's own
}

// FastCGI is the FastCGI interface.
type FastCGI struct {
	Listener
	MaxConnections int
	Allowed        []netip.Addr // TCP peers; none: every peer that can connect
	RelayUsers     []string     // names or numbers of users whose relays are believed
	Engine         string       // EngineOwn or EngineNetHTTP
}

// Log is what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Limits hold for all endpoints of a process together; 0 is no limit.
type Limits struct {
	Sessions           int
	SessionsPerUser    int
	SessionsPerAddress int
	Children           int
	ChildrenPerUser    int
}

// Endpoint is one app at one place.
type Endpoint struct {
	// Name is what TANDEM_ENDPOINT calls it; empty where the endpoint's keys
	// are at the file's top level.
	Name string
	// Path is matched on segment boundaries. Clean, begins with "/", ends with
	// none unless it is "/"; empty: no path.
	Path string
	App  string // AppEcho, AppProgram or AppHub

	// Of AppProgram.
	Command    []string
	Dir        string
	Env        map[string]string
	PassEnv    []string
	Framing    string // lines, netstring or json
	Stderr     string // log, client or both
	StdinGrace time.Duration
	TermGrace  time.Duration

	Hub Hub // of AppHub

	MaxMessage  int64
	LinesBuffer int64
	Heartbeat   time.Duration
	MaxLife     time.Duration // 0: no limit
	MaxIdle     time.Duration // 0: no limit
	Grace       time.Duration // 0: a session ends with its request; in CGI always
	Origins     []string
	Page        bool // the demo page is what a browser sees that goes there
	Probe       bool // tandem doctor may test the way here
}

// Default returns the configuration of an empty file, without an endpoint.
func Default() *Config {
	return &Config{
		Source:  "defaults",
		HTTP:    Listener{Mode: 0o660},
		FastCGI: FastCGI{Listener: Listener{Mode: 0o660}, MaxConnections: 10000, Engine: EngineOwn},
		Metrics: Listener{Mode: 0o660},
		Log:     Log{Level: "info", Format: "text"},
		Limits:  Limits{Sessions: 10000, Children: 500},
		Drain:   10 * time.Second,
	}
}

// NewEndpoint returns an endpoint with every default, and no app.
func NewEndpoint(name string) *Endpoint {
	return &Endpoint{
		Name:        name,
		Framing:     "lines",
		Stderr:      "log",
		StdinGrace:  time.Second,
		TermGrace:   time.Second, // both together: below the 3 s after which Apache kills a CGI process
		MaxMessage:  1 << 20,
		LinesBuffer: 16 << 20,
		Heartbeat:   15 * time.Second,
		Probe:       true,
		Grace:       30 * time.Second,
		Hub:         newHub(),
	}
}
