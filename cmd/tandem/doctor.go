package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	terminal "golang.org/x/term"

	"tandem/internal/doctor"
)

type doctorCmd struct {
	URL        string        `arg:"" help:"The endpoint, such as https://www.example.org/tandem. NAME:PASSWORD@ in it is as --user."`
	JSON       bool          `name:"json" help:"Print the report as JSON."`
	Slow       bool          `help:"Also look for time-outs on silence, up to --slow-for."`
	SlowFor    time.Duration `default:"2m" placeholder:"TIME" help:"How long to look for time-outs, at most 4m. Default: ${default}."`
	Header     []string      `short:"H" sep:"none" help:"A header for the requests, \"Name: value\". May be given again." placeholder:"LINE"`
	User       string        `help:"Log in with Basic authentication." placeholder:"NAME:PASSWORD"`
	Insecure   bool          `short:"k" help:"Take any certificate. For tests only: anybody can be in between."`
	CACert     string        `name:"cacert" type:"path" help:"Trust the certificate authorities in this PEM file, and no others." placeholder:"FILE"`
	HTTP1      bool          `name:"http1" help:"Leave HTTP/2 untested."`
	UnixSocket string        `type:"path" help:"Connect to this socket instead of the URL's host." placeholder:"FILE"`
}

// Help is shown by tandem doctor --help.
func (*doctorCmd) Help() string {
	return `Tests what the way to the endpoint lets through, and names the directive to change where it doesn't. ` +
		`The endpoint's program is not started.

Exit status: 0 sessions work as well as they can behind this server; 1 they work, with faults; 2 no session is possible, ` +
		`or nothing was reached; 64 wrong usage.`
}

func (c *doctorCmd) Run() error {
	// What the requests are like is said in the same words as to connect.
	as := connectCmd{Header: c.Header, User: c.User, Insecure: c.Insecure, CACert: c.CACert, UnixSocket: c.UnixSocket}
	reach, err := as.options()
	if err != nil {
		return exitWith(exitUsage, err)
	}
	o := &doctor.Options{Header: reach.Header, TLS: reach.TLS, DialContext: reach.DialContext, HTTP1: c.HTTP1}
	if c.Slow {
		o.Slow = c.SlowFor
		if terminal.IsTerminal(int(os.Stderr.Fd())) {
			fmt.Fprintf(os.Stderr, "tandem: looking for time-outs takes up to %v\n", c.SlowFor)
		}
	}
	print := &doctor.Printer{W: os.Stdout, Colour: terminal.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""}
	if !c.JSON {
		o.Each = print.Check
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := doctor.Run(ctx, c.URL, o)
	var wrong *doctor.UsageError
	switch {
	case errors.As(err, &wrong):
		return exitWith(exitUsage, err)
	case err != nil:
		return exitWith(128+int(syscall.SIGINT), errors.New("interrupted"))
	case c.JSON:
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		err = out.Encode(report)
	default:
		err = print.End(report)
	}
	if err != nil {
		return exitWith(exitIO, err)
	}
	if report.Status != doctor.Healthy {
		return exitWith(report.Status, errReported)
	}
	return nil
}
