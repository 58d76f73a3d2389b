package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tandem/client"
	"tandem/internal/bench"
	"tandem/internal/servertest"
	"tandem/session/frame"
)

// A house is servers and programs of one measurement or of several.
type house struct {
	dir, root  string // ours: programs, configuration, sockets; the repository
	nginx      *nginx
	lighttpd   *servertest.Server
	apache     *servertest.Server
	backends   map[string]*servertest.Process
	websocketd string // its address; empty: not started
	direct     string // the Go WebSocket echo's own address
	stops      []func() error
	cgiFile    string // configuration of Tandem as a CGI program
}

// Programs, by their names in the house's folder.
const (
	programTandem     = "tandem"
	programBare       = "bare"
	programMinimal    = "minimal"
	programWebSocket  = "gowebsocket"
	programTCP        = "gotcp"
	programWebsocketd = "websocketd" // not ours
)

// build builds all programs into a folder of its own, for houses to share.
func build(ctx context.Context) (dir string, err error) {
	root, err := servertest.Root()
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "tandem-bench-"); err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // Apache runs programs as another user
		return dir, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/tandem", "./internal/bench/contest/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as packages have it, and the same for all
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return dir, nil
}

// newHouse starts these backends, and nginx in front of them. The caller must stop
// what it returns, also with an error.
func newHouse(ctx context.Context, programs string, backends ...string) (*house, error) {
	h := &house{backends: make(map[string]*servertest.Process)}
	var err error
	if h.root, err = servertest.Root(); err != nil {
		return h, err
	}
	if h.dir, err = os.MkdirTemp("", "tandem-house-"); err != nil {
		return h, err
	}
	h.stops = append(h.stops, func() error { return os.RemoveAll(h.dir) })
	if err := os.Chmod(h.dir, 0o755); err != nil {
		return h, err
	}
	for _, name := range backends {
		if err := h.start(ctx, programs, name); err != nil {
			return h, fmt.Errorf("%s: %w", name, err)
		}
	}
	h.nginx, err = h.startNginx(ctx)
	if h.nginx != nil && h.nginx.proc != nil {
		h.stops = append(h.stops, h.nginx.proc.Stop)
	}
	return h, err
}

func (h *house) socket(name string) string { return filepath.Join(h.dir, name+".sock") }

// tandemTOML is Tandem's configuration: as shipped, but for numbers that a benchmark needs.
const tandemTOML = `[fastcgi]
listen = "unix:%s"
mode = "0666"
max_connections = 20000
[limits]
sessions = 20000
children = 2000
[log]
level = "warn"
[endpoint.echo]
path = "/tandem"
app = "echo"
[endpoint.cat]
path = "/tandem/cat"
app = "program"
command = ["/bin/cat"]
[endpoint.hub]
path = "/tandem/hub"
app = "hub"
database = "%s"
publish = "anyone"
`

// start starts one backend.
func (h *house) start(ctx context.Context, programs, name string) error {
	args := []string{filepath.Join(programs, name)}
	network, address := "unix", h.socket(name)
	port := ""
	if name == programWebSocket || name == programWebsocketd {
		n, err := servertest.FreePort()
		if err != nil {
			return err
		}
		port = fmt.Sprint(n)
	}
	switch name {
	case programTandem:
		file := filepath.Join(h.dir, "tandem.toml")
		if err := os.WriteFile(file, fmt.Appendf(nil, tandemTOML, address, filepath.Join(h.dir, "hub.db")), 0o644); err != nil {
			return err
		}
		args = append(args, "serve", "-c", file)
	case programWebSocket:
		h.direct = "127.0.0.1:" + port
		args = append(args, address, h.direct)
	case programWebsocketd:
		h.websocketd = "127.0.0.1:" + port
		network, address = "tcp", h.websocketd
		args = []string{programWebsocketd, "--address=127.0.0.1", "--port=" + port, "--loglevel=fatal", "/bin/cat"}
	default:
		args = append(args, address)
	}
	p, err := servertest.StartProcess(servertest.Command{Args: args, Dir: h.dir, Output: filepath.Join(h.dir, name+".log")})
	if err != nil {
		return err
	}
	h.backends[name] = p
	h.stops = append(h.stops, p.Stop)
	return answers(ctx, p, network, address)
}

// startOthers starts lighttpd and Apache, beside nginx.
func (h *house) startOthers(ctx context.Context, programs string) (err error) {
	if h.lighttpd, err = servertest.Run(ctx, servertest.Lighttpd, servertest.Config{Socket: h.socket(programTandem)}); err != nil {
		return err
	}
	h.stops = append(h.stops, h.lighttpd.Stop)
	h.cgiFile = filepath.Join(h.dir, "cgi.toml")
	if err := os.WriteFile(h.cgiFile, []byte("app = \"echo\"\n"), 0o644); err != nil {
		return err
	}
	h.apache, err = servertest.Run(ctx, servertest.Apache, servertest.Config{
		Socket: h.socket(programTandem), Binary: filepath.Join(programs, programTandem), TandemConfig: h.cgiFile})
	if err != nil {
		return err
	}
	h.stops = append(h.stops, h.apache.Stop)
	// By another process, as a file that we had open for writing can't always be executed.
	if out, err := exec.CommandContext(ctx, "cp", "--", filepath.Join(programs, programMinimal), h.apache.CGIDir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy a CGI program: %w\n%s", err, out)
	}
	return nil
}

func (h *house) stop() error {
	var errs []error
	for i := len(h.stops) - 1; i >= 0; i-- {
		errs = append(errs, h.stops[i]())
	}
	return errors.Join(errs...)
}

// wire opens sessions with the app at path behind a web server, by hand.
func wire(server, path string, codec frame.Codec, change ...func(*bench.Wire)) bench.Opener {
	w := &bench.Wire{URL: &url.URL{Scheme: "http", Host: strings.TrimPrefix(server, "http://"), Path: path},
		Codec: codec, Payload: payload, Heartbeat: client.DefaultHeartbeat}
	for _, c := range change {
		c(w)
	}
	return w.Open
}

// declared has requests declare a length, which lighttpd needs.
func declared(w *bench.Wire) { w.Declared = 1 << 40 }

// small has sessions keep next to nothing.
func small(w *bench.Wire) { w.Buffer = smallBuffer }

const (
	smallBuffer = 512
	buffer      = 16 << 10
)

// product opens sessions of package client.
func product(url string, o client.Options) bench.Opener {
	o.Codec = frame.Binary.Name()
	return (&bench.Client{URL: url, Payload: payload, Options: o}).Open
}
