package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	terminal "golang.org/x/term"

	"tandem/client"
	"tandem/internal/bench"
	"tandem/session/frame"
)

type benchCmd struct {
	Echo    benchEcho    `cmd:"" default:"withargs" help:"Messages that come back: rate and latency. The default."`
	Idle    benchIdle    `cmd:"" help:"Sessions that say nothing: what they cost."`
	Open    benchOpen    `cmd:"" help:"Sessions that are opened and closed: how fast."`
	Receive benchReceive `cmd:"" help:"Messages that only come, to many sessions: rate and latency."`
	FanOut  benchFanOut  `cmd:"" help:"Events of a hub, from one publisher to many subscribers: rate, latency, loss."`
}

// Help is shown by tandem bench --help.
func (*benchCmd) Help() string {
	return `Puts load on an endpoint and measures it from the client's side. The load takes its share of the machine that it runs on: --pid tells what the server's processes used.`
}

// benchTarget is what all kinds of load need to know.
type benchTarget struct {
	URL        string   `arg:"" help:"The endpoint, such as http://localhost/tandem. NAME:PASSWORD@ in it is as --user."`
	Transport  string   `help:"As of tandem connect. Default: what the endpoint recommends and what works." placeholder:"NAME"`
	Codec      string   `help:"binary, json, or with the transport single lines." default:"binary" placeholder:"NAME"`
	Client     string   `help:"wire: the transport single over HTTP/1.1, by hand, with next to no work of its own; package: the client library, any transport. Default: wire where it can." enum:"wire,package," default:"" placeholder:"NAME"`
	Size       int      `help:"Bytes in a message. Default: ${default}." default:"64" placeholder:"N"`
	Header     []string `short:"H" sep:"none" help:"A header for the requests, \"Name: value\". May be given again." placeholder:"LINE"`
	User       string   `help:"Log in with Basic authentication." placeholder:"NAME:PASSWORD"`
	Insecure   bool     `short:"k" help:"Take any certificate."`
	CACert     string   `name:"cacert" type:"path" help:"Trust the certificate authorities in this PEM file, and no others." placeholder:"FILE"`
	HTTP1      bool     `name:"http1" help:"Don't use HTTP/2."`
	UnixSocket string   `type:"path" help:"Connect to this socket instead of the URL's host." placeholder:"FILE"`
	PID        []int    `name:"pid" help:"Measure CPU time and memory of this process and its children, such as the web server's. May be given again." placeholder:"N"`
	JSON       bool     `name:"json" help:"Print one JSON object."`
}

type benchEcho struct {
	benchTarget
	Sessions int           `short:"n" help:"How many sessions. Default: ${default}." default:"50" placeholder:"N"`
	Depth    int           `help:"Messages under way in each session. Default: ${default}." default:"1" placeholder:"N"`
	Warm     time.Duration `help:"Don't measure for so long. Default: ${default}." default:"500ms" placeholder:"TIME"`
	Duration time.Duration `short:"d" help:"Measure for so long. Default: ${default}." default:"5s" placeholder:"TIME"`
}

type benchIdle struct {
	benchTarget
	Sessions int           `short:"n" help:"How many sessions. Default: ${default}." default:"1000" placeholder:"N"`
	AtOnce   int           `help:"Open so many at once. Default: ${default}." default:"50" placeholder:"N"`
	Waves    int           `help:"Open and close them so often: a server's memory for a session is what the second wave shows. Default: ${default}." default:"2" placeholder:"N"`
	Hold     time.Duration `short:"d" help:"Keep the last wave for so long. Default: ${default}." default:"30s" placeholder:"TIME"`
}

type benchOpen struct {
	benchTarget
	Sessions int `short:"n" help:"How many sessions. Default: ${default}." default:"1000" placeholder:"N"`
	AtOnce   int `help:"So many at once. Default: ${default}." default:"1" placeholder:"N"`
}

type benchReceive struct {
	benchTarget
	Sessions int           `short:"n" help:"How many sessions. Default: ${default}." default:"50" placeholder:"N"`
	Duration time.Duration `short:"d" help:"Measure for so long. Default: ${default}." default:"5s" placeholder:"TIME"`
}

// Help is shown by tandem bench receive --help.
func (*benchReceive) Help() string {
	return `Latency is known of messages that begin with the Unix time of their sending, in digits: seconds, milliseconds, microseconds or nanoseconds, by their number.`
}

