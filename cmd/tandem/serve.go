package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tandem/fcgi"
	"tandem/internal/config"
	"tandem/internal/listen"
	"tandem/internal/metrics"
	"tandem/internal/owner"
)

type serveCmd struct {
	Config  string   `short:"c" placeholder:"FILE" help:"The configuration."`
	HTTP    []string `name:"http" placeholder:"ADDRESS" help:"Serve HTTP here instead of where the configuration says: \":8080\" or \"unix:/path\"."`
	FastCGI []string `name:"fastcgi" placeholder:"ADDRESS" help:"Serve FastCGI here instead of where the configuration says."`
	App     string   `placeholder:"NAME" help:"Without a configuration: serve this app, \"echo\" or \"program\"."`
	Program []string `arg:"" optional:"" help:"Without a configuration: after --, the program to run for each session, and its arguments."`
}

// configuration is the file's, or the one of the flags.
func (cmd *serveCmd) configuration() (*config.Config, error) {
	var c *config.Config
	var err error
	if cmd.App != "" || len(cmd.Program) > 0 {
		if cmd.Config != "" {
			return nil, exitWith(exitUsage, errors.New("either -c FILE, or --app and a program: the command line is then all of the configuration"))
		}
		program := cmd.Program
		if len(program) > 0 {
			// As a shell would find it, which programs of a file are not.
			path, err := exec.LookPath(program[0])
			if err == nil {
				path, err = filepath.Abs(path)
			}
			if err != nil {
				return nil, exitWith(exitUsage, err)
			}
			program = append([]string{path}, program[1:]...)
		}
		c, err = config.FromArgs(cmd.App, program)
		err = exitWith(exitUsage, err)
	} else {
		c, err = load(cmd.Config)
	}
	if err != nil {
		return nil, err
	}
	if len(cmd.HTTP) > 0 {
		c.HTTP.Listen = cmd.HTTP
	}
	if len(cmd.FastCGI) > 0 {
		c.FastCGI.Listen = cmd.FastCGI
	}
	return c, nil
}

func (cmd *serveCmd) Run() error {
	c, err := cmd.configuration()
	if err != nil {
		return err
	}
	log := newLogFor(c)
	s := &server{config: c, log: log, page: &metrics.Server{Version: version(), Started: time.Now(), MaxConnections: c.FastCGI.MaxConnections}}
	if s.relays, err = relayUsers(c); err != nil {
		return exitWith(exitConfig, err)
	}
	var handler http.Handler
	if c.Relay != "" {
		handler = front(c, log)
		s.end = func(context.Context) error { return nil }
	} else if handler, err = s.apps(); err != nil {
		return exitWith(exitConfig, err)
	}
	if err := s.listen(); err != nil {
		return exitWith(exitListen, err)
	}
	if len(s.http) > 0 && c.Relay != "" {
		s.closeAll()
		return exitWith(exitConfig, c.BlameTop("relay", errors.New("only CGI and FastCGI are relayed: have the daemon itself serve HTTP")))
	}
	return s.serve(handler)
}

// apps makes the handler of the endpoints, and what ends their sessions.
func (s *server) apps() (http.Handler, error) {
	a := newApps(s.config, s.log)
	handler, sessions, err := a.all()
	if err != nil {
		return nil, err
	}
	a.owner.Handler = handler
	a.count(s.page, sessions)
	if a.owner.Dir.Source == owner.Key {
		var unusable *owner.DirError
		if err := a.owner.Dir.Open(); errors.As(err, &unusable) {
			return nil, s.config.BlameTop(owner.Key, fmt.Errorf("%s: %w", unusable.Dir.Path, unusable.Err))
		}
	} else {
		// What a process manager has started is one of several, all else serves alone.
		a.owner.Optional = !listen.IsStdin() && !hasHosts(sessions)
	}
	watching, stop := context.WithCancel(context.Background())
	for _, e := range sessions {
		if e.hub != nil {
			go e.hub.Watch(watching)
		}
	}
	s.end = func(ctx context.Context) error {
		stop()
		return a.shutdown(ctx, sessions)
	}
	return handler, nil
}

// hasHosts tells whether one of list is served by other hosts, too: none serves alone.
func hasHosts(list []*served) bool {
	return slices.ContainsFunc(list, func(s *served) bool { return s.hosts != nil })
}

// server is the serving process.
type server struct {
	config *config.Config
	log    *slog.Logger
	relays []uint32                    // users whose relays are believed
	end    func(context.Context) error // ends all sessions

	http, fastcgi []net.Listener
	metrics       []net.Listener
	page          *metrics.Server
	allowed       bool // FCGI_WEB_SERVER_ADDRS counts
}

