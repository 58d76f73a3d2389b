package servertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Record types of the FastCGI specification, section 8.
const (
	typeEndRequest = 3
	typeParams     = 4
	typeStdin      = 5
	typeStdout     = 6
)

// A responder speaks FastCGI record by record, for what a library would hide.
type responder struct {
	*Server
	conns chan *fcgiConn
}

type fcgiConn struct {
	t       *testing.T
	conn    net.Conn
	params  map[string]string
	records chan record // closed at the connection's end
	err     error       // how it ended, once records is closed
}

type record struct {
	kind    byte
	content string
}

func (r record) String() string { return fmt.Sprintf("type %d %q", r.kind, r.content) }

func newResponder(t *testing.T, kind Kind) *responder {
	t.Helper()
	dir, err := makeDir("responder")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "fcgi.sock")
	ln := listenUnix(t, socket)
	r := &responder{conns: make(chan *fcgiConn, 10)}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c := &fcgiConn{conn: conn, records: make(chan record, 100)}
			r.conns <- c
			go c.follow()
		}
	}()
	r.Server = Start(t, kind, Config{Socket: socket})
	return r
}

func (c *fcgiConn) follow() {
	defer close(c.records)
	for {
		var head [8]byte
		if _, c.err = io.ReadFull(c.conn, head[:]); c.err != nil {
			return
		}
		length := int(binary.BigEndian.Uint16(head[4:]))
		content := make([]byte, length+int(head[6]))
		if _, c.err = io.ReadFull(c.conn, content); c.err != nil {
			return
		}
		c.records <- record{head[1], string(content[:length])}
	}
}

// next waits for a connection and takes its records up to the first of the body.
func (r *responder) next(t *testing.T) *fcgiConn {
	t.Helper()
	select {
	case c := <-r.conns:
		c.t = t
		t.Cleanup(func() { c.conn.Close() })
		params := ""
		for {
			got, ok := c.record()
			if !ok {
				t.Fatalf("responder: no request came: %v", c.err)
			}
			switch got.kind {
			case typeParams:
				params += got.content
			case typeStdin:
				c.params = decodeParams(params)
				return c
			}
		}
	case <-time.After(patience):
		t.Fatal("responder: nobody connects")
		return nil
	}
}

// decodeParams takes well-formed name-value pairs apart (section 3.4).
func decodeParams(s string) map[string]string {
	size := func() (n int) {
		if s[0] < 0x80 {
			n, s = int(s[0]), s[1:]
		} else {
			n, s = int(binary.BigEndian.Uint32([]byte(s))&0x7fffffff), s[4:]
		}
		return n
	}
	params := map[string]string{}
	for s != "" {
		name, value := size(), 0
		value = size()
		params[s[:name]] = s[name : name+value]
		s = s[name+value:]
	}
	return params
}

func (c *fcgiConn) record() (record, bool) {
	c.t.Helper()
	select {
	case r, ok := <-c.records:
		return r, ok
	case <-time.After(patience):
		c.t.Fatal("responder: no record comes, and the connection stays open")
		return record{}, false
	}
}

func (c *fcgiConn) write(kind byte, content string) {
	c.t.Helper()
	head := []byte{1, kind, 0, 1, byte(len(content) >> 8), byte(len(content)), 0, 0}
	if _, err := c.conn.Write(append(head, content...)); err != nil {
		c.t.Fatalf("responder: %v", err)
	}
}

// answer is a whole response: helloResponse.
func (c *fcgiConn) answer() {
	c.t.Helper()
	c.write(typeStdout, helloResponse)
	c.write(typeStdout, "")
	c.write(typeEndRequest, "\x00\x00\x00\x00\x00\x00\x00\x00")
}

// expectClosed checks that the server closes the connection, and says nothing first.
func (c *fcgiConn) expectClosed() {
	c.t.Helper()
	if r, ok := c.record(); ok {
		c.t.Fatalf("responder: got %v, expected that the server closes", r)
	}
	// Closing with bytes unread is a reset.
	var reset *net.OpError
	if c.err != io.EOF && !errors.As(c.err, &reset) {
		c.t.Fatalf("responder: connection ended by %v", c.err)
	}
}
