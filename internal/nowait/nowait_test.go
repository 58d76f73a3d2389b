package nowait

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"
)

// A full pipe is no error and takes no time: what there is no room for is given back, and
// the blocking write goes on with it.
func TestWrite(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := Write(raw, []byte("first")); err != nil || len(rest) != 0 {
		t.Fatalf("an empty pipe gave back %d bytes, %v", len(rest), err)
	}
	data := bytes.Repeat([]byte("x"), 1<<20)
	rest, err := Write(raw, data)
	if err != nil || len(rest) == 0 || len(rest) == len(data) {
		t.Fatalf("a pipe smaller than the data gave back %d of %d bytes, %v; expected a part", len(rest), len(data), err)
	}
	if again, err := Write(raw, rest); err != nil || len(again) != len(rest) {
		t.Fatalf("a full pipe gave back %d of %d bytes, %v; expected all", len(again), len(rest), err)
	}
	r.Close()
	if _, err := Write(raw, rest); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("without a reader: %v; expected EPIPE", err)
	}
	w.Close()
	if _, err := Write(raw, rest); err == nil || errors.Is(err, syscall.EBADF) {
		t.Errorf("after Close: %v; expected the file's own error: its number may be another's by then", err)
	}
}
