package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLinger: a client that is still sending when the response ends gets all of
// it, then the end of the connection.
func TestLinger(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Repeat("last words ", 50_000)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.Header().Set("Connection", "close")
		io.WriteString(w, words)
		rc.SetReadDeadline(time.Unix(1, 0)) // as a session does at its end
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(Linger(tcp)) }()
	defer func() { srv.Close(); <-served }()

	for range 20 {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		typed := make(chan struct{})
		go func() {
			defer close(typed)
			for {
				if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
					return
				}
			}
		}()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(got), "\r\n0\r\n\r\n") {
			t.Fatalf("expected the whole response and its end, got %d bytes that end with %q, and %v", len(got), got[max(0, len(got)-40):], err)
		}
		c.Close()
		<-typed
	}
}

// TestLingerCloses: Close wakes a Read at once, and the connection goes with the
// client's end of it.
func TestLingerCloses(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Linger(tcp)
	defer l.Close()
	client, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	start := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; err == nil || time.Since(start) > lingerTime/2 {
		t.Errorf("Read returned %v after %v, want an error at once", err, time.Since(start))
	}
	if err := c.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	client.SetDeadline(time.Now().Add(lingerTime / 2))
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the client read %d, %v; want EOF", n, err)
	}
	if _, err := client.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("what the client still sends is not taken in: %v", err)
	}
	client.Close()
	// The connection is closed now: a deadline can't be set any more.
	for c.SetReadDeadline(time.Time{}) == nil && time.Since(start) < lingerTime {
		time.Sleep(time.Millisecond) // between two looks
	}
	if err := c.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still there: %v", err)
	}
}
