package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/session"
	"tandem/session/frame"
)

// connection is a running tandem connect.
type connection struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
}

func connect(t *testing.T, args ...string) *connection {
	t.Helper()
	c := &connection{t: t, cmd: tandem(t, nil, append([]string{"connect"}, args...)...)}
	c.cmd.Stderr = &c.stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdout = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { c.cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop() })
	return c
}

// say sends a line and expects another one back.
func (c *connection) say(line, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
	if got, err := c.stdout.ReadString('\n'); err != nil || got != want+"\n" {
		c.t.Fatalf("expected %q, got %q, %v; stderr: %s", want, got, err, c.stderr.String())
	}
}

func (c *connection) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *connection) exits(want int) {
	c.t.Helper()
	rest, _ := io.ReadAll(c.stdout)
	c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != want {
		c.t.Errorf("exit status %d, expected %d; stdout %q, stderr %s", got, want, rest, c.stderr.String())
	}
}

// ends is an app that echoes and tells how its sessions ended.
func ends(to chan<- error) session.App {
	return session.AppFunc(func(ctx context.Context, s *session.Session) error {
		for {
			m, err := s.Receive(ctx)
			if err != nil {
				to <- err
				return err
			}
			s.Send(ctx, m)
		}
	})
}

// Messages pass as they come, while stdin stays open; a signal closes the session
// in order.
func TestConnectSignals(t *testing.T) {
	got := make(chan error, 1)
	srv := httptest.NewServer(session.NewHandler(ends(got), &session.Options{Log: slog.New(slog.DiscardHandler)}))
	defer srv.Close()
	for sig, code := range map[os.Signal]frame.Code{
		os.Interrupt:    frame.CodeNormal,
		syscall.SIGTERM: frame.CodeGoingAway,
		syscall.SIGHUP:  frame.CodeGoingAway,
	} {
		c := connect(t, srv.URL)
		c.say("one", "one")
		c.say("", "")
		c.signal(sig)
		c.exits(0)
		var over *frame.CloseError
		if err := <-got; !errors.As(err, &over) || over.Code != code {
			t.Errorf("%v: the app saw %v, expected close %d", sig, err, code)
		}
	}
	c := connect(t, srv.URL)
	c.say("one", "one")
	c.stdin.Close()
	c.exits(0)
	if err := <-got; err != io.EOF {
		t.Errorf("the end of stdin: the app saw %v", err)
	}
}

// A server that hangs doesn't keep the user: not before the session is open, and
// not at its end.
func TestConnectToAServerThatHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	url := "http://" + ln.Addr().String()

	c := connect(t, url)
	defer (<-accepted).Close()
	c.signal(os.Interrupt)
	c.exits(130)

	open := "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n" +
		`{"type":"open","version":1,"session":"a.b","transport":"single","heartbeat":0,"window":65536,"messages":64}` + "\n" +
		`{"type":"message","seq":1,"data":"open"}` + "\n"
	for n, want := range []int{1: 0, 2: 143} {
		if n == 0 {
			continue
		}
		c := connect(t, "--transport=single", "--codec=json", url)
		conn := <-accepted
		defer conn.Close()
		body := bufio.NewReader(conn)
		awaitText(t, body, `"type":"open"`)
		io.WriteString(conn, open)
		c.say("", "open")
		start := time.Now()
		for i := range n {
			if i > 0 {
				// The first one has been seen once its close is on the wire.
				awaitText(t, body, `"type":"close"`)
			}
			c.signal(syscall.SIGTERM)
		}
		c.exits(want)
		if took := time.Since(start); n > 1 && took >= stopGrace {
			t.Errorf("the second signal took %v", took)
		}
	}
}

// awaitText reads up to a line that has want in it.
func awaitText(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("expected %s: %v", want, err)
		}
		if strings.Contains(line, want) {
			return
		}
	}
}

func TestConnectTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(session.NewHandler(session.Echo, &session.Options{Log: slog.New(slog.DiscardHandler)}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	for want, args := range map[string][]string{
		"HTTP/2.0": {"-v", "--cacert", file},
		"HTTP/1.1": {"-v", "--cacert", file, "--http1"},
		"single":   {"-v", "--insecure"},
	} {
		c := connect(t, append(args, srv.URL)...)
		c.say("héllo", "héllo")
		c.stdin.Close()
		c.exits(0)
		if !strings.Contains(c.stderr.String(), want) {
			t.Errorf("expected %s in %s", want, c.stderr.String())
		}
	}
	c := connect(t, srv.URL)
	c.exits(exitUnavailable)
	if !strings.Contains(c.stderr.String(), "name its authority with --cacert") {
		t.Errorf("got %s", c.stderr.String())
	}
}
