package session_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"tandem/fcgi"
	"tandem/session"
	"tandem/session/frame"
)

// BenchmarkEcho sends messages of 64 bytes through a session over FastCGI, as nginx
// passes them on, and gets them back: the server's whole way, the web server left
// out. An operation is one message in and out; the client allocates nothing.
func BenchmarkEcho(b *testing.B) {
	for _, codec := range frame.Codecs() {
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/deep-%d", codec.Name(), depth), func(b *testing.B) { benchEcho(b, codec, depth) })
		}
	}
}

func benchEcho(b *testing.B, codec frame.Codec, depth int) {
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	h := session.NewHandler(session.Echo, &session.Options{Log: slog.New(slog.DiscardHandler)})
	s := &fcgi.Server{Handler: h, Log: slog.New(slog.DiscardHandler)}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		s.Close()
		<-served
		h.Shutdown(b.Context())
	}()
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	c := &webServer{conn: nc, codec: codec, decoder: codec.NewDecoder(), in: make([]byte, 32<<10)}
	if err := c.open(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for sent, got := 0, 0; got < b.N; {
		n := min(depth-(sent-got), b.N-sent)
		if err := c.send(n); err != nil {
			b.Fatal(err)
		}
		sent += n
		n, err := c.receive()
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
}

// webServer is a web server's side of one FastCGI connection with one request, and
// the client behind it.
type webServer struct {
	conn    net.Conn
	codec   frame.Codec
	decoder frame.Decoder
	frame   frame.Frame // here, as it would be an allocation each time
	out, in []byte
	content []byte // of STDOUT, what of it was not taken yet
	record  []byte // what was read and not taken yet
	seq     uint64 // last message sent
	got     uint64 // last message that came
	told    uint64 // last message acked
	opened  bool
}

// FastCGI's numbers that a request needs (specification, section 8).
const (
	fcgiBegin  = 1
	fcgiParams = 4
	fcgiStdin  = 5
	fcgiStdout = 6
	fcgiHead   = 8
)

var benchMessage = []byte(strings.Repeat("0123456789abcdef", 4))

// beginRecord and endRecord write a record around content.
func beginRecord(b []byte, kind byte) []byte { return append(b, 1, kind, 0, 1, 0, 0, 0, 0) }

func endRecord(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start+4:], uint16(len(b)-start-fcgiHead))
	return b
}

func (c *webServer) open() error {
	b := append(beginRecord(nil, fcgiBegin), 0, 1, 0, 0, 0, 0, 0, 0)
	b = endRecord(b, 0)
	start := len(b)
	b = beginRecord(b, fcgiParams)
	for _, p := range [][2]string{
		{"GATEWAY_INTERFACE", "CGI/1.1"}, {"SERVER_SOFTWARE", "nginx/1.22.1"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"SERVER_NAME", "localhost"},
		{"SERVER_PORT", "80"}, {"REQUEST_METHOD", "POST"}, {"REQUEST_URI", "/"}, {"SCRIPT_NAME", "/"}, {"REMOTE_ADDR", "127.0.0.1"},
		{"CONTENT_TYPE", c.codec.MediaType()}, {"HTTP_HOST", "localhost"},
	} {
		b = append(b, byte(len(p[0])), byte(len(p[1])))
		b = append(append(b, p[0]...), p[1]...)
	}
	b = endRecord(b, start)
	b = beginRecord(b, fcgiParams)
	if !c.codec.Framed() { // nothing to say, and the header comes before any message
		if _, err := c.conn.Write(b); err != nil {
			return err
		}
		return c.read()
	}
	start = len(b)
	b, err := c.codec.Append(beginRecord(b, fcgiStdin), &frame.Frame{Type: frame.TypeOpen, Version: frame.Version, Window: 256 << 10, Messages: 1024, Heartbeat: 15000})
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(endRecord(b, start)); err != nil {
		return err
	}
	for !c.opened {
		if _, err := c.receive(); err != nil {
			return err
		}
	}
	return nil
}

// send sends messages, and an ack of what came, in one record.
func (c *webServer) send(n int) (err error) {
	b := beginRecord(c.out[:0], fcgiStdin)
	if c.got > c.told && c.codec.Framed() {
		c.told = c.got
		c.frame = frame.Frame{Type: frame.TypeAck, Received: c.got, Window: 256 << 10, Messages: 1024}
		if b, err = c.codec.Append(b, &c.frame); err != nil {
			return err
		}
	}
	for range n {
		c.seq++
		c.frame = frame.Frame{Type: frame.TypeMessage, Seq: c.seq, Data: benchMessage, Text: true}
		if b, err = c.codec.Append(b, &c.frame); err != nil {
			return err
		}
	}
	c.out = b
	_, err = c.conn.Write(endRecord(b, 0))
	return err
}

// receive takes what comes, and tells how many messages it was.
func (c *webServer) receive() (n int, err error) {
	opened := c.opened
	for n == 0 && c.opened == opened {
		if err := c.read(); err != nil {
			return n, err
		}
		used := 0
		for {
			size, err := c.decoder.Decode(c.content[used:], &c.frame)
			if err != nil {
				return n, err
			}
			if size == 0 {
				break
			}
			used += size
			switch c.frame.Type {
			case frame.TypeMessage:
				n++
				c.got++
			case frame.TypeOpen:
				c.opened = true
			}
		}
		c.content = c.content[:copy(c.content, c.content[used:])]
	}
	return n, nil
}

// read reads and takes the content out of STDOUT's records, the header out of the
// content.
func (c *webServer) read() error {
	n, err := c.conn.Read(c.in)
	if err != nil {
		return err
	}
	c.record = append(c.record, c.in[:n]...)
	used := 0
	for len(c.record)-used >= fcgiHead {
		head := c.record[used:]
		size := int(binary.BigEndian.Uint16(head[4:]))
		end := fcgiHead + size + int(head[6])
		if len(head) < end {
			break
		}
		if head[1] != fcgiStdout {
			return io.ErrUnexpectedEOF
		}
		content := head[fcgiHead : fcgiHead+size]
		if c.seq == 0 && !c.opened {
			if at := strings.Index(string(content), "\r\n\r\n"); at >= 0 {
				content = content[at+4:]
			}
		}
		c.content = append(c.content, content...)
		used += end
	}
	c.record = c.record[:copy(c.record, c.record[used:])]
	return nil
}
