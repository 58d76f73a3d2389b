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
	ended, caught := catchSignals()
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
	err = cgi.Serve(h, &cgi.Options{Log: log})
	<-caught
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

// catchSignals has the signals that are the end of the request to cgi.Serve not kill this
// process after it either, while it stops the session's program: lighttpd sends SIGTERM
// once the client has closed, which it often does at the response's last words. ended is
// done when one has come. They are caught once caught is closed: that takes a while
// (see package cgi), in which the configuration can be read.
func catchSignals() (ended context.Context, caught <-chan struct{}) {
	ended, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(make(chan os.Signal), syscall.SIGPIPE)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		close(done)
		<-signals
		end()
	}()
	return ended, done
}

// answer serves the request with a problem body.
func answer(status int, detail string) int {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, status, detail) })
	if err := cgi.Serve(h, nil); err != nil {
		return 1
	}
	return 0
}
