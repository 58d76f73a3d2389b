package fcgi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestRecordBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"empty STDIN", appendRecord(nil, typeStdin, 1, nil), "01 05 0001 0000 00 00"},
		{"padded", appendRecord(nil, typeStdout, 0x0203, []byte("abc")), "01 06 0203 0003 05 00 616263 0000000000"},
		{"no padding needed", appendRecord(nil, typeStdout, 1, []byte("12345678")), "01 06 0001 0008 00 00 3132333435363738"},
		{"END_REQUEST", appendEndRequest(nil, 7, 1, statusOverloaded), "01 03 0007 0008 00 00 00000001 02 000000"},
		{"pair", appendPair(nil, "AB", "c"), "02 01 4142 63"},
		{"pair of a long value", appendPair(nil, "A", strings.Repeat("x", 128))[:6], "01 80000080 41"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(tt.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tt.got, want) {
			t.Errorf("%s: got % x, want % x", tt.name, tt.got, want)
		}
	}
}

func TestParseHeader(t *testing.T) {
	got := parseHeader([]byte{1, 4, 0x12, 0x34, 0xff, 0xfe, 9, 0})
	if want := (recordHeader{version: 1, typ: typeParams, id: 0x1234, length: 0xfffe, padding: 9}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHeaderCheck(t *testing.T) {
	for _, tt := range []struct {
		h  recordHeader
		ok bool
	}{
		{recordHeader{1, typeBeginRequest, 1, 8, 0}, true},
		{recordHeader{1, typeStdin, 65535, 65535, 255}, true},
		{recordHeader{1, typeGetValues, 0, 5, 0}, true},
		{recordHeader{1, 99, 0, 0, 0}, true}, // answered with UNKNOWN_TYPE
		{recordHeader{0, typeStdin, 1, 0, 0}, false},
		{recordHeader{2, typeStdin, 1, 0, 0}, false},
		{recordHeader{1, typeBeginRequest, 0, 8, 0}, false},
		{recordHeader{1, typeBeginRequest, 1, 7, 0}, false},
		{recordHeader{1, typeBeginRequest, 1, 9, 0}, false},
		{recordHeader{1, typeParams, 0, 0, 0}, false},
		{recordHeader{1, typeStdin, 0, 0, 0}, false},
		{recordHeader{1, typeAbortRequest, 0, 0, 0}, false},
		{recordHeader{1, typeData, 0, 0, 0}, false},
		{recordHeader{1, typeStdout, 1, 0, 0}, false},
		{recordHeader{1, typeStderr, 1, 0, 0}, false},
		{recordHeader{1, typeEndRequest, 1, 8, 0}, false},
		{recordHeader{1, typeGetValuesResult, 0, 0, 0}, false},
		{recordHeader{1, typeUnknownType, 0, 8, 0}, false},
	} {
		err := tt.h.check()
		var malformed *ProtocolError
		if tt.ok != (err == nil) || err != nil && !errors.As(err, &malformed) {
			t.Errorf("%+v: %v, want ok %v", tt.h, err, tt.ok)
		}
	}
}

func TestParsePairs(t *testing.T) {
	long := strings.Repeat("v", 300)
	for _, tt := range []struct {
		name string
		in   []byte
		want map[string]string // nil: an error
	}{
		{"none", nil, map[string]string{}},
		{"two", pairs("A", "1", "B", ""), map[string]string{"A": "1", "B": ""}},
		{"long", pairs("A", long), map[string]string{"A": long}},
		{"long form of a short length", []byte{0x80, 0, 0, 1, 1, 'A', 'b'}, map[string]string{"A": "b"}},
		{"empty name", pairs("", "x"), map[string]string{"": "x"}},
		{"same name twice", pairs("A", "1", "A", "2"), map[string]string{"A": "2"}},
		{"no value's length", []byte{1}, nil},
		{"half a name's length", []byte{0x80, 0, 0}, nil},
		{"half a value's length", []byte{1, 0x80, 0, 0}, nil},
		{"no value", append(pairs("A", "1"), 1, 1, 'B'), nil},
		{"lengths of 2 GiB", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'A'}, nil},
		{"a name of 2 GiB", []byte{0xff, 0xff, 0xff, 0xff, 1, 'A', 'b'}, nil},
	} {
		got, err := parsePairs(tt.in)
		if (err != nil) != (tt.want == nil) || err == nil && !maps.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

func TestParseAllowed(t *testing.T) {
	for in, want := range map[string]string{
		"": "[]", "  ": "[]", "127.0.0.1": "[127.0.0.1]", "127.0.0.1, ::1": "[127.0.0.1 ::1]",
		"localhost": "error", "127.0.0.1,": "error", ",": "error", "127.0.0.1:80": "error",
	} {
		addrs, err := ParseAllowed(in)
		got := "error"
		if err == nil {
			got = fmt.Sprint(addrs)
		}
		if got != want {
			t.Errorf("%q: got %s (%v), want %s", in, got, err, want)
		}
	}
}
