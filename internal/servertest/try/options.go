package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"tandem/internal/servertest"
)

type usageError string

func (e usageError) Error() string { return string(e) }

const help = `usage: scripts/try [nginx|apache|lighttpd] [--port P] [--app NAME | -- PROGRAM ARGS]

Starts the web server on 127.0.0.1 with the configuration in this repository, and
Tandem behind it, with a program at /tandem and a hub at /tandem/hub. Without a
server: Tandem's own HTTP front.

  --port P   default 8080, or a free one if that is taken
  --app NAME "echo", or a program of testdata/programs: chat, clock, ... (default clock)
  --install  as root: install the server if it is missing (apt-get)
  -- PROGRAM ARGS
             your program: a line of its standard input is a message from the
             client, a line of its standard output one to the client
`

type options struct {
	source, bin string // set by scripts/try
	server      servertest.Kind
	port        int // 0: not given
	app         string
	command     []string
	help        bool
}

func parse(args []string) (options, error) {
	var o options
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, joined := strings.Cut(arg, "=")
		take := func() error {
			if joined {
				return nil
			}
			if len(args) == 0 {
				return usageError(name + " wants a value")
			}
			value, args = args[0], args[1:]
			return nil
		}
		var err error
		switch {
		case arg == "--":
			if len(args) == 0 {
				return o, usageError("a program is expected after --")
			}
			o.command, args = args, nil
		case arg == "-h" || arg == "--help":
			o.help = true
		case name == "--port":
			if err = take(); err == nil {
				o.port, err = strconv.Atoi(value)
				if err != nil || o.port < 1 || o.port > 65535 {
					err = usageError("--port " + value + ": expected a number from 1 to 65535")
				}
			}
		case name == "--app":
			err = take()
			o.app = value
		case name == "--source":
			err = take()
			o.source = value
		case name == "--bin":
			err = take()
			o.bin = value
		case strings.HasPrefix(arg, "-"):
			err = usageError("unknown option " + arg)
		case o.server != "":
			err = usageError("unexpected argument " + arg + "; a program goes after --")
		default:
			o.server = servertest.Kind(arg)
			if !o.server.Known() {
				err = usageError("unknown server " + arg + ": there are nginx, apache, lighttpd")
			}
		}
		if err != nil {
			return o, err
		}
	}
	if o.app != "" && o.command != nil {
		return o, usageError("--app and a program after -- exclude each other")
	}
	if !o.help && (o.source == "" || o.bin == "") {
		return o, usageError("run scripts/try, which builds what this program needs")
	}
	return o, nil
}

// choosePort takes the port asked for or fails; the default may move.
func (o *options) choosePort() (int, error) {
	port := o.port
	if port == 0 {
		port = defaultPort
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		return port, ln.Close()
	}
	if o.port != 0 {
		return 0, fmt.Errorf("port %d: %w; name another one with --port", port, err)
	}
	free, freeErr := servertest.FreePort()
	if freeErr == nil {
		fmt.Fprintf(os.Stderr, "try: port %d is taken, using %d\n", port, free)
	}
	return free, freeErr
}
