// Try starts a web server with the shipped configuration, and Tandem behind it,
// until Ctrl-C. It is what scripts/try runs, after building it and tandem.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"tandem/internal/servertest"
)

// Exit statuses, as sysexits.h has them.
const (
	exitUsage       = 64
	exitUnavailable = 69
)

const defaultPort = 8080

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	err := try(ctx, os.Args[1:])
	var usage usageError
	var missing *servertest.MissingError
	switch {
	case err == nil:
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "try: %v\n%s", err, help)
		os.Exit(exitUsage)
	case errors.As(err, &missing):
		fmt.Fprintf(os.Stderr, "try: %v\n", err)
		os.Exit(exitUnavailable)
	default:
		fmt.Fprintf(os.Stderr, "try: %v\n", err)
		os.Exit(1)
	}
}

func try(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	// All that the wrapper and we put on disk is here, but for what the servers
	// have in folders of their own. The wrapper names it first, so it is known even
	// if the arguments are wrong.
	if o.bin != "" {
		defer func() { err = errors.Join(err, os.RemoveAll(o.bin)) }()
	}
	if err != nil {
		return err
	}
	if o.help {
		fmt.Print(help)
		return nil
	}
	if o.server != "" {
		if err := servertest.Installed(o.server); err != nil {
			return err
		}
	}
	endpoint, err := o.endpoint()
	if err != nil {
		return err
	}
	port, err := o.choosePort()
	if err != nil {
		return err
	}

	serve := servertest.Serve{Binary: filepath.Join(o.bin, "tandem")}
	serve.TOML = "[fastcgi]\nlisten = \"unix:$SOCKET\"\nmode = \"0666\"\n[endpoint.try]\npath = \"/tandem\"\n" + endpoint
	if o.server == "" {
		serve.TOML = fmt.Sprintf("http = \"$HTTP\"\n%s", serve.TOML)
		serve.Port = port
	}
	td, err := serve.Run(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, td.Stop()) }()

	var serverEnded <-chan struct{}
	url := td.HTTP
	if o.server != "" {
		cgiConfig := filepath.Join(o.bin, "cgi.toml")
		if err := os.WriteFile(cgiConfig, []byte(endpoint), 0o644); err != nil {
			return err
		}
		server, err := servertest.Run(ctx, o.server, servertest.Config{
			Socket: td.Socket, Binary: serve.Binary, TandemConfig: cgiConfig, Port: port, Source: o.source,
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop()) }()
		serverEnded = server.Done()
		url = server.URL
	}
	for _, line := range ready(o.server, url, serve.Binary) {
		fmt.Println(line)
	}
	fmt.Printf("\nThe log is %s\nCtrl-C stops and removes everything.\n", td.LogFile())

	select {
	case <-ctx.Done():
		return nil
	case <-td.Done():
		return fmt.Errorf("tandem ended by itself: %v; its log:\n%s", td.Err(), td.Log())
	case <-serverEnded:
		return fmt.Errorf("%s ended by itself", o.server)
	}
}

// ready says what to do with each endpoint: the curl commands differ, as the
// servers do (docs/nginx.md, docs/apache.md, docs/lighttpd.md).
func ready(server servertest.Kind, url, tandem string) []string {
	const (
		typing = "curl -sN -T . %s"
		// lighttpd streams a body only if its length is declared.
		typingDeclared = "curl -sN -T . -H Transfer-Encoding: -H 'Content-Length: 1099511627776' %s"
		// Behind mod_proxy_fcgi each line that is sent lets one answer through.
		pulse = "for i in 1 2 3 4 5; do echo line $i; sleep 1; done | curl -sN -T- %s"
		pipe  = "printf 'hello\\nworld\\n' | curl -sN -T- %s"
	)
	type way struct{ path, curl, note string }
	var ways []way
	switch server {
	case servertest.Apache:
		ways = []way{
			{"/tandem", pulse, "each line sent lets one answer through, the end of the input the rest"},
			{"/cgi-bin/tandem", pipe, "the output comes at the end of the input"},
			{"/fcgid/tandem", pipe, "the output comes at the end of the input"},
		}
	case servertest.Lighttpd:
		ways = []way{
			{"/tandem", typingDeclared, "type lines; Ctrl-C ends"},
			{"/cgi-bin/tandem", typingDeclared, "type lines; Ctrl-C ends"},
		}
	default:
		ways = []way{{"/tandem", typing, "type lines; Ctrl-D ends"}}
	}
	var lines []string
	for _, w := range ways {
		endpoint := url + w.path
		lines = append(lines, "ready "+endpoint,
			"  "+fmt.Sprintf(w.curl, endpoint)+"    # "+w.note,
			"  "+tandem+" connect "+endpoint)
	}
	return lines
}

type usageError string

func (e usageError) Error() string { return string(e) }

const help = `usage: scripts/try [nginx|apache|lighttpd] [--port P] [--app NAME | -- PROGRAM ARGS]

Starts the web server on 127.0.0.1 with the configuration in this repository, and
Tandem behind it. Without a server: Tandem's own HTTP front.

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

// endpoint is the endpoint's configuration.
func (o *options) endpoint() (string, error) {
	if o.app == "echo" {
		return "app = \"echo\"\n", nil
	}
	var dir string
	command := o.command
	if command != nil {
		path, err := exec.LookPath(command[0])
		if err != nil {
			return "", fmt.Errorf("no program %s: %w", command[0], err)
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", err
		}
		if dir, err = os.Getwd(); err != nil {
			return "", err
		}
		command = append([]string{path}, command[1:]...)
	} else {
		path, err := o.sample()
		if err != nil {
			return "", err
		}
		command = []string{path}
	}
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = tomlString(word)
	}
	text := fmt.Sprintf("app = \"program\"\ncommand = [%s]\n", strings.Join(quoted, ", "))
	if dir != "" {
		text += "dir = " + tomlString(dir) + "\n"
	}
	return text, nil
}

// sample finds a program of testdata/programs by its name without the ending, and
// copies it to where a web server of another user can read it.
func (o *options) sample() (string, error) {
	name := o.app
	if name == "" {
		name = "clock"
	}
	programs := filepath.Join(o.source, "testdata", "programs")
	entries, err := os.ReadDir(programs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	known := []string{"echo"}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		base := e.Name()
		known = append(known, base)
		if base != name && strings.TrimSuffix(base, filepath.Ext(base)) != name {
			continue
		}
		path := filepath.Join(o.bin, base)
		return path, copyProgram(filepath.Join(programs, base), path)
	}
	return "", usageError(fmt.Sprintf("--app %s: there are %s", name, strings.Join(known, ", ")))
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// tomlString quotes as TOML's basic strings want it, and hides $ from servertest.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r == '$':
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
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
