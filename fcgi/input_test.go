package fcgi

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// unixPair returns the two ends of a connection.
func unixPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fcgi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

func TestInput(t *testing.T) {
	pipe := func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() }
	for name, pair := range map[string]func(*testing.T) (net.Conn, net.Conn){"socket": unixPair, "pipe": pipe} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := pair(t)
			defer theirs.Close()
			go func() {
				for _, s := range []string{"abc", "defgh", "ij", "k"} {
					_, _ = ours.Write([]byte(s))
				}
				ours.Close()
			}()
			in := newInput(theirs)
			if b, err := in.peek(4); string(b) != "abcd" || err != nil {
				t.Fatalf("peek: %q, %v", b, err)
			}
			if err := in.skip(6); err != nil {
				t.Fatal(err)
			}
			if b, err := in.next(1); string(b) != "g" || err != nil {
				t.Errorf("next: %q, %v", b, err)
			}
			if b, err := in.peek(9); string(b) != "hijk" || err != io.EOF {
				t.Errorf("peek beyond the end: %q, %v", b, err)
			}
			if err := in.skip(5); err != io.EOF {
				t.Errorf("skip beyond the end: %v", err)
			}
		})
	}
}

// Who waits for a socket holds no buffer.
func TestInputHoldsNoBuffer(t *testing.T) {
	ours, theirs := unixPair(t)
	in := newInput(theirs)
	if _, err := ours.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := in.next(10); string(b) != "x" || err != nil {
		t.Fatalf("next: %q, %v", b, err)
	}
	// It tries to read and waits, for as long as the deadline lets it.
	_ = theirs.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := in.next(10); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("next: %v", err)
	}
	if in.buf != nil {
		t.Error("it holds a buffer")
	}
}
