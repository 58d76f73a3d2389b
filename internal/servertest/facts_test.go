package servertest

import (
	"testing"
)

// Facts about the web servers that Tandem relies on, each with what it decides. A
// server release that changes one fails a test here, before it surprises anybody.

// Decides where transport single is offered.
func TestBothWaysInOneRequest(t *testing.T) {
	nginx := newStage(t, Nginx, Config{TLS: true})
	lighttpd := newStage(t, Lighttpd, Config{})
	for _, c := range []struct {
		name string
		*stage
		url string
		exchange
	}{
		{"nginx FastCGI chunked", nginx, nginx.FastCGI(), exchange{length: chunked}},
		{"nginx FastCGI declared length", nginx, nginx.FastCGI(), exchange{length: declared}},
		{"nginx FastCGI PUT, as curl -T sends", nginx, nginx.FastCGI(), exchange{method: "PUT", length: chunked}},
		{"nginx FastCGI HTTP2", nginx, nginx.TLSURL + "/tandem", exchange{length: chunked, http2: true}},
		{"nginx FastCGI HTTP2 declared length", nginx, nginx.TLSURL + "/tandem", exchange{length: declared, http2: true}},
		{"lighttpd FastCGI declared length", lighttpd, lighttpd.FastCGI(), exchange{length: declared}},
		{"lighttpd CGI declared length", lighttpd, lighttpd.CGI(), exchange{length: declared}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := c.open(t, c.url, c.exchange)
			client.send("one\n")
			app := c.next(t)
			app.read("one\n")
			app.write("two\n")
			client.receive("two\n")
			app.write("three\n")
			client.receive("three\n")
			client.send("four\n")
			app.read("four\n")
			app.write("five\n")
			client.receive("five\n")
			app.end()
			client.finished()
		})
	}
}