// Bounds of a measurement: a mistyped number must not become an attack.
const (
	benchMostSessions = 100_000
	benchMostDepth    = 64 // what the server's first window takes
	benchMostSize     = 16 << 20
	benchMostTime     = time.Hour
	benchHeartbeat    = client.DefaultHeartbeat
	benchDeclared     = 1 << 40
	benchIdleBuffer   = 512
	benchSettle       = 3 * time.Second
)

// within says what is wrong with a number.
func within[T int | float64 | time.Duration](flag string, got, least, most T) error {
	if got < least || got > most {
		return fmt.Errorf("--%s: expected %v to %v, got %v", flag, least, most, got)
	}
	return nil
}

func (b *benchEcho) Run() error {
	return b.measure(errors.Join(within("sessions", b.Sessions, 1, benchMostSessions), within("depth", b.Depth, 1, benchMostDepth),
		within("duration", b.Duration, time.Millisecond, benchMostTime), within("warm", b.Warm, 0, benchMostTime)),
		func(ctx context.Context, t *target) (*benchReport, error) {
			e, err := bench.Echo(ctx, t.open, bench.Load{Sessions: b.Sessions, Depth: b.Depth}, b.Warm, b.Duration, t.progress, t.pids...)
			if err != nil {
				return nil, err
			}
			r := t.report("echo", b.Sessions)
			r.Depth, r.Size = b.Depth, b.Size
			r.counted(e.Messages, e.Took, &e.Times, e.CPU)
			return r, nil
		})
}

func (b *benchIdle) Run() error {
	return b.measure(errors.Join(within("sessions", b.Sessions, 1, benchMostSessions), within("at-once", b.AtOnce, 1, benchMostSessions),
		within("waves", b.Waves, 1, 100), within("duration", b.Hold, 0, benchMostTime)),
		func(ctx context.Context, t *target) (*benchReport, error) {
			t.wire.Buffer = benchIdleBuffer
			got, err := bench.Idle(ctx, t.open, bench.IdlePlan{Sessions: b.Sessions, Waves: b.Waves, Opening: b.AtOnce, Settle: benchSettle,
				AfterClose: benchSettle, Hold: b.Hold, Heartbeat: benchHeartbeat, Pids: t.pids}, t.progress)
			if err != nil {
				return nil, err
			}
			r := t.report("idle", b.Sessions)
			r.idle(got)
			return r, nil
		})
}

func (b *benchOpen) Run() error {
	return b.measure(errors.Join(within("sessions", b.Sessions, 1, benchMostSessions), within("at-once", b.AtOnce, 1, benchMostSessions)),
		func(ctx context.Context, t *target) (*benchReport, error) {
			o, err := bench.Churn(ctx, t.open, b.Sessions, b.AtOnce, t.progress)
			if err != nil {
				return nil, err
			}
			r := t.report("open", b.Sessions)
			r.Open = opened(&o)
			return r, nil
		})
}

func (b *benchReceive) Run() error {
	b.Client = clientPackage // it acks what comes
	return b.measure(errors.Join(within("sessions", b.Sessions, 1, benchMostSessions), within("duration", b.Duration, time.Millisecond, benchMostTime)),
		func(ctx context.Context, t *target) (*benchReport, error) {
			got, err := bench.Receive(ctx, b.URL, t.options, b.Sessions, b.Duration, t.progress, t.pids...)
			if err != nil {
				return nil, err
			}
			r := t.report("receive", b.Sessions)
			r.counted(got.Messages, got.Took, &got.Times, got.CPU)
			return r, nil
		})
}

// Values of --client.
const (
	clientWire    = "wire"
	clientPackage = "package"
)

// target is an endpoint that a session was opened with, and how.
type target struct {
	*benchTarget
	options  *client.Options
	wire     bench.Wire
	open     bench.Opener
	path     client.Path
	pids     [][]int
	progress bench.Progress
	ended    func() // takes the progress off the terminal
}

