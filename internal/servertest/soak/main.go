// Soak keeps quiet sessions open through every web server and interface, and tells
// which of them were cut: scripts/soak runs it.
//
// Each route is run twice: with the shipped configuration, and with the lines about
// time-outs taken out of it, so that the servers' own time-outs hold and only the
// heartbeats keep the session.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"tandem/internal/servertest"
)

const usage = `usage: scripts/soak [SECONDS]

Opens sessions through nginx, Apache, lighttpd and Tandem's HTTP front, leaves them
idle for SECONDS (default 330: longer than any default time-out on silence, Apache's
300 s included), and checks that each is still there. Prints a table; exit status 1
if a session was cut.
`

// Exit statuses, as sysexits.h has them.
const (
	exitUsage       = 64
	exitUnavailable = 69
)

func main() { os.Exit(run()) }

func run() int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	// --bin is scripts/soak's: the folder that holds this program, and goes with it.
	args := os.Args[1:]
	if len(args) >= 2 && args[0] == "--bin" {
		defer os.RemoveAll(args[1])
		args = args[2:]
	}
	o := options{idle: 330 * time.Second, heartbeat: 15 * time.Second}
	if len(args) == 1 {
		if s, err := strconv.Atoi(args[0]); err == nil && s > 0 {
			o.idle, args = time.Duration(s)*time.Second, nil
		}
	}
	if len(args) > 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	rows, err := soak(ctx, o, os.Stderr)
	print(os.Stdout, rows)
	for _, r := range rows {
		err = errors.Join(err, r.err)
	}
	var missing *servertest.MissingError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &missing):
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		return exitUnavailable
	}
	fmt.Fprintf(os.Stderr, "soak: %v\n", err)
	return 1
}

type options struct {
	idle, heartbeat time.Duration
}

// A row is one session's outcome.
type row struct {
	route, config, codec string
	how                  string // transport and body
	open                 time.Duration
	echo                 time.Duration // of a message after the silence
	err                  error
}

// setUpTime is what starting the servers and opening the sessions may take, and
// endTime what the last words may.
const (
	setUpTime = time.Minute
	endTime   = 30 * time.Second
)

// soak runs everything at the same time. The error is about the set-up.
func soak(ctx context.Context, o options, progress io.Writer) (_ []row, err error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime+o.idle+endTime)
	defer cancel()
	binary, err := servertest.Build("")
	if err != nil {
		return nil, err
	}
	house := &house{options: o, binary: binary}
	defer func() { err = errors.Join(err, house.stop()) }()
	routes, err := house.start(ctx)
	if err != nil {
		return nil, err
	}
	var checks []check
	for _, r := range routes {
		checks = append(checks, r.checks()...)
	}
	fmt.Fprintf(progress, "soak: %d sessions, idle for %v, heartbeat %v\n", len(checks), o.idle, o.heartbeat)
	rows := make([]row, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() {
			rows[i] = row{route: c.route.name, config: c.route.config, codec: c.codec}
			start := time.Now()
			if rows[i].err = c.run(ctx, &rows[i]); rows[i].err != nil {
				rows[i].err = fmt.Errorf("%s, %s configuration, %s: %w", c.route.name, c.route.config, c.codec, rows[i].err)
			}
			if rows[i].open == 0 {
				rows[i].open = time.Since(start)
			}
		})
	}
	all.Wait()
	return rows, nil
}

func print(to io.Writer, rows []row) {
	if len(rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTE\tTIME-OUTS\tCODEC\tTRANSPORT\tOPEN\tECHO\tOUTCOME")
	for _, r := range rows {
		outcome, echo := "still open, ended in order", "-"
		if r.err != nil {
			outcome = "FAILED"
		} else if r.echo > 0 {
			echo = r.echo.Round(100 * time.Microsecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.1fs\t%s\t%s\n", r.route, r.config, r.codec, r.how, r.open.Seconds(), echo, outcome)
	}
	w.Flush()
}
