package client

import (
	"fmt"
	"slices"
)

// Names of the transports, for Options.Transport and Conn.Transport.
const (
	Single = "single" // one request, both ways stream
	Split  = "split"  // a response that streams, other requests beside it that send
	Pulse  = "pulse"  // as single, but the server's output is released by what the client sends
	Poll   = "poll"   // nothing streams: a request for each batch, and one that waits for the answers
)

// A way is how a session's requests are made.
type way struct {
	Transport string
	// Declared is the Content-Length of the request whose body stays open; -1:
	// chunked. 0: no body stays open, each one is a batch (split, poll).
	Declared int64
}

// apart tells whether the halves of the session travel in requests of their own.
func (w way) apart() bool { return w.Transport == Split || w.Transport == Poll }

// body says how bodies are told, for people.
func (w way) body() string {
	switch {
	case w.Declared == 0:
		return "batches"
	case w.Declared < 0:
		return "chunked"
	}
	return fmt.Sprintf("length %d", w.Declared)
}

// lengths are the declared lengths to try: each far beyond what will be sent,
// for servers and proxies that pass a body on only if they know its length, and
// smaller ones for those that hold the value against a limit (413).
var lengths = []int64{1 << 40, 1 << 30, 1 << 20}

// An advice is what an endpoint's description says of the ways to it.
type advice struct {
	Transports []string // best first; nil: it doesn't tell
	Streamed   bool     // in split the send half may be one long request
}

// ways are the ways to try, best first. Single begins with a declared length, which
// more servers and proxies pass on (docs/servers.md); pulse with chunks, each of which
// has Apache hand on a record. Pulse is the last resort also where the endpoint
// thinks that single works: an Apache may be in front of its web server.
func (a advice) ways() (list []way) {
	transports := a.Transports
	if transports == nil {
		transports = []string{Single, Split, Poll}
	}
	if slices.Contains(transports, Single) && !slices.Contains(transports, Pulse) {
		transports = append(slices.Clone(transports), Pulse)
	}
	for _, t := range transports {
		switch t {
		case Single:
			list = append(list, way{Single, lengths[0]}, way{Single, -1})
		case Pulse:
			list = append(list, way{Pulse, -1}, way{Pulse, lengths[0]})
		case Split:
			if a.Streamed {
				list = append(list, way{Split, lengths[0]})
			}
			list = append(list, way{Split, 0})
		case Poll:
			list = append(list, way{Poll, 0})
		}
	}
	return list
}

// smaller are the ways that differ from w in a smaller declared length.
func (w way) smaller() (list []way) {
	if w.Declared <= 0 {
		return nil
	}
	for _, n := range lengths {
		if n > 0 && n < w.Declared {
			list = append(list, way{w.Transport, n})
		}
	}
	return list
}
