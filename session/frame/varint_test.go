package frame

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The samples of RFC 9000 appendix A.1, and both sides of each length's limit.
func TestVarint(t *testing.T) {
	for _, c := range []struct {
		wire string
		v    uint64
	}{
		{"c2197c5eff14e88c", 151288809941952652},
		{"9d7f3e7d", 494878333},
		{"7bbd", 15293},
		{"25", 37},
		{"00", 0},
		{"3f", 63},
		{"4040", 64},
		{"7fff", 16383},
		{"80004000", 16384},
		{"bfffffff", 1<<30 - 1},
		{"c000000040000000", 1 << 30},
		{"c01fffffffffffff", MaxInt},
		{"ffffffffffffffff", 1<<62 - 1},
	} {
		wire := unhex(t, c.wire)
		if got := appendVarint(nil, c.v); !bytes.Equal(got, wire) {
			t.Errorf("appendVarint(%d) = %x, expected %s", c.v, got, c.wire)
		}
		if got := varintLen(c.v); got != len(wire) {
			t.Errorf("varintLen(%d) = %d, expected %d", c.v, got, len(wire))
		}
		if v, n := varint(append(wire, 0xff)); v != c.v || n != len(wire) {
			t.Errorf("varint(%s) = %d, %d, expected %d, %d", c.wire, v, n, c.v, len(wire))
		}
		for i := range wire {
			if _, n := varint(wire[:i]); n != 0 {
				t.Errorf("varint of the first %d bytes of %s took %d, expected 0", i, c.wire, n)
			}
		}
	}
}

// RFC 9000 A.1 has one sample that is longer than needed, and allows it.
func TestVarintNotShortest(t *testing.T) {
	for wire, expected := range map[string]uint64{"4025": 37, "80000025": 37, "c000000000000000": 0} {
		if v, n := varint(unhex(t, wire)); v != expected || n != len(wire)/2 {
			t.Errorf("varint(%s) = %d, %d, expected %d, %d", wire, v, n, expected, len(wire)/2)
		}
	}
}
