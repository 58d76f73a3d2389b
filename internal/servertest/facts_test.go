package servertest

import (
	"testing"
)

// Facts about the web servers that Tandem relies on, each with what it decides. A
// server release that changes one fails a test here, before it surprises anybody.

// Decides where transport single is offered.
func TestBothWaysInOneRequest(t *testing.T) {
	t.Parallel()
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
		{"lighttpd FastCGI HTTP2 declared length", lighttpd, lighttpd.FastCGI(), exchange{length: declared, http2: true}},
		{"lighttpd CGI HTTP2 declared length", lighttpd, lighttpd.CGI(), exchange{length: declared, http2: true}},
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

// Decides that a streamed body needs a declared length behind lighttpd, on HTTP/2 too.
func TestLighttpdRefusesUnknownLength(t *testing.T) {
	t.Parallel()
	s := newStage(t, Lighttpd, Config{})
	for name, x := range map[string]exchange{"HTTP1": {length: chunked}, "HTTP2": {length: chunked, http2: true}} {
		t.Run(name, func(t *testing.T) {
			client := s.open(t, s.FastCGI(), x)
			client.offer("one\n")
			client.expectStatus(411)
			client = s.open(t, s.CGI(), x)
			client.offer("one\n")
			client.expectStatus(411)
		})
	}
}

// Decides server.upload-dirs in the shipped files: over HTTP/1.1 lighttpd puts each
// piece of a body that declares more than 64 KiB into a file.
func TestLighttpdPutsPiecesIntoFiles(t *testing.T) {
	t.Parallel()
	nowhere := newStage(t, Lighttpd, Config{replace: [2]string{`( "/dev/shm", "/var/tmp" )`, `( "/nonexistent" )`}})
	for name, x := range map[string]exchange{"short": {length: 64 << 10}, "HTTP2": {length: declared, http2: true}} {
		t.Run(name, func(t *testing.T) {
			client := nowhere.open(t, nowhere.FastCGI(), x)
			client.send("one\n")
			nowhere.next(t).read("one\n")
		})
	}
	t.Run("long", func(t *testing.T) {
		client := nowhere.open(t, nowhere.FastCGI(), exchange{length: declared})
		client.offer("one\n")
		client.expectStatus(500)
	})
	t.Run("the first folder is missing", func(t *testing.T) {
		s := newStage(t, Lighttpd, Config{replace: [2]string{"/dev/shm", "/nonexistent"}})
		client := s.open(t, s.FastCGI(), exchange{length: declared})
		client.send("one\n")
		s.next(t).read("one\n")
	})
}

// Decides transport pulse: behind mod_proxy_fcgi each chunk that the client sends
// lets one record of the program through, the first after two or three.
func TestApacheProxyPassesOneRecordPerChunk(t *testing.T) {
	t.Parallel()
	s := newStage(t, Apache, Config{TLS: true})
	for name, x := range map[string]exchange{
		"chunked":         {length: chunked},
		"declared length": {length: declared},
		"HTTP2":           {length: chunked, http2: true},
	} {
		t.Run(name, func(t *testing.T) {
			url := s.FastCGI()
			if x.http2 {
				url = s.TLSURL + "/tandem"
			}
			client := s.open(t, url, x)
			client.send("a")
			app := s.next(t)
			app.read("a")
			for _, text := range []string{"1", "2", "3", "4", "5"} {
				app.write(text)
			}
			client.silent()
			for chunks := 1; !client.heard(); chunks++ {
				if chunks > 3 {
					t.Fatal("three chunks did not let the first record through")
				}
				client.send("b")
				app.read("b") // it is Apache that waits, not the body that is late
			}
			for _, text := range []string{"1", "2", "3"} {
				client.receive(text)
				client.silent()
				client.send("b")
				app.read("b")
			}
			client.receive("4")
			if x.length == declared {
				return // ending a body before its declared length is an abort
			}
			client.end()
			client.receive("5")
			app.write("6")
			client.receive("6")
			app.end()
			client.finished()
		})
	}
}

// Decides that CGI behind Apache is offered split alone: the body streams into the
// program, the output waits for the body's end.
func TestApacheCGIHoldsOutputUntilBodyEnds(t *testing.T) {
	t.Parallel()
	for name, prefork := range map[string]bool{"mod_cgid": false, "mod_cgi": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, Apache, Config{Prefork: prefork})
			client := s.open(t, s.CGI(), exchange{length: chunked})
			client.send("a")
			app := s.next(t)
			app.read("a")
			app.write("1")
			client.silent()
			client.send("b")
			app.read("b")
			app.write("2")
			client.silent()
			client.end()
			client.receive("12")
			app.write("3")
			client.receive("3")
			app.expect("read", "got EOF")
			app.end()
			client.finished()
		})
	}
}

// Decides the same for mod_fcgid, which doesn't even call the program before the
// body's end.
func TestApacheFcgidSpoolsBody(t *testing.T) {
	t.Parallel()
	s := newStage(t, Apache, Config{})
	client := s.open(t, s.Fcgid(), exchange{length: chunked})
	client.send("a")
	client.silent()
	if len(s.apps) > 0 {
		t.Fatal("the program was called before the body's end")
	}
	client.end()
	app := s.next(t)
	app.read("a")
	app.write("1")
	client.receive("1")
	app.end()
	client.finished()
}
