package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tandem/internal/bench"
	"tandem/session/frame"
)

// A start is one CGI request, or one session, timed from the process's or the
// connection's beginning.
type start struct {
	first time.Duration // until the first byte of the answer, or the session is open
	echo  time.Duration // until a message was back
}

// A starter makes such requests.
type starter struct {
	name string
	run  func(ctx context.Context) (start, error)
}

// A pair is two starters: the first is what the second is compared with.
type pair struct {
	name  string
	times int // as often as a CGI program
	both  [2]starter
}

const minimalName, tandemName = "minimal Go program", "Tandem"

// Names of pairs that goals speak of.
const (
	startApache  = "CGI program, through Apache's cgi-bin"
	startSession = "session, through nginx"
)

func (h *house) pairs(programs string) []pair {
	direct := func(name, program string) starter {
		return starter{name, func(ctx context.Context) (start, error) { return h.execute(ctx, filepath.Join(programs, program)) }}
	}
	host := strings.TrimPrefix(h.apache.URL, "http://")
	apache := func(name, program string) starter {
		return starter{name, func(ctx context.Context) (start, error) { return request(ctx, host, "/cgi-bin/"+program) }}
	}
	return []pair{
		{"CGI program, executed directly", 1, [2]starter{direct(minimalName, programMinimal), direct(tandemName, programTandem)}},
		{startApache, 1, [2]starter{apache(minimalName, programMinimal), apache(tandemName, programTandem)}},
		{startSession, 10, [2]starter{
			session("Go WebSocket", webSocket(h.nginx.host, "/websocket", buffer)),
			session("Tandem `binary`", wire(h.nginx.host, "/tandem", frame.Binary)),
		}},
	}
}

// session opens a session and has one message echoed.
func session(name string, open bench.Opener) starter {
	return starter{name, func(ctx context.Context) (s start, err error) {
		began := time.Now()
		c, err := open(ctx, 0)
		if err != nil {
			return s, err
		}
		s.first = time.Since(began)
		_, err = c.Send(1)
		if err == nil {
			_, err = c.Receive()
		}
		s.echo = time.Since(began)
		return s, errors.Join(err, c.Close())
	}}
}

// execute executes a program as a web server does, with one message as its body.
func (h *house) execute(ctx context.Context, program string) (start, error) {
	message := append(bytes.Clone(payload), '\n')
	stdin, body, err := os.Pipe()
	if err != nil {
		return start{}, err
	}
	defer stdin.Close()
	_, err = body.Write(message) // a pipe holds more than that
	if err := errors.Join(err, body.Close()); err != nil {
		return start{}, err
	}
	answer, stdout, err := os.Pipe()
	if err != nil {
		return start{}, err
	}
	defer answer.Close()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	cmd.Env = []string{
		"GATEWAY_INTERFACE=CGI/1.1", "SERVER_PROTOCOL=HTTP/1.1", "SERVER_NAME=localhost", "SERVER_PORT=80", "REQUEST_METHOD=POST",
		"SCRIPT_NAME=/cgi-bin/echo", "SCRIPT_FILENAME=" + program, "REQUEST_URI=/cgi-bin/echo", "REMOTE_ADDR=127.0.0.1",
		"CONTENT_TYPE=text/plain", fmt.Sprintf("CONTENT_LENGTH=%d", len(message)), "HTTP_HOST=localhost",
		"PATH=/usr/bin:/bin", "TANDEM_CONFIG=" + h.cgiFile,
	}
	began := time.Now()
	err = cmd.Start()
	stdout.Close()
	if err != nil {
		return start{}, err
	}
	answer.SetDeadline(began.Add(bench.Patience))
	s, err := timeAnswer(answer, began, "")
	if err != nil {
		cmd.Process.Kill()
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return start{}, fmt.Errorf("%s as a CGI program: %w; it said: %s", program, err, stderr.Bytes())
	}
	return s, nil
}

// request sends a web server one message to a program in its cgi-bin, over a new
// connection.
func request(ctx context.Context, host, path string) (start, error) {
	began := time.Now()
	conn, err := (&net.Dialer{Timeout: bench.Patience}).DialContext(ctx, "tcp", host)
	if err != nil {
		return start{}, err
	}
	defer conn.Close()
	conn.SetDeadline(began.Add(bench.Patience))
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s\n",
		path, host, len(payload)+1, payload)
	if err != nil {
		return start{}, err
	}
	return timeAnswer(conn, began, "HTTP/1.1 200 ")
}

// timeAnswer reads an answer, which must begin with prefix and contain the message,
// to its end.
func timeAnswer(from io.Reader, began time.Time, prefix string) (s start, err error) {
	var got []byte
	buf := make([]byte, 4<<10)
	for err == nil {
		var n int
		n, err = from.Read(buf)
		got = append(got, buf[:n]...)
		if n > 0 && s.first == 0 {
			s.first = time.Since(began)
		}
		if n > 0 && s.echo == 0 && bytes.Contains(got, payload) {
			s.echo = time.Since(began)
		}
	}
	if err != io.EOF {
		return s, err
	}
	if s.echo == 0 || !bytes.HasPrefix(got, []byte(prefix)) {
		return s, fmt.Errorf("expected an answer with the message in it, got %.500q", got)
	}
	return s, nil
}
