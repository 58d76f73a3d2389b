package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// A raw client speaks HTTP/1.1 by hand: it can fall silent, be cut, and break rules.
type raw struct {
	conn    net.Conn
	chunked bool
	pulse   bool // something must be sent for something to come
	got     []byte
}

// Bodies of a raw request.
const (
	declared = 1 << 40 // a length that never comes
	chunked  = -1
)

// dialRaw sends the head of a request with a body of that length.
func dialRaw(target, media string, length int64) (*raw, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	c := &raw{conn: conn, chunked: length == chunked}
	size := fmt.Sprint("Content-Length: ", length)
	if c.chunked {
		size = "Transfer-Encoding: chunked"
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%s\r\n\r\n", u.Path, u.Host, media, size); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *raw) send(body string) error {
	if c.chunked {
		body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
	}
	_, err := io.WriteString(c.conn, body)
	return err
}

// find reads until re matches what has come so far, and returns the match.
func (c *raw) find(re *regexp.Regexp) ([]string, error) {
	buf := make([]byte, 4<<10)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if m := re.FindStringSubmatch(string(c.got)); m != nil {
			return m, nil
		}
		c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := c.conn.Read(buf)
		c.got = append(c.got, buf[:n]...)
		switch {
		case n > 0:
		case !errors.Is(err, os.ErrDeadlineExceeded), time.Now().After(deadline):
			return nil, fmt.Errorf("expected %v, got %q and %w", re, c.got, err)
		case c.pulse:
			if err := c.send("\n"); err != nil {
				return nil, err
			}
		}
	}
}

// await is find that fails the test.
func (c *raw) await(t *testing.T, re *regexp.Regexp) []string {
	t.Helper()
	m, err := c.find(re)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var (
	pidsLine   = regexp.MustCompile(`pids (\d+) (\d+)`)
	closeFrame = regexp.MustCompile(`"type":"close".*\n`)
)

// pids reads the numbers that the programs of endEndpoints print.
func pids(match []string) (program, grandchild process, err error) {
	if match == nil {
		return program, grandchild, errors.New("expected a message with two process numbers")
	}
	var found [2]process
	for i := range found {
		pid, err := strconv.Atoi(match[1+i])
		if err != nil {
			return program, grandchild, err
		}
		var ok bool
		if found[i], ok = readProcess(pid); !ok {
			return program, grandchild, fmt.Errorf("expected process %d, there is none", pid)
		}
	}
	return found[0], found[1], nil
}