// listen opens all sockets, or none. One that was passed to the process
// replaces those of the configuration: a web server that starts several processes
// on one socket would have them fight for the others.
func (s *server) listen() (err error) {
	defer func() {
		if err != nil {
			s.closeAll()
		}
	}()
	passed, err := listen.Stdin()
	if err != nil {
		return err
	}
	if passed != nil {
		s.fastcgi = append(s.fastcgi, passed)
		s.allowed = true
		return nil
	}
	if s.http, s.fastcgi, err = systemdSockets(); err != nil {
		return err
	}
	open := func(to *[]net.Listener, table, risk string, from config.Listener) error {
		if len(*to) > 0 {
			return nil
		}
		for _, address := range from.Listen {
			l, err := listen.Listen(context.Background(), address, listen.Options{
				Table: table, Public: from.Public, Risk: risk, Mode: from.Mode, Group: from.Group,
			})
			if err != nil {
				return err
			}
			*to = append(*to, l)
		}
		return nil
	}
	if err := open(&s.http, "http", "", s.config.HTTP); err != nil {
		return err
	}
	if err := open(&s.fastcgi, "fastcgi", "", s.config.FastCGI.Listener); err != nil {
		return err
	}
	if len(s.http)+len(s.fastcgi) == 0 {
		return errors.New(`nowhere to listen: add http = "127.0.0.1:8080", or [fastcgi] listen = "unix:/path", or use --http or --fastcgi`)
	}
	return open(&s.metrics, "metrics", "read how much this server has to do", s.config.Metrics)
}

func (s *server) closeAll() {
	for _, l := range slices.Concat(s.http, s.fastcgi, s.metrics) {
		l.Close()
	}
}

// gcPercent is how much garbage there may be beside what lives, unless GOGC says
// otherwise: with thousands of idle sessions what lives is large, and little comes after it
// (docs/performance.md).
const gcPercent = 50

// serve serves handler until a signal comes, or a listener fails.
func (s *server) serve(handler http.Handler) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	// A log whose reader is gone must not end the process. (Not signal.Ignore:
	// programs would inherit that.)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	fs := &fcgi.Server{
		Handler: handler, Log: s.log, MaxConns: s.config.FastCGI.MaxConnections, Allowed: s.config.FastCGI.Allowed, Relays: s.relays, Detach: true,
		NetHTTP: s.config.FastCGI.Engine == config.EngineNetHTTP,
	}
	if list := os.Getenv("FCGI_WEB_SERVER_ADDRS"); s.allowed && list != "" {
		allowed, err := fcgi.ParseAllowed(list)
		if err != nil {
			s.closeAll()
			return exitWith(exitConfig, err)
		}
		fs.Allowed = allowed
	}
	hs := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of bodies that nobody wants, a 404's; sessions lift it
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	if len(s.fastcgi) > 0 {
		s.page.FastCGI = fs
	}
	ms := &http.Server{
		Handler:           s.page,
		ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: hs.ErrorLog,
	}
	defer ms.Close() // until the end: draining is worth watching
	failed := make(chan error, len(s.http)+len(s.fastcgi)+len(s.metrics))
	start := func(name string, serve func(net.Listener) error, on []net.Listener) {
		for _, l := range on {
			s.log.Info("serving", "interface", name, "address", address(l))
			go func() {
				if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
					failed <- fmt.Errorf("%s on %s: %w", name, address(l), err)
				}
			}()
		}
	}
	start("fastcgi", fs.Serve, s.fastcgi)
	start("metrics", ms.Serve, s.metrics)
	start("http", func(l net.Listener) error { return hs.Serve(listen.Linger(l)) }, s.http)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	notify(s.log, daemon.SdNotifyReady)
	go watchdog(ctx, s.log)

	var failure error
	for stop := false; !stop; {
		select {
		case failure = <-failed:
			stop = true
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.log.Warn("SIGHUP: the configuration is read at start only; check it with tandem config check, then restart")
				continue
			}
			s.log.Info("stopping", "signal", sig.String(), "drain", s.config.Drain)
			stop = true
		}
	}
	notify(s.log, daemon.SdNotifyStopping)
	s.drain(hs, fs, signals)
	return exitWith(exitListen, failure)
}

// drain stops accepting, ends all sessions and waits for them, at most as long
// as configured, or until a second signal.
func (s *server) drain(hs *http.Server, fs *fcgi.Server, signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Drain)
	defer cancel()
	done := make(chan error, 3)
	go func() { done <- fs.Shutdown(ctx) }()
	go func() { done <- hs.Shutdown(ctx) }()
	go func() { done <- s.end(ctx) }()
	var late error
	for left := cap(done); left > 0; {
		select {
		case err := <-done:
			late = errors.Join(late, err)
			left--
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				s.log.Warn("stopping at once: a second signal came", "signal", sig.String())
				os.Exit(128 + int(sig.(syscall.Signal)))
			}
		}
	}
	fs.Close()
	hs.Close()
	if late != nil {
		s.log.Warn("stopped with sessions still open: drain was too short for them", "drain", s.config.Drain, "error", late)
		return
	}
	s.log.Info("stopped")
}

// address is l's address as the configuration writes it.
func address(l net.Listener) string {
	if a := l.Addr(); a.Network() == "unix" {
		return "unix:" + strings.TrimPrefix(a.String(), "unix:")
	}
	return l.Addr().String()
}
