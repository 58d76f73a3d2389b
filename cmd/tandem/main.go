// Command tandem holds two-way message sessions open behind a web server.
//
// How it is started says what it does:
//
//   - file descriptor 0 is a listening socket (mod_fcgid, lighttpd's bin-path,
//     spawn-fcgi): it serves FastCGI there;
//   - GATEWAY_INTERFACE is set: it is a CGI program and serves that one request;
//     its arguments can be words of the request's query and are not parsed;
//   - systemd passes sockets, and there are no arguments: as "tandem serve";
//   - otherwise its arguments name a command: see tandem --help.
//
// This package wires the others together. It is the only one that exits, prints,
// reads flags, and knows logrus and systemd.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/alecthomas/kong"

	"tandem/internal/config"
	"tandem/internal/listen"
)

// Exit statuses, those of sysexits(3).
const (
	exitUsage  = 64
	exitListen = 69 // EX_UNAVAILABLE
	exitIO     = 74
	exitConfig = 78
)

// exitError is an error with the exit status to end with.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// errReported ends with a status alone: all was said.
var errReported = errors.New("reported")

func exitWith(status int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{status, err}
}

type cli struct {
	Serve     serveCmd     `cmd:"" help:"Serve FastCGI and HTTP as configured, until SIGTERM."`
	Connect   connectCmd   `cmd:"" help:"Hold a session with an endpoint: stdin to it, its messages to stdout."`
	Bench     benchCmd     `cmd:"" help:"Put load on an endpoint and measure it."`
	Doctor    doctorCmd    `cmd:"" help:"Test the way to an endpoint, and say what to change where it is bad."`
	Publish   publishCmd   `cmd:"" help:"Publish an event at a hub."`
	Subscribe subscribeCmd `cmd:"" help:"Print the events of topics as they come."`
	Config    struct {
		Check checkCmd `cmd:"" help:"Check the configuration: status 0, or 78 and what is wrong."`
		Show  showCmd  `cmd:"" help:"Print the configuration in force, defaults included."`
	} `cmd:"" help:"Check or show the configuration."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

const description = `Two-way message sessions in ordinary HTTP requests, behind the web server you run.

As a CGI program, or where a web server starts it for FastCGI, it needs no arguments.

The configuration is the first of: -c FILE; the script that #! started; $TANDEM_CONFIG; tandem.toml beside the binary; ` + config.System + `.

Exit status: 0 done; 64 wrong usage; 69 can't listen; 74 can't read or write; 78 wrong configuration.`

func main() { os.Exit(run()) }

func run() int {
	args := os.Args[1:]
	switch {
	case listen.IsStdin():
		// A web server's configuration wrote the arguments, if any.
		if at, ok := script(); ok {
			return report((&serveCmd{Config: at}).Run())
		}
		if len(args) == 0 || args[0] != "serve" {
			args = append([]string{"serve"}, args...)
		}
	case os.Getenv("GATEWAY_INTERFACE") != "":
		return serveCGI()
	case len(args) == 0 && systemdPasses():
		args = []string{"serve"}
	default:
		if at, ok := script(); ok {
			return report((&serveCmd{Config: at}).Run())
		}
	}
	return command(args)
}

// command parses args and runs the command that they name.
func command(args []string) int {
	var c cli
	p, err := kong.New(&c, kong.Name("tandem"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		panic(err) // a mistake in the struct above
	}
	if len(args) == 0 {
		p.Stdout = os.Stderr
		if ctx, err := kong.Trace(p, nil); err == nil {
			_ = ctx.PrintUsage(false)
		}
		return exitUsage
	}
	ctx, err := p.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tandem: %v\nSee tandem --help.\n", err)
		return exitUsage
	}
	return report(ctx.Run())
}

// report prints err and returns the status to exit with.
func report(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		// One mistake a line, each saying where it is.
		fmt.Fprintf(os.Stderr, "tandem: %v\n", err)
	}
	var e *exitError
	if errors.As(err, &e) {
		return e.status
	}
	return 1
}

// script tells whether a #! line started this process, outside of CGI.
func script() (string, bool) {
	at, err := config.Find(process(""))
	return at.File, err == nil && at.Source == config.Script
}

// process is what config.Find may know of this process.
func process(flag string) config.Process {
	exe, err := os.Executable()
	if err != nil {
		exe = "/proc/self/exe"
	}
	return config.Process{Flag: flag, Args: os.Args, Getenv: os.Getenv, Executable: exe}
}

// systemdPasses tells whether systemd passes sockets to this very process.
func systemdPasses() bool {
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	return err == nil && pid == os.Getpid() && os.Getenv("LISTEN_FDS") != ""
}
