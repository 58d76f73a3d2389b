package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tandem/internal/servertest"
	"tandem/session/frame"
)

// A house is all servers and programs of one run.
type house struct {
	dir     string // ours: programs, configuration, sockets
	nginx   *servertest.Server
	apache  *servertest.Server
	tandem  *servertest.Tandem
	bare    *servertest.Process
	stops   []func() error
	cgiFile string // configuration of Tandem as a CGI program
}

// Programs, by their names in the house's folder.
const (
	programTandem  = "tandem"
	programBare    = "bare"
	programMinimal = "minimal"
)

// newHouse builds the programs and starts the servers. The caller must stop what it
// returns, also with an error.
func newHouse(ctx context.Context) (*house, error) {
	h := &house{}
	dir, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return h, err
	}
	h.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // Apache runs programs as another user
		return h, err
	}
	root, err := servertest.Root()
	if err != nil {
		return h, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/tandem", "./internal/bench/bare", "./internal/bench/minimal")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as packages have it, and the same for all
	if out, err := build.CombinedOutput(); err != nil {
		return h, fmt.Errorf("%v: %w\n%s", build.Args, err, out)
	}
	if err := h.startRates(ctx, root); err != nil {
		return h, err
	}
	return h, h.startCGI(ctx)
}

func (h *house) program(name string) string { return filepath.Join(h.dir, name) }

// startRates starts nginx with Tandem and the bare echo behind it.
func (h *house) startRates(ctx context.Context, root string) (err error) {
	h.tandem, err = servertest.Serve{
		Binary: h.program(programTandem),
		TOML:   "[fastcgi]\nlisten = \"unix:$SOCKET\"\nmode = \"0666\"\n[endpoint.echo]\napp = \"echo\"\n",
	}.Run(ctx)
	if err != nil {
		return err
	}
	h.stops = append(h.stops, h.tandem.Stop)

	socket := filepath.Join(h.dir, "bare.sock")
	h.bare, err = servertest.StartProcess(servertest.Command{
		Args: []string{h.program(programBare), socket}, Dir: h.dir, Output: filepath.Join(h.dir, "bare.log")})
	if err != nil {
		return err
	}
	h.stops = append(h.stops, h.bare.Stop)

	// The bare echo gets the shipped configuration too, but for its socket.
	const pass = "fastcgi_pass tandem;"
	shipped, err := os.ReadFile(filepath.Join(root, "nginx/tandem.conf"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(shipped), pass) {
		return fmt.Errorf("expected %q in nginx/tandem.conf: the bare echo runs with that file and its own upstream", pass)
	}
	file := filepath.Join(h.dir, "bare.conf")
	if err := os.WriteFile(file, []byte(strings.Replace(string(shipped), pass, "fastcgi_pass bare;", 1)), 0o644); err != nil {
		return err
	}
	h.nginx, err = servertest.Run(ctx, servertest.Nginx, servertest.Config{
		Socket: h.tandem.Socket,
		Global: "upstream bare { server unix:" + socket + "; }",
		Extra:  "location /bare { include " + file + "; }",
	})
	if err != nil {
		return err
	}
	h.stops = append(h.stops, h.nginx.Stop)
	return nil
}

// startCGI starts Apache with Tandem and the minimal program in its cgi-bin.
func (h *house) startCGI(ctx context.Context) (err error) {
	h.cgiFile = filepath.Join(h.dir, "cgi.toml")
	if err := os.WriteFile(h.cgiFile, []byte("app = \"echo\"\n"), 0o644); err != nil {
		return err
	}
	h.apache, err = servertest.Run(ctx, servertest.Apache, servertest.Config{Binary: h.program(programTandem), TandemConfig: h.cgiFile})
	if err != nil {
		return err
	}
	h.stops = append(h.stops, h.apache.Stop)
	// By another process, as a file that we had open for writing can't always be executed.
	if out, err := exec.CommandContext(ctx, "cp", "--", h.program(programMinimal), h.apache.CGIDir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy a CGI program: %w\n%s", err, out)
	}
	return nil
}

// contestants are the echoes whose rates are compared; the first is what the others
// are compared with.
func (h *house) contestants() []*contestant {
	host := strings.TrimPrefix(h.nginx.URL, "http://")
	web := family(h.nginx.Pid())
	raw := func(name, path string, codec frame.Codec, pid int) *contestant {
		return &contestant{name: name, web: web, backend: []int{pid}, open: func() (session, error) {
			return opened(dialRaw(host, path, codec))
		}}
	}
	return []*contestant{
		raw("bare line echo", "/bare", frame.Lines, h.bare.Pid()),
		raw("bare, flushed together", "/bare/together", frame.Lines, h.bare.Pid()),
		raw("Tandem `lines`", "/tandem", frame.Lines, h.tandem.Pid()),
		raw("Tandem `binary`", "/tandem", frame.Binary, h.tandem.Pid()),
		raw("Tandem `json`", "/tandem", frame.JSON, h.tandem.Pid()),
		{name: "Tandem `binary`, package client", web: web, backend: []int{h.tandem.Pid()}, open: func() (session, error) {
			return opened(dialProduct(h.nginx.FastCGI(), frame.Binary.Name()))
		}},
	}
}

// opened keeps a nil pointer from becoming a session.
func opened[S session](s S, err error) (session, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (h *house) stop() error {
	var errs []error
	for i := len(h.stops) - 1; i >= 0; i-- {
		errs = append(errs, h.stops[i]())
	}
	if h.dir != "" {
		errs = append(errs, os.RemoveAll(h.dir))
	}
	return errors.Join(errs...)
}
