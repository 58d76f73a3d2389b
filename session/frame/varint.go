package frame

import "encoding/binary"

// varintLen is the length in bytes of v as a QUIC varint (RFC 9000 section 16).
func varintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	}
	return 8
}

// appendVarint appends v, at most 2^62-1, in its shortest form. The two top
// bits of the first byte tell the length: 1, 2, 4 or 8 bytes.
func appendVarint(dst []byte, v uint64) []byte {
	switch varintLen(v) {
	case 1:
		return append(dst, byte(v))
	case 2:
		return binary.BigEndian.AppendUint16(dst, uint16(v)|1<<14)
	case 4:
		return binary.BigEndian.AppendUint32(dst, uint32(v)|2<<30)
	}
	return binary.BigEndian.AppendUint64(dst, v|3<<62)
}

// varint reads the varint at the start of p and returns it with its length; the
// length is 0 where p ends before the varint does. Longer forms than needed are
// read too, as in QUIC.
func varint(p []byte) (v uint64, n int) {
	if len(p) == 0 {
		return 0, 0
	}
	n = 1 << (p[0] >> 6)
	if len(p) < n {
		return 0, 0
	}
	v = uint64(p[0] & 0x3f)
	for _, b := range p[1:n] {
		v = v<<8 | uint64(b)
	}
	return v, n
}
