package fcgi

// The records, both sides: their layout, and which of them a web server may send.
// Section numbers are those of the FastCGI specification 1.0.

import (
	"encoding/binary"
	"fmt"
)

// Record types (section 8).
const (
	typeBeginRequest    = 1
	typeAbortRequest    = 2
	typeEndRequest      = 3
	typeParams          = 4
	typeStdin           = 5
	typeStdout          = 6
	typeStderr          = 7
	typeData            = 8
	typeGetValues       = 9
	typeGetValuesResult = 10
	typeUnknownType     = 11
)

const (
	version1     = 1
	headerLen    = 8
	flagKeepConn = 1 // section 5.1
	maxContent   = 65535
)

// Roles (section 5.1); only the responder is served.
const roleResponder = 1

// Protocol statuses of END_REQUEST (section 5.5).
const (
	statusRequestComplete = 0
	statusOverloaded      = 2
	statusUnknownRole     = 3
)

// ProtocolError is a record that no web server may send. It ends its connection,
// since nothing behind it can be trusted to be a record.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "fcgi: malformed record: " + e.Reason }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{Reason: fmt.Sprintf(format, args...)}
}

// recordHeader is what stands before each record's content (section 3.3).
type recordHeader struct {
	version uint8
	typ     uint8
	id      uint16
	length  int
	padding int
}

// parseHeader reads the header at the start of b, which has headerLen bytes or more.
func parseHeader(b []byte) recordHeader {
	return recordHeader{
		version: b[0],
		typ:     b[1],
		id:      binary.BigEndian.Uint16(b[2:]),
		length:  int(binary.BigEndian.Uint16(b[4:])),
		padding: int(b[6]),
	}
}

// check says whether a web server may send a record with this header, whatever
// requests are open.
func (h recordHeader) check() error {
	if h.version != version1 {
		return protocolErrorf("version %d, expected 1: the peer doesn't speak FastCGI, or a record's length was wrong", h.version)
	}
	switch h.typ {
	case typeBeginRequest, typeAbortRequest, typeParams, typeStdin, typeData:
		if h.id == 0 {
			return protocolErrorf("type %d with request id 0, expected an id from 1 to 65535", h.typ)
		}
		if h.typ == typeBeginRequest && h.length != 8 {
			return protocolErrorf("BEGIN_REQUEST of %d bytes, expected 8", h.length)
		}
	case typeEndRequest, typeStdout, typeStderr, typeGetValuesResult, typeUnknownType:
		return protocolErrorf("type %d, which only the application sends", h.typ)
	}
	return nil
}

// appendRecord appends one record with at most maxContent bytes of content.
func appendRecord(dst []byte, typ uint8, id uint16, content []byte) []byte {
	start := len(dst)
	dst = append(dst, zeros[:headerLen]...)
	return sealRecord(append(dst, content...), start, typ, id)
}

// sealRecord makes a record of b from start on, which is room for the header and
// then the content: it fills in the header, and pads to 8 bytes as section 3.3 recommends.
func sealRecord(b []byte, start int, typ uint8, id uint16) []byte {
	length := len(b) - start - headerLen
	padding := -length & 7
	h := b[start : start+headerLen]
	h[0], h[1], h[6], h[7] = version1, typ, byte(padding), 0
	binary.BigEndian.PutUint16(h[2:], id)
	binary.BigEndian.PutUint16(h[4:], uint16(length))
	return append(b, zeros[:padding]...)
}

var zeros [8]byte

// endRequestLen is how many bytes appendEndRequest appends.
const endRequestLen = headerLen + 8

// appendEndRequest appends END_REQUEST (section 5.5).
func appendEndRequest(dst []byte, id uint16, appStatus uint32, protocolStatus uint8) []byte {
	content := [8]byte{4: protocolStatus}
	binary.BigEndian.PutUint32(content[:], appStatus)
	return appendRecord(dst, typeEndRequest, id, content[:])
}

// appendPair appends one name-value pair (section 3.4).
func appendPair(dst []byte, name, value string) []byte {
	dst = appendSize(dst, len(name))
	dst = appendSize(dst, len(value))
	dst = append(dst, name...)
	return append(dst, value...)
}

func appendSize(dst []byte, n int) []byte {
	if n <= 127 {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)|1<<31)
}

// parsePairs reads name-value pairs up to the end of b. A pair that b doesn't hold
// as a whole is an error; of equal names the last one holds, as in net/http/fcgi.
// The strings are pieces of one: who keeps one for long clones it.
func parsePairs(b []byte) (map[string]string, error) {
	all := string(b)
	pairs := make(map[string]string, usualPairs)
	for at := 0; at < len(b); {
		start := at
		name, at2, ok := parseSize(b, at)
		if !ok {
			return nil, fmt.Errorf("the pair at byte %d of %d is cut off in its name's length", start, len(b))
		}
		value, at3, ok := parseSize(b, at2)
		if !ok {
			return nil, fmt.Errorf("the pair at byte %d of %d is cut off in its value's length", start, len(b))
		}
		// In 64 bits: the two lengths may claim 2 GiB each.
		if left := int64(len(b) - at3); int64(name)+int64(value) > left {
			return nil, fmt.Errorf("the pair at byte %d claims a name of %d and a value of %d bytes, but %d are left", start, name, value, left)
		}
		at4 := at3 + int(name)
		at = at4 + int(value)
		pairs[all[at3:at4]] = all[at4:at]
	}
	return pairs, nil
}

// usualPairs is room for what web servers send with a request.
const usualPairs = 32

func parseSize(b []byte, at int) (size uint32, next int, ok bool) {
	if at >= len(b) {
		return 0, at, false
	}
	if b[at]&0x80 == 0 {
		return uint32(b[at]), at + 1, true
	}
	if len(b)-at < 4 {
		return 0, at, false
	}
	return binary.BigEndian.Uint32(b[at:]) &^ (1 << 31), at + 4, true
}
