package servertest

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// Facts about sizes and time-outs, and what the shipped configuration does about them.

// Decides the window of 64 KiB from client to server: once nginx's write to the
// program would block, after the response's header went out, the upload never moves
// again, though the program reads on.
func TestNginxUploadStallsForGood(t *testing.T) {
	s := newStage(t, Nginx, Config{})
	const size = 30 << 20
	client := s.open(t, s.FastCGI(), exchange{length: size})
	client.send("a")
	app := s.next(t)
	app.write("1")
	client.receive("1")

	// The program pauses until nginx takes no more.
	progress := make(chan int)
	go func() {
		defer close(progress)
		piece := []byte(strings.Repeat("x", 1<<16))
		for sent := 1; sent < size; {
			n, err := client.body.Write(piece[:min(len(piece), size-sent)])
			sent += n
			if err != nil {
				return
			}
			progress <- sent
		}
	}()
	sent := drain(progress)
	if sent >= size {
		t.Fatal("nginx took the whole body: nothing to see here")
	}
	// Now the program reads all it can get. net/http/fcgi blocks at once when there
	// is no more, so the reads are a goroutine's.
	read := make(chan int)
	go func() {
		total := 0
		for strings.HasPrefix(app.do("read"), "got \"") {
			total++
			read <- total
		}
	}()
	drain(read)
	if now := drain(progress); now > sent+1<<20 {
		t.Fatalf("the upload went on, from %d to %d bytes: nginx does not stall any more", sent, now)
	}
}

// drain takes from counts until it stands still for a while, and returns the last.
func drain(counts chan int) (last int) {
	for {
		select {
		case n, ok := <-counts:
			if !ok {
				return last
			}
			last = n
		case <-time.After(700 * time.Millisecond):
			return last
		}
	}
}

// The shipped configuration lifts every limit on a body's size that its surroundings
// may have.
func TestBodyOfAnySize(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for _, c := range []struct {
		name   string
		kind   Kind
		config Config
		url    func(*Server) string
	}{
		{"nginx", Nginx, Config{Extra: "client_max_body_size 1k;"}, (*Server).FastCGI},
		{"apache mod_proxy_fcgi", Apache, Config{Extra: "LimitRequestBody 1000"}, (*Server).FastCGI},
		{"apache mod_cgid", Apache, Config{Extra: "LimitRequestBody 1000"}, (*Server).CGI},
		{"apache mod_fcgid", Apache, Config{}, (*Server).Fcgid},
		{"lighttpd FastCGI", Lighttpd, Config{Extra: "server.max-request-size = 1"}, (*Server).FastCGI},
		{"lighttpd CGI", Lighttpd, Config{Extra: "server.max-request-size = 1"}, (*Server).CGI},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, c.kind, c.config)
			client := s.open(t, c.url(s.Server), exchange{length: size})
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(client.body, strings.Repeat("x", size))
				client.body.Close()
				sent <- err
			}()
			app := s.next(t)
			total := 0
			for total < size {
				reply := app.do("read")
				if !strings.HasPrefix(reply, `got "`) {
					t.Fatalf("after %d bytes of %d: %s", total, size, reply)
				}
				total += len(reply) - len(`got ""`)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			app.write("1")
			client.receive("1")
			app.end()
			client.finished()
		})
	}
}

// slow skips tests that wait for time-outs, but for TANDEM_SLOW=1.
func slow(t *testing.T) {
	if os.Getenv("TANDEM_SLOW") == "" {
		t.Skip("waits for a time-out of a web server: TANDEM_SLOW=1 runs it")
	}
	t.Parallel()
}

// Decides RequestReadTimeout body=0 in the shipped files: mod_reqtimeout as Debian
// sets it up cuts a body that is quiet for some 10 s.
func TestApacheCutsQuietBody(t *testing.T) {
	slow(t)
	const quiet = 25 * time.Second
	t.Run("as shipped", func(t *testing.T) {
		s := newStage(t, Apache, Config{})
		client := s.open(t, s.FastCGI(), exchange{length: chunked})
		client.send("a")
		app := s.next(t)
		app.read("a")
		time.Sleep(quiet) // there is nothing to wait for: nothing happens, is the fact
		client.send("b")
		app.read("b")
		client.end()
		app.expect("read", "got EOF")
		app.end()
		client.finished()
	})
	t.Run("without", func(t *testing.T) {
		s := newStage(t, Apache, Config{replace: [2]string{"RequestReadTimeout body=0", ""}})
		client := s.open(t, s.FastCGI(), exchange{length: chunked})
		client.send("a")
		app := s.next(t)
		app.read("a")
		fmt.Fprintln(app.conn, "read")
		select {
		case reply := <-app.replies:
			if strings.HasPrefix(reply, `got "`) {
				t.Fatalf("the program read %s, expected that Apache cuts", reply)
			}
		case <-time.After(quiet):
			t.Fatalf("Apache did not cut a body that was quiet for %v", quiet)
		}
	})
}

// Decides FcgidBusyTimeout in the shipped file: mod_fcgid kills a process whose
// request takes longer, though it may be talking all the time.
func TestFcgidKillsLongRequest(t *testing.T) {
	slow(t)
	s := newStage(t, Apache, Config{
		Global:  "FcgidBusyScanInterval 1",
		replace: [2]string{"FcgidBusyTimeout 86400", "FcgidBusyTimeout 2"},
	})
	client := s.open(t, s.Fcgid(), exchange{method: "GET"})
	app := s.next(t)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for app.do(`write "more"`) == "wrote" {
		select {
		case <-client.output:
		case <-deadline:
			t.Fatal("mod_fcgid let a request live longer than FcgidBusyTimeout")
		}
		<-tick.C
	}
}

// Decides FilterChain ! in the shipped files: with mod_deflate on text/plain, as Debian
// has it, a CGI program's short first line stays in Apache, no-gzip or not.
func TestDeflateHoldsFirstLineOfCGI(t *testing.T) {
	t.Parallel()
	s := newStage(t, Apache, Config{replace: [2]string{"FilterChain !", ""}})
	client := s.open(t, s.CGI(), exchange{method: "GET", header: map[string]string{"Accept-Encoding": "gzip"}})
	app := s.next(t)
	app.write("short\n")
	client.silent()
	long := strings.Repeat("x", 100)
	app.write(long)
	client.receive("short\n" + long)
	app.end()
	client.finished()
}
