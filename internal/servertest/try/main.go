// Try starts a web server with the shipped configuration, and Tandem behind it,
// until Ctrl-C. It is what scripts/try runs, after building it and tandem.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	serve.TOML = "state_dir = " + tomlString(filepath.Join(o.bin, "state")) + "\n[fastcgi]\nlisten = \"unix:$SOCKET\"\nmode = \"0666\"\n[endpoint.try]\npath = \"/tandem\"\n" + endpoint + o.hub()
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
	for _, line := range readyHub(url, serve.Binary) {
		fmt.Println(line)
	}
	fmt.Printf("\nIn a browser: %s/tandem and %[1]s%s\n", url, hubPath)
	fmt.Printf("The log is %s\nCtrl-C stops and removes everything.\n", td.LogFile())

	select {
	case <-ctx.Done():
		return nil
	case <-td.Done():
		return fmt.Errorf("tandem ended by itself: %v; its log:\n%s", td.Err(), td.Log())
	case <-serverEnded:
		return fmt.Errorf("%s ended by itself", o.server)
	}
}

// readyHub says what to do with the hub, which is the same behind each server.
func readyHub(url, tandem string) []string {
	at := url + hubPath
	return []string{"hub " + at,
		"  curl -d topic=news -d 'data=It works' " + at,
		"  " + tandem + " subscribe " + at + " news --since earliest"}
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
