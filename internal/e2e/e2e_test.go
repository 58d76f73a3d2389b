// Package e2e holds the tests of the whole: the tandem program behind the real
// web servers with the shipped configuration, and clients in front.
package e2e_test

import (
	"context"
	"os"
	"testing"
	"time"

	"tandem/client"
	"tandem/internal/servertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	servertest.Cleanup()
	os.Exit(code)
}

// endpoints is the configuration that all routes serve. bin/ programs are run
// by their whole paths, as no shell looks for them.
const endpoints = `
[endpoint.echo]
path = "/tandem"
app = "echo"

[endpoint.steady]
path = "/tandem/steady"
command = ["/bin/cat"]
grace = "30s"

[endpoint.hello]
path = "/tandem/hello"
command = ["/bin/sh", "-c", "echo hello; exec cat"]

[endpoint.cat]
path = "/tandem/cat"
command = ["/bin/cat"]

[endpoint.bc]
path = "/tandem/bc"
command = ["/usr/bin/bc", "-q"]

[endpoint.both]
path = "/tandem/both"
command = ["/bin/sh", "-c", "exec 3<&0; seq 10000 & seq 10000 | cmp - /dev/fd/3 && echo same; wait"]

[endpoint.late]
path = "/tandem/late"
command = ["/bin/sh", "-c", "sleep 2; exec wc -c"]

[endpoint.deaf]
path = "/tandem/deaf"
command = ["/bin/sleep", "60"]
`

// A route is a way from a client through a web server to a program.
type route struct {
	name string
	base string // URL of the echo endpoint; the others are below it
	// client is how package client is told to go; its TLS set-up included.
	client client.Options
	// transport and body that the client must find by itself.
	transport, body string
	proto           string
}

// routes starts all servers and returns the routes on which a session's both
// halves stream.
func routes(t *testing.T) []route {
	t.Helper()
	td := servertest.StartTandem(t, endpoints)
	cgi := cgiConfig(t, "/cgi-bin/tandem")
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket, TLS: true})
	lighttpd := servertest.Start(t, servertest.Lighttpd, servertest.Config{Socket: td.Socket, Binary: servertest.Binary(t), TandemConfig: cgi})
	apache := servertest.Start(t, servertest.Apache, servertest.Config{Socket: td.Socket})
	const declared = "length 1099511627776"
	return []route{
		{name: "http", base: td.HTTP + "/tandem", transport: "single", body: declared},
		{name: "nginx", base: nginx.FastCGI(), transport: "single", body: declared},
		{name: "nginx-h2", base: nginx.TLSURL + "/tandem", client: client.Options{TLS: nginx.TLSConfig()}, transport: "single", body: declared, proto: "HTTP/2.0"},
		{name: "lighttpd", base: lighttpd.FastCGI(), transport: "single", body: declared},
		{name: "lighttpd-cgi", base: lighttpd.CGI(), transport: "single", body: declared},
		{name: "apache", base: apache.FastCGI(), transport: "pulse", body: "chunked"},
	}
}

// dial opens a session at the endpoint below a route's base.
func (r *route) dial(t *testing.T, endpoint string, change func(*client.Options)) *client.Conn {
	t.Helper()
	o := r.client
	o.Transport = r.transport
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, r.base+endpoint, &o)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	t.Cleanup(c.CloseNow)
	return c
}
