package session

import (
	"log/slog"
	"net/http"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// Options are how a [Handler] behaves. The zero value works.
type Options struct {
	// Log gets a line for each session's end and for each refusal. Nil: slog.Default().
	Log *slog.Logger
	// Owner is this process's name in session ids, [a-z0-9]{16}. Empty: random.
	Owner string

	// MaxMessage is the largest message that a client may send, in bytes.
	// Default 1 MiB. Larger ones end the session with CodeTooBig. Each session
	// may hold one such message in memory while it comes in.
	MaxMessage int64
	// LinesBuffer is how much input of the lines codec may wait for the app, in
	// bytes: curl can't be asked to wait. Default 16 MiB. Beyond it the session
	// ends with CodePolicy.
	LinesBuffer int64

	// Heartbeat is how often a session sends something, at least. Default 15 s,
	// which is below every server's default time-out (docs/servers.md trap 6).
	Heartbeat time.Duration
	// MaxIdle and MaxLife end a session that had no message either way for so
	// long, or is so old. 0: no limit.
	MaxIdle, MaxLife time.Duration

	// Grace is how long a session outlives the request that carried it, if that is
	// cut: its app runs on, and the client may resume it with another request. The
	// end of a session is kept as long for a client that may not have got it. 0: a
	// session ends with its request. Sessions in the lines codec always do.
	Grace time.Duration

	// Owners finds the sessions of other processes. Nil: there are none.
	Owners Owners

	// Limits says how many sessions there may be. Several handlers may share
	// one. Nil: no limit.
	Limits *Limits

	// Origins are the origins, such as "https://www.example.org", whose pages
	// may open sessions beside those of the endpoint's own host. "*" means any
	// page anywhere: only for endpoints that do nothing in a user's name.
	Origins []string
}

// Owners is how the processes that serve one endpoint share its sessions: each
// session lives in one, its owner, and requests that reach another one are relayed
// there. It must be safe for concurrent use.
type Owners interface {
	// Forward returns what relays requests to the process that is called owner,
	// nil if there is none.
	Forward(owner string) http.Handler
	// Claim is called before a session is opened of which other processes may get
	// requests. From its return on they find this one. If key is not empty, this
	// process alone has it until release is called; if another one has it, Claim
	// returns that one's name and a nil release.
	Claim(key string) (owner string, release func(), err error)
}

// Defaults of Options.
const (
	DefaultMaxMessage  = 1 << 20
	DefaultLinesBuffer = 16 << 20
	DefaultHeartbeat   = 15 * time.Second
)

// withDefaults returns a copy of o with its zero fields filled in.
func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Owner == "" {
		d.Owner = randomID()[:16]
	}
	if d.MaxMessage <= 0 {
		d.MaxMessage = DefaultMaxMessage
	}
	if d.LinesBuffer <= 0 {
		d.LinesBuffer = DefaultLinesBuffer
	}
	if d.Heartbeat <= 0 {
		d.Heartbeat = DefaultHeartbeat
	}
	return d
}

// link is the configuration of a session's link.
func (o *Options) link() flow.Config {
	return flow.Config{
		MaxMessage: o.MaxMessage,
		Window:     flow.InitialWindow,
		Messages:   flow.InitialMessages,
		Buffer:     o.LinesBuffer,
		Heartbeat:  o.Heartbeat,
		MaxIdle:    o.MaxIdle,
		MaxLife:    o.MaxLife,
	}
}

// openFrame is the server's first frame of an attach.
func (o *Options) openFrame(s *Session, transport string) *frame.Frame {
	return &frame.Frame{
		Type:       frame.TypeOpen,
		Version:    frame.Version,
		Session:    s.id,
		Grace:      uint64(s.grace / time.Millisecond),
		Transport:  transport,
		Heartbeat:  uint64(o.Heartbeat / time.Millisecond),
		Window:     flow.InitialWindow,
		Messages:   flow.InitialMessages,
		MaxMessage: uint64(o.MaxMessage),
	}
}
