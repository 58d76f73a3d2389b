package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"tandem/cgi"
	"tandem/internal/config"
	"tandem/internal/problem"
)

// serveCGI serves the one request of a CGI process. It looks at no argument
// beyond what config.Find does. What goes wrong is answered, since nobody sees an
// exit status, and logged to stderr, which is the web server's error log.
func serveCGI() int {
	place := process("")
	place.CGI = true
	at, err := config.Find(place)
	if errors.Is(err, config.ErrNotFound) {
		log := newLog(config.Default().Log, os.Stderr)
		log.Error(config.NotFound, "binary", place.Executable)
		return answer(http.StatusServiceUnavailable, "Tandem has "+config.NotFound+".")
	}
	var c *config.Config
	if err == nil {
		c, err = config.Load(at)
	}
	if err != nil {
		newLog(config.Default().Log, os.Stderr).Error("configuration", "error", err, "found", at.Source)
		return answer(http.StatusInternalServerError, "Tandem's configuration is wrong. The web server's error log says where, and what to change.")
	}
	for _, e := range c.Endpoints {
		e.Grace = 0 // this process ends with its request
	}
	log := newLogFor(c)

	if c.Relay != "" {
		if err := cgi.Serve(front(c, log), &cgi.Options{Log: log}); err != nil { // logged
			return 1
		}
		return 0
	}
	a := newApps(c, log)
	h, handlers := a.needed()
	a.owner.Handler = h // of what other processes relay here, while the session lives
	ended, end := context.WithCancel(context.Background())
	defer end()
	err = cgi.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer keepSignals(r.Context(), end)
		h.ServeHTTP(w, r)
	}), &cgi.Options{Log: log})

	// A client that has opened its session once more has it in a request that another
	// process relays. To the web server this one goes on meanwhile.
	a.owner.Idle(ended)

	// The web server takes the exit for the end of the response: what the
	// session has started goes first.
	ctx, cancel := context.WithTimeout(context.Background(), c.Drain)
	defer cancel()
	if late := a.shutdown(ctx, handlers()); late != nil {
		log.Warn("ended before the session's app did: drain was too short for it", "drain", c.Drain)
	}
	if err != nil { // logged
		return 1
	}
	return 0
}

// keepSignals has the signals that end the request not kill this process after it either,
// while it stops the session's program: lighttpd sends SIGTERM once the client has closed,
// which it often does at the response's last words. end is called when one comes, or has
// ended the request. As cgi.Serve catches them already, this takes no time.
func keepSignals(request context.Context, end func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		<-signals
		end()
	}()
	context.AfterFunc(request, func() {
		var e *cgi.SignalError
		if errors.As(context.Cause(request), &e) {
			end()
		}
	})
}

// answer serves the request with a problem body.
func answer(status int, detail string) int {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, status, detail) })
	if err := cgi.Serve(h, nil); err != nil {
		return 1
	}
	return 0
}
