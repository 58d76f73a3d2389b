package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"tandem/session/frame"
)

// Options are how [Dial] opens a session and how it behaves. The zero value
// works.
type Options struct {
	// Transport is Single, Split, Pulse or Poll: that one is used, and in Single and
	// Pulse the program starts with the first request. Empty: the best one that works. The first time
	// the endpoint is asked what works on its web server, and that is tried without
	// starting the program, which takes a few round trips more, and below 5 s where
	// proxies hold most of it back; then it is remembered. A session that is cut again
	// and again, or gets stuck, goes on over another transport.
	Transport string
	// Memory is where it is remembered which transport works. Nil: in this process.
	Memory Memory
	// Codec is "binary", which is compact and the default, or "json", which people
	// can read on the wire.
	Codec string

	// Header is added to each request: Authorization, Cookie, Origin, User-Agent…
	// Headers of the protocol itself win over it.
	Header http.Header
	// TLS is for https. Nil: the system's roots.
	TLS *tls.Config
	// Proxy chooses the forward proxy, as in http.Transport. Nil:
	// http.ProxyFromEnvironment. A func that returns nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// DialContext makes the connection, to a proxy where there is one. Nil: TCP,
	// within 10 s. A func that dials a unix socket reaches a server without TCP.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// HTTP1 keeps to HTTP/1.1 where a https server offers HTTP/2 too.
	HTTP1 bool

	// OpenTimeout is how long one request may take from its first byte until the
	// session is open. Default 3 s for each attempt while choosing, which tells a
	// server that holds one direction back from a slow one; 15 s with Transport set.
	OpenTimeout time.Duration

	// MaxMessage is the largest message taken in, in bytes; a larger one ends the
	// session with CodeTooBig. Default 16 MiB. One such message may be held in
	// memory while it comes in.
	MaxMessage int64
	// Window and Messages are how much the server may send ahead of Receive, in
	// bytes and in messages of up to 16 KiB (larger ones count as several). Defaults
	// 256 KiB and 1,024; at least 16 KiB + 32 and 1. They bound what a client that
	// doesn't receive holds in memory, beside one message.
	Window, Messages uint64
	// Heartbeat is how often something is sent, at least. Default 15 s, which is
	// below the time-outs of web servers. The server finds out that this client
	// is gone within 2.5 times that.
	Heartbeat time.Duration

	// NoResume has a lost transport end the session, also where the server would let
	// it be resumed.
	NoResume bool

	// Trace, if not nil, is called with each frame but empty ones, in wire order for
	// each direction. It must be quick, must not call the Conn, and must not keep f.
	Trace func(sent bool, f *frame.Frame)
	// Notify, if not nil, is called when the transport is lost, and when the session
	// goes on over another one. It must be quick and must not call the Conn's Close or
	// CloseNow.
	Notify func(Event)
}

// Defaults of Options.
const (
	DefaultMaxMessage = 16 << 20
	DefaultWindow     = 256 << 10
	DefaultMessages   = 1024
	DefaultHeartbeat  = 15 * time.Second
	probeTimeout      = 3 * time.Second
	openTimeout       = 15 * time.Second
	connectTimeout    = 10 * time.Second
)

// withDefaults returns a copy of o with its zero fields filled in, or says what
// is wrong with it.
func (o *Options) withDefaults() (Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	switch d.Transport {
	case "", Single, Split, Pulse, Poll:
	default:
		return d, usageErrorf("expected the transport single, split, pulse, poll or none, to choose; got %q", d.Transport)
	}
	switch d.Codec {
	case "":
		d.Codec = frame.Binary.Name()
	case frame.Binary.Name(), frame.JSON.Name():
	default:
		return d, usageErrorf("expected the codec binary or json, got %q", d.Codec)
	}
	if d.Memory == nil {
		d.Memory = &inProcess
	}
	if d.Proxy == nil {
		d.Proxy = http.ProxyFromEnvironment
	}
	if d.DialContext == nil {
		d.DialContext = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	if d.OpenTimeout <= 0 {
		d.OpenTimeout = openTimeout
		if d.Transport == "" {
			d.OpenTimeout = probeTimeout
		}
	}
	if d.MaxMessage <= 0 {
		d.MaxMessage = DefaultMaxMessage
	}
	if d.Window == 0 {
		d.Window = DefaultWindow
	}
	if d.Messages == 0 {
		d.Messages = DefaultMessages
	}
	if least := uint64(frame.Cost(frame.MaxData)); d.Window < least {
		return d, usageErrorf("expected a Window of at least %d bytes, got %d", least, d.Window)
	}
	if d.Heartbeat <= 0 {
		d.Heartbeat = DefaultHeartbeat
	}
	return d, nil
}

// roundTripper is for the requests of one Dial or attach. keep has a connection
// carry one request after the other.
func (o *Options) roundTripper(keep bool) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!o.HTTP1)
	return &http.Transport{
		Proxy:               o.Proxy,
		DialContext:         o.DialContext,
		TLSClientConfig:     o.TLS.Clone(),
		TLSHandshakeTimeout: connectTimeout,
		Protocols:           &protocols,
		DisableKeepAlives:   !keep,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}
}