// measure finds out how to reach the endpoint, has run measure, and prints.
func (b *benchTarget) measure(wrong error, run func(context.Context, *target) (*benchReport, error)) error {
	if wrong = errors.Join(wrong, within("size", b.Size, 1, benchMostSize)); wrong != nil {
		return exitWith(exitUsage, wrong)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	t, err := b.target(ctx)
	if err != nil {
		return err
	}
	r, err := run(ctx, t)
	t.ended()
	if err != nil {
		return (&connectCmd{}).dialError(err)
	}
	return r.show(b.JSON)
}

// families are the processes of --pid, each with its children.
func families(pids []int) (groups [][]int, err error) {
	for _, pid := range pids {
		group := bench.Family(pid)
		if bench.RSS(group) == 0 {
			return nil, exitWith(exitUsage, fmt.Errorf("--pid: no process %d", pid))
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// target opens one session with package client, which knows how to find out what
// works here, and has all others opened in the same way.
func (b *benchTarget) target(ctx context.Context) (*target, error) {
	t := &target{benchTarget: b}
	t.progress, t.ended = showProgress()
	var err error
	if t.pids, err = families(b.PID); err != nil {
		return nil, err
	}
	lines := b.Codec == frame.Lines.Name()
	c := connectCmd{URL: b.URL, Transport: b.Transport, Codec: b.Codec, Header: b.Header, User: b.User,
		Insecure: b.Insecure, CACert: b.CACert, HTTP1: b.HTTP1, UnixSocket: b.UnixSocket}
	if lines {
		c.Codec = "" // package client doesn't speak it; the path is the same
	}
	if t.options, err = c.options(); err != nil {
		return nil, exitWith(exitUsage, err)
	}
	conn, err := client.Dial(ctx, b.URL, t.options)
	if err != nil {
		return nil, c.dialError(err)
	}
	t.path = conn.Path()
	conn.Close(frame.CodeNormal, "")
	t.options.Transport = t.path.Transport

	able := t.path.Transport == client.Single && (t.path.Proto == "HTTP/1.1" || t.path.Proto == "HTTP/1.0") && b.Size <= frame.MaxData && noProxy(b.URL, t.options)
	if b.Client == "" {
		if b.Client = clientPackage; able {
			b.Client = clientWire
		}
	}
	switch {
	case b.Client == clientWire && !able:
		return nil, exitWith(exitUsage, fmt.Errorf("--client wire: expected the transport single over HTTP/1.1 without a proxy, and messages of at most %d bytes; got %s over %s, %d bytes: use --client package",
			frame.MaxData, t.path.Transport, t.path.Proto, b.Size))
	case b.Client == clientPackage && lines:
		return nil, exitWith(exitUsage, errors.New("--codec lines: expected binary or json here, which package client speaks"))
	}
	product := bench.Client{URL: b.URL, Options: *t.options, Payload: bench.Payload(b.Size)}
	t.open = product.Open
	if b.Client == clientWire {
		if err := t.openByWire(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *target) openByWire() error {
	u, err := url.Parse(t.URL)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	codec, ok := frame.ByName(t.Codec)
	if !ok {
		return exitWith(exitUsage, fmt.Errorf("--codec: expected binary, json or lines, got %q", t.Codec))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		(&http.Request{Header: t.options.Header}).SetBasicAuth(u.User.Username(), password)
	}
	t.wire = bench.Wire{URL: u, Header: t.options.Header, TLS: t.options.TLS, Codec: codec, Payload: bench.Payload(t.Size), Heartbeat: benchHeartbeat}
	if t.path.Declared >= 0 {
		t.wire.Declared = benchDeclared
	}
	if t.options.DialContext != nil {
		t.wire.Dial = func(ctx context.Context, _ int) (net.Conn, error) { return t.options.DialContext(ctx, "tcp", u.Host) }
	}
	t.open = t.wire.Open
	return nil
}

// showProgress shows progress in one line on a terminal.
func showProgress() (bench.Progress, func()) {
	if !terminal.IsTerminal(int(os.Stderr.Fd())) {
		return nil, func() {}
	}
	const clear = "\r\x1b[K"
	return func(step string, done, of int) {
		text := fmt.Sprintf("%s%s: %d", clear, step, done)
		if of > 0 {
			text += fmt.Sprintf(" of %d", of)
		}
		io.WriteString(os.Stderr, text)
	}, func() { io.WriteString(os.Stderr, clear) }
}

func opened(o *bench.Opened) *benchOpened {
	return &benchOpened{PerSecond: o.PerSecond(), Latency: latency(&o.Times)}
}

// noProxy tells whether the endpoint is reached without a forward proxy.
func noProxy(endpoint string, o *client.Options) bool {
	return o.DialContext != nil || strings.TrimSpace(os.Getenv("http_proxy")+os.Getenv("HTTP_PROXY")+os.Getenv("https_proxy")+os.Getenv("HTTPS_PROXY")) == ""
}
