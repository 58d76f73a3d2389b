package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"tandem/internal/bench"
	"tandem/internal/servertest"
)

// nginx is the one that all contestants are behind: the shipped configuration for
// what speaks FastCGI, what nginx's documentation says for WebSockets, and a plain
// stream.
type nginx struct {
	proc   *servertest.Process
	host   string // of http
	stream string // address of the stream; empty: nginx has no such module
}

// nginxStream is where Debian's libnginx-mod-stream has it.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// nginxNchan is where Debian's libnginx-mod-nchan has it.
const nginxNchan = "/usr/lib/nginx/modules/ngx_nchan_module.so"

// nchanLocations are as Nchan's documentation shows them. Subscribers get what is published from then on, as Mercure's do.
const nchanLocations = `
        location = /nchan/subscribe {
            nchan_subscriber eventsource;
            nchan_channel_id $arg_id;
            nchan_subscriber_first_message newest;
        }
        location = /nchan/publish {
            nchan_publisher http;
            nchan_channel_id $arg_id;
        }`

// openFiles is how many files a worker may have open: two for each session.
func openFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return min(l.Max, 40_000)
}

func (h *house) startNginx(ctx context.Context) (*nginx, error) {
	dir, err := os.MkdirTemp(h.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	port, err := servertest.FreePort()
	if err != nil {
		return nil, err
	}
	n := &nginx{host: fmt.Sprintf("127.0.0.1:%d", port)}
	shipped, err := os.ReadFile(filepath.Join(h.root, "nginx/tandem.conf"))
	if err != nil {
		return nil, err
	}
	upstream, err := os.ReadFile(filepath.Join(h.root, "nginx/upstream.conf"))
	if err != nil {
		return nil, err
	}
	const pass, socket = "fastcgi_pass tandem;", "/run/tandem/tandem.sock"
	if !strings.Contains(string(shipped), pass) || !strings.Contains(string(upstream), socket) {
		return nil, fmt.Errorf("expected %q in nginx/tandem.conf, %q in nginx/upstream.conf: the bare echo runs with the first and its own upstream", pass, socket)
	}
	var conf strings.Builder
	if os.Geteuid() == 0 {
		conf.WriteString("user root;\n")
	}
	nchan := ""
	if hasNchan() {
		fmt.Fprintf(&conf, "load_module %s;\n", nginxNchan)
		nchan = nchanLocations
	}
	if _, err := os.Stat(nginxStream); err == nil {
		port, err := servertest.FreePort()
		if err != nil {
			return nil, err
		}
		n.stream = fmt.Sprintf("127.0.0.1:%d", port)
		fmt.Fprintf(&conf, "load_module %s;\nstream { server { listen %s; proxy_pass unix:%s; proxy_timeout 1h; } }\n", nginxStream, n.stream, h.socket(programTCP))
	}
	fmt.Fprintf(&conf, `daemon off;
worker_processes %[1]d;
worker_rlimit_nofile %[2]d;
pid %[3]s/pid;
error_log %[3]s/error.log warn;
events { worker_connections 20000; }
http {
    access_log off;
    client_body_temp_path %[3]s/body;
    fastcgi_temp_path %[3]s/fastcgi;
    proxy_temp_path %[3]s/proxy;
    scgi_temp_path %[3]s/scgi;
    uwsgi_temp_path %[3]s/uwsgi;
    %[4]s
    upstream bare { server unix:%[5]s; }
    upstream gowebsocket { server unix:%[6]s; }
    upstream websocketd { server %[7]s; }
    server {
        listen %[8]s;
        location /tandem { %[9]s }
        location /bare { %[10]s }%[11]s
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
        proxy_set_header Host $http_host;
        proxy_read_timeout 1h;
        proxy_send_timeout 1h;
        location /websocket { proxy_pass http://gowebsocket; }
        location /websocketd { proxy_pass http://websocketd; }
    }
}
`, runtime.NumCPU(), openFiles(), dir, strings.Replace(string(upstream), socket, h.socket(programTandem), 1), h.socket(programBare), h.socket(programWebSocket), orNowhere(h.websocketd),
		n.host, shipped, strings.Replace(string(shipped), pass, "fastcgi_pass bare;", 1), nchan)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o644); err != nil {
		return nil, err
	}
	n.proc, err = servertest.StartProcess(servertest.Command{
		Args: []string{lookSbin("nginx"), "-e", filepath.Join(dir, "error.log"), "-c", file}, Dir: dir, Output: filepath.Join(dir, "output")})
	if err != nil {
		return nil, err
	}
	if err := answers(ctx, n.proc, "tcp", n.host); err != nil {
		return n, err
	}
	return n, n.forked(ctx)
}

// forked waits for the workers: the master listens before it starts them.
func (n *nginx) forked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bench.Patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(bench.Family(n.proc.Pid())) <= runtime.NumCPU() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("expected %d workers of nginx after %v, found %d", runtime.NumCPU(), bench.Patience, len(bench.Family(n.proc.Pid()))-1)
		}
	}
	return nil
}

func orNowhere(address string) string {
	if address == "" {
		return "127.0.0.1:1"
	}
	return address
}

// lookSbin finds a server where a user's PATH doesn't lead.
func lookSbin(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	return name
}

// answers waits until a process that was started takes connections.
func answers(ctx context.Context, p *servertest.Process, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, bench.Patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-p.Done():
			return fmt.Errorf("a server ended instead of listening on %s: %v; it said: %s", address, p.Err(), p.Log())
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s after %v: %w; the server said: %s", address, bench.Patience, err, p.Log())
		}
	}
}
