package frame

import (
	"encoding/hex"
	"strings"
	"testing"
)

func hexOf(s string) string { return hex.EncodeToString([]byte(s)) }

// Frames as Append writes them, in hex, and as Decode reads them.
var binaryTable = []struct {
	wire  string
	frame Frame
}{
	{"0000", Frame{}},
	{"0138" + hexOf(`{"version":1,"heartbeat":0,"window":65536,"messages":64}`),
		Frame{Type: TypeOpen, Version: 1, Window: 65536, Messages: 64}},
	{"0200", Frame{Type: TypeStart}},
	{"030201" + "00", Frame{Type: TypeMessage, Seq: 1}},
	{"030401" + "01" + hexOf("hi"), Frame{Type: TypeMessage, Seq: 1, Data: []byte("hi"), Text: true}},
	{"0305" + "4040" + "02" + "ff00", Frame{Type: TypeMessage, Seq: 64, Data: []byte{0xff, 0}, More: true}},
	{"030a" + "c01fffffffffffff" + "03" + hexOf("x"), Frame{Type: TypeMessage, Seq: MaxInt, Data: []byte("x"), Text: true, More: true}},
	{"0407" + "07" + "80010000" + "4040", Frame{Type: TypeAck, Received: 7, Window: 65536, Messages: 64}},
	{"0501" + "05", Frame{Type: TypePing, Nonce: 5}},
	{"0602" + "4100", Frame{Type: TypePong, Nonce: 256}},
	{"0701" + "09", Frame{Type: TypeEnd, Seq: 9}},
	{"0804" + "09" + "43e8" + "00", Frame{Type: TypeClose, Seq: 9, Code: CodeNormal}},
	{"0809" + "00" + "43f4" + "40fa" + hexOf("soon"), Frame{Type: TypeClose, Code: CodeRestart, Reason: "soon", RetryMS: 250}},
	{"0903" + "4fa4" + "00", Frame{Type: TypeDetach, Code: CodeReplaced}},
}

func TestBinary(t *testing.T) {
	var all []byte
	var expected body
	for _, c := range binaryTable {
		got, err := Binary.Append(nil, &c.frame)
		if err != nil || hex.EncodeToString(got) != c.wire {
			t.Errorf("Append(%v) = %x, %v, expected %s", c.frame, got, err, c.wire)
		}
		all = append(all, unhex(t, c.wire)...)
		expected.frames = append(expected.frames, c.frame)
	}
	sameBody(t, "at once", decodeAll(t, Binary, all, len(all)), expected)
	sameBody(t, "byte by byte", decodeAll(t, Binary, all, 1), expected)
}

// Frames that other and later programs write.
func TestBinaryReads(t *testing.T) {
	for wire, expected := range map[string]Frame{
		"000161":                          {}, // an empty frame with something in it
		"02c000000000000001ff":            {Type: TypeStart},
		"038000000440010061":              {Type: TypeMessage, Seq: 1, Data: []byte("a")}, // long varints
		"0404010203ff":                    {Type: TypeAck, Received: 1, Window: 2, Messages: 3},
		"05020500":                        {Type: TypePing, Nonce: 5},
		"07020900":                        {Type: TypeEnd, Seq: 9},
		"09044fa400ff":                    {Type: TypeDetach, Code: CodeReplaced},
		"0a00":                            {}, // types to come
		"ff02ffff":                        {},
		"0102" + hexOf("{}"):              {Type: TypeOpen},
		"010f" + hexOf(`{"start":false}`): {Type: TypeOpen, Hold: true},
		"0117" + hexOf(`{"type":5,"version":2 }`):                       {Type: TypeOpen, Version: 2},
		"0a80010000" + strings.Repeat("00", 64<<10):                     {},
		"008000" + "4040" + strings.Repeat("00", maxPayload):            {},
		"038000" + "4002" + "01" + "00" + strings.Repeat("00", MaxData): {Type: TypeMessage, Seq: 1, Data: make([]byte, MaxData)},
	} {
		sameBody(t, wire[:min(len(wire), 80)], decodeAll(t, Binary, unhex(t, wire), len(wire)), body{frames: []Frame{expected}})
	}
}

// badBinary has a frame of each kind of malformed input, in hex, with the code
// to close with.
func badBinary() map[string]Code {
	return map[string]Code{
		"0300":                           CodeProtocol, // nothing
		"030140":                         CodeProtocol, // half a seq
		"030101":                         CodeProtocol, // no flags
		"03020000":                       CodeProtocol, // seq 0
		"03020104":                       CodeProtocol, // unknown flags
		"03020180":                       CodeProtocol,
		"0309c02000000000000000":         CodeProtocol, // seq 2^53
		"0309ffffffffffffffff00":         CodeProtocol,
		"04020101":                       CodeProtocol, // no messages
		"040a0101c020000000000000":       CodeProtocol, // messages 2^53
		"0500":                           CodeProtocol,
		"0600":                           CodeProtocol,
		"0508c020000000000000":           CodeProtocol,
		"0700":                           CodeProtocol,
		"080100":                         CodeProtocol, // no code
		"08030043e8":                     CodeProtocol, // no retry_ms
		"08040043e700":                   CodeProtocol, // code 999
		"0804005388" + "00":              CodeProtocol, // code 5000
		"0806008001" + "03e8" + "00":     CodeProtocol, // code 1000 + 65536
		"090143":                         CodeProtocol,
		"09024fa4":                       CodeProtocol,
		"0100":                           CodeProtocol,
		"0101" + hexOf("["):              CodeProtocol,
		"0104" + hexOf("null"):           CodeProtocol,
		"0104" + hexOf("{} x"):           CodeProtocol,
		"010e" + hexOf(`{"window":-12}`): CodeProtocol,
		"030301" + "01" + "c3":           CodeBadUTF8,
		"030301" + "03" + "80":           CodeBadUTF8, // each fragment is text by itself
		"0806" + "0043e800" + "61ff":     CodeBadUTF8,
		"0110" + hexOf(`{"session":"`) + "ff" + hexOf(`" }`): CodeBadUTF8,

		"0380004041":         CodeTooBig, // refused before the payload comes
		"0080004041":         CodeTooBig,
		"09ffffffffffffffff": CodeTooBig,
		"0a80010001":         CodeTooBig,
		"ffffffffffffffffff": CodeTooBig,
		"0380004003" + "0100" + strings.Repeat("00", MaxData+1): CodeTooBig,
	}
}

func TestBinaryRefuses(t *testing.T) {
	for wire, code := range badBinary() {
		p := unhex(t, wire)
		for _, step := range []int{1, len(p)} {
			b := decodeAll(t, Binary, p, step)
			if codeOf(b.err) != code || len(b.frames) > 0 {
				t.Errorf("%.80s, %d bytes at a time: got %v, %v, expected code %d", wire, step, b.frames, b.err, code)
			}
		}
	}
}
