package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// curl is a curl whose input the test writes and whose output it reads.
type curl struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startCurl(t *testing.T, args ...string) *curl {
	t.Helper()
	c := &curl{t: t, cmd: exec.Command("curl", append([]string{"-sSN", "--no-progress-meter"}, args...)...)}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(30*time.Second, func() { c.cmd.Process.Kill() }) // a reader that would wait for ever fails
	t.Cleanup(func() {
		kill.Stop()
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return c
}

func (c *curl) say(s string) {
	if _, err := io.WriteString(c.in, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *curl) hear(want string) {
	c.t.Helper()
	got, err := c.out.ReadString('\n')
	if err != nil || got != want {
		c.t.Fatalf("curl printed %q, %v; want %q", got, err, want)
	}
}

// TestCurlInteractive: plain curl is an interactive client. Each line is
// answered before the next is written, so the body is open all the time.
func TestCurlInteractive(t *testing.T) {
	for _, r := range routes(t) {
		var args []string
		switch {
		case r.name == "nginx-h2":
			args = []string{"-k", "-T", "."}
		case strings.HasPrefix(r.name, "lighttpd"): // wants to know a length (411)
			args = []string{"-H", "Transfer-Encoding:", "-H", "Content-Length: 1099511627776", "-T", "."}
		case r.name == "apache": // hands on output only when input comes: the pulse test below
			continue
		default:
			args = []string{"-T", "."}
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := startCurl(t, append(args, r.base+"/hello")...)
			if r.name == "http" {
				c.hear("hello\n") // not even a byte of input is needed
			}
			c.say("one\n")
			if r.name != "http" {
				c.hear("hello\n")
			}
			c.hear("one\n")
			c.say("\n")
			c.hear("\n")
			c.say("zwei — 二\n")
			c.hear("zwei — 二\n")
			if strings.HasPrefix(r.name, "lighttpd") {
				c.say("\x04\n") // a declared length has no other end
			}
			c.in.Close()
			if rest, err := io.ReadAll(c.out); len(rest) > 0 || err != nil {
				t.Errorf("after the end came %q, %v", rest, err)
			}
		})
	}
}

// TestCurlPulse: through Apache each line that curl sends brings out what waits.
func TestCurlPulse(t *testing.T) {
	td := servertest.StartTandem(t, endpoints)
	apache := servertest.Start(t, servertest.Apache, servertest.Config{Socket: td.Socket})
	c := startCurl(t, "-T", ".", apache.FastCGI()+"/hello")
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for {
			l, err := c.out.ReadString('\n')
			if err != nil {
				return
			}
			lines <- l
		}
	}()
	got := ""
	for i := 0; !strings.Contains(got, "word\n"); i++ {
		if i == 100 {
			t.Fatalf("100 pulses brought out %q", got)
		}
		if i == 0 {
			c.say("word\n")
		} else {
			c.say("\n")
		}
		select {
		case l := <-lines:
			got += l
		case <-time.After(50 * time.Millisecond): // the pulse
		}
	}
	if !strings.HasPrefix(got, "hello\nword\n") {
		t.Errorf("got %q", got)
	}
}

// TestCurlPipe: a finite body, on every route there is: those too that can't
// stream both ways.
func TestCurlPipe(t *testing.T) {
	td := servertest.StartTandem(t, endpoints)
	cgi := cgiConfig(t, "/cgi-bin/tandem")
	fcgid := cgiConfig(t, "/fcgid/tandem")
	bases := map[string]string{"http": td.HTTP + "/tandem"}
	for _, kind := range servertest.Kinds {
		srv := servertest.Start(t, kind, servertest.Config{Socket: td.Socket, Binary: servertest.Binary(t), TandemConfig: cgi})
		bases[string(kind)] = srv.FastCGI()
		if kind != servertest.Nginx {
			bases[string(kind)+"-cgi"] = srv.CGI()
		}
	}
	prefork := servertest.Start(t, servertest.Apache, servertest.Config{Binary: servertest.Binary(t), TandemConfig: cgi, Prefork: true})
	bases["apache-prefork-cgi"] = prefork.CGI()
	fcgidServer := servertest.Start(t, servertest.Apache, servertest.Config{Binary: servertest.Binary(t), TandemConfig: fcgid})
	bases["apache-fcgid"] = fcgidServer.Fcgid()

	for name, base := range bases {
		for _, tt := range []struct{ endpoint, in, out string }{
			{"/bc", "6*7\n", "42\n"},
			{"/cat", "a\n\nb\n", "a\n\nb\n"},
			{"/cat", "no newline at the end", "no newline at the end\n"},
			{"/hello", "", "hello\n"},
		} {
			t.Run(fmt.Sprintf("%s%s/%q", name, tt.endpoint, tt.in), func(t *testing.T) {
				t.Parallel()
				args := []string{"-sSN", "--max-time", "30", "-w", "\n%{http_code}", base + tt.endpoint}
				if strings.HasPrefix(name, "lighttpd") {
					args = append(args, "--data-binary", "@-", "-H", "Content-Type: text/plain") // a length, not chunks
				} else {
					args = append(args, "-T-")
				}
				cmd := exec.Command("curl", args...)
				cmd.Stdin = strings.NewReader(tt.in)
				out, err := cmd.CombinedOutput()
				if want := tt.out + "\n200"; err != nil || string(out) != want {
					t.Errorf("curl gave %q, %v; want %q", out, err, want)
				}
			})
		}
	}
}
