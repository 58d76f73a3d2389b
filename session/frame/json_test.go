package frame

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// Lines as Append writes them, and as Decode reads them.
var jsonTable = []struct {
	wire  string
	frame Frame
}{
	{"\n", Frame{}},
	{`{"type":"open","version":1,"heartbeat":15000,"window":65536,"messages":64}` + "\n",
		Frame{Type: TypeOpen, Version: 1, Heartbeat: 15000, Window: 65536, Messages: 64}},
	{`{"type":"open","version":1,"session":"o.\"1","transport":"single","heartbeat":0,"window":0,"messages":0,"max_message":1048576,"start":false}` + "\n",
		Frame{Type: TypeOpen, Version: 1, Session: `o."1`, Transport: "single", MaxMessage: 1 << 20, Hold: true}},
	{`{"type":"start"}` + "\n", Frame{Type: TypeStart}},
	{`{"type":"message","seq":1,"data":""}` + "\n", Frame{Type: TypeMessage, Seq: 1, Text: true}},
	{`{"type":"message","seq":9007199254740991,"data":"hello, wörld 😀"}` + "\n",
		Frame{Type: TypeMessage, Seq: MaxInt, Data: []byte("hello, wörld 😀"), Text: true}},
	{`{"type":"message","seq":2,"data":"\"\\/\n\r\t\u0000\u001f` + "\x7f\u2028" + `","more":true}` + "\n",
		Frame{Type: TypeMessage, Seq: 2, Data: []byte("\"\\/\n\r\t\x00\x1f\x7f\u2028"), Text: true, More: true}},
	{`{"type":"message","seq":3,"data64":""}` + "\n", Frame{Type: TypeMessage, Seq: 3}},
	{`{"type":"message","seq":3,"data64":"/wA=","more":true}` + "\n", Frame{Type: TypeMessage, Seq: 3, Data: []byte{0xff, 0}, More: true}},
	{`{"type":"ack","received":7,"window":65536,"messages":64}` + "\n", Frame{Type: TypeAck, Received: 7, Window: 65536, Messages: 64}},
	{`{"type":"ping","nonce":5}` + "\n", Frame{Type: TypePing, Nonce: 5}},
	{`{"type":"pong","nonce":0}` + "\n", Frame{Type: TypePong}},
	{`{"type":"end","seq":9}` + "\n", Frame{Type: TypeEnd, Seq: 9}},
	{`{"type":"close","seq":9,"code":1000}` + "\n", Frame{Type: TypeClose, Seq: 9, Code: CodeNormal}},
	{`{"type":"close","seq":0,"code":1012,"reason":"back \"soon\"","retry_ms":250}` + "\n",
		Frame{Type: TypeClose, Code: CodeRestart, Reason: `back "soon"`, RetryMS: 250}},
	{`{"type":"detach","code":4004}` + "\n", Frame{Type: TypeDetach, Code: CodeReplaced}},
	{`{"type":"detach","code":1012,"retry_ms":1}` + "\n", Frame{Type: TypeDetach, Code: CodeRestart, RetryMS: 1}},
}

func TestJSON(t *testing.T) {
	var all []byte
	var expected body
	for _, c := range jsonTable {
		got, err := JSON.Append(nil, &c.frame)
		if err != nil || string(got) != c.wire {
			t.Errorf("Append(%v) = %q, %v, expected %q", c.frame, got, err, c.wire)
		}
		all = append(all, c.wire...)
		expected.frames = append(expected.frames, c.frame)
	}
	sameBody(t, "at once", decodeAll(t, JSON, all, len(all)), expected)
	sameBody(t, "byte by byte", decodeAll(t, JSON, all, 1), expected)
}

// Lines that other programs write.
func TestJSONReads(t *testing.T) {
	text := func(s string) Frame { return Frame{Type: TypeMessage, Seq: 1, Data: []byte(s), Text: true} }
	full := strings.Repeat(`\u0041`, MaxData)
	for wire, expected := range map[string]Frame{
		"\r": {},
		`{"type": "message", "seq": 1, "data": "x"}`:                                  text("x"),
		` {"data":"x","type":"message","seq":1} ` + "\r":                              text("x"),
		`{"type": "message", "seq": 1, "data": "\ud83d\ude00\\ud800"}`:                text(`😀\ud800`),
		`{"type":"message","seq":1}`:                                                  text(""),
		`{"type":"message","seq":1,"data":"x","more":false,"shiny":{"new":[1,null]}}`: text("x"),
		`{"type":"message","seq":1,"data":"\u00e9\uD83D\ude00\/\b\f\ufffd"}`:          text("é😀/\b\f\uFFFD"),
		`{"type":"message","seq":1,"data":"` + full + `"}`:                            text(strings.Repeat("A", MaxData)),
		`{"typ\u0065":"m\u0065ssage","seq":1,"data":"x"}`:                             text("x"),
		`{"type":"message","seq":1,"data64":"\/wA="}`:                                 {Type: TypeMessage, Seq: 1, Data: []byte{0xff, 0}},
		`{"type":"message","Seq":2,"seq":1,"DATA":5}`:                                 text(""),
		`{"type":"message","seq":2,"seq":1}`:                                          text(""),
		`{"type":"hologram","seq":-1}`:                                                {},
		`{"type":"empty"}`:                                                            {},
		`{"type":"unknown"}`:                                                          {},
		`{"type":"open"}`:                                                             {Type: TypeOpen},
		`{"type":"open","start":true}`:                                                {Type: TypeOpen},
		`{"type":"open","start":false}`:                                               {Type: TypeOpen, Hold: true},
		`{"type":"ping"}`:                                                             {Type: TypePing},
		`{"type":"close","code":4999}`:                                                {Type: TypeClose, Code: 4999},
		`{"type":"close","code":1000,"reason":"` + strings.Repeat("é", 600) + `"}`:    {Type: TypeClose, Code: 1000, Reason: strings.Repeat("é", 512)},
	} {
		sameBody(t, wire[:min(len(wire), 80)], decodeAll(t, JSON, []byte(wire+"\n"), len(wire)+1), body{frames: []Frame{expected}})
	}
}

// badJSON has a line of each kind of malformed input, with the code to close
// with.
func badJSON() map[string]Code {
	bad := map[string]Code{
		` `:                                CodeProtocol, // white space is no empty frame
		`x`:                                CodeProtocol,
		`{`:                                CodeProtocol,
		`[]`:                               CodeProtocol,
		`null`:                             CodeProtocol,
		`"type"`:                           CodeProtocol,
		`{}`:                               CodeProtocol,
		`{"type":1}`:                       CodeProtocol,
		`{"type":null}`:                    CodeProtocol,
		`{"Type":"start"}`:                 CodeProtocol,
		`{"type":"start"}{"type":"start"}`: CodeProtocol,
		`{"type":"message","seq":1,"data":"x"} x`:                    CodeProtocol,
		`{"type":"ack","received":1,"window":2,"messages":3}}`:       CodeProtocol,
		`{"type":"message","seq":0,"data":"x"}`:                      CodeProtocol,
		`{"type":"start"} x`:                                         CodeProtocol,
		"\uFEFF" + `{"type":"start"}`:                                CodeProtocol,
		`{"type":"message","data":"x"}`:                              CodeProtocol, // no seq
		`{"type":"message","seq":0}`:                                 CodeProtocol,
		`{"type":"message","seq":1,"data":5}`:                        CodeProtocol,
		`{"type":"message","seq":1,"data":null}`:                     CodeProtocol,
		`{"type":"message","seq":1,"data64":7}`:                      CodeProtocol,
		`{"type":"message","seq":1,"data":"","data64":""}`:           CodeProtocol,
		`{"type":"message","seq":1,"data":"x","more":1}`:             CodeProtocol,
		`{"type":"message","seq":1,"data":"x","more":"true"}`:        CodeProtocol,
		`{"type":"message","seq":1,"data":"` + "\x01" + `"}`:         CodeProtocol,
		`{"type":"message","seq":1,"data":"\x"}`:                     CodeProtocol,
		`{"type":"message","seq":1,"data":"\u12g4"}`:                 CodeProtocol,
		`{"type":"message","seq":1,"data":"x`:                        CodeProtocol,
		`{"type":"message","seq":1,"data":"\`:                        CodeProtocol,
		`{"type":"message","seq":1,"data64":"%%%%"}`:                 CodeProtocol,
		`{"type":"message","seq":1,"data64":"/wA"}`:                  CodeProtocol, // no padding
		`{"type":"message","seq":1,"data64":"/wB="}`:                 CodeProtocol, // bits left over
		`{"type":"message","seq":1,"data64":"/w\nA="}`:               CodeProtocol,
		`{"type":"message","seq":1,"data64":"_wA="}`:                 CodeProtocol, // the URL alphabet
		`{"type":"ack","received":1,"window":1}`:                     CodeProtocol,
		`{"type":"ack","window":1,"messages":1}`:                     CodeProtocol,
		`{"type":"end"}`:                                             CodeProtocol,
		`{"type":"close"}`:                                           CodeProtocol,
		`{"type":"close","code":999}`:                                CodeProtocol,
		`{"type":"close","code":5000}`:                               CodeProtocol,
		`{"type":"close","code":66536}`:                              CodeProtocol, // 1000 + 65536
		`{"type":"close","code":1000,"reason":5}`:                    CodeProtocol,
		`{"type":"detach"}`:                                          CodeProtocol,
		`{"type":"open","start":"false"}`:                            CodeProtocol,
		`{"type":"open","session":1}`:                                CodeProtocol,
		`{"type":"message","seq":1,"data":"` + "\xff" + `"}`:         CodeBadUTF8,
		`{"type":"start","x":"` + "\xc3" + `"}`:                      CodeBadUTF8,
		"\xff\xfe":                                                   CodeBadUTF8,
		`{"type":"message","seq":1,"data":"` + "\xed\xa0\x80" + `"}`: CodeBadUTF8, // a surrogate as such
		`{"type":"message","seq":1,"data":"\ud800"}`:                 CodeBadUTF8,
		`{"type":"message","seq":1,"data":"\udc00\ud800"}`:           CodeBadUTF8,
		`{"type":"message","seq":1,"data":"\ud800\u0041"}`:           CodeBadUTF8,
		`{"type":"message","seq":1,"data":"\\\ud800\\udc00"}`:        CodeBadUTF8,
		`{"type":"start","\uDFFF":1}`:                                CodeBadUTF8,

		`{"type":"message","seq":1,"data":"` + strings.Repeat("x", MaxData+1) + `"}`:                                        CodeTooBig,
		`{"type":"message","seq":1,"data":"` + strings.Repeat(`\n`, MaxData+1) + `"}`:                                       CodeTooBig,
		`{"type":"message","seq":1,"data64":"` + base64.StdEncoding.EncodeToString(make([]byte, MaxData+1)) + `"}`:          CodeTooBig,
		`{"type":"message","seq":1,"data64":"` + base64.StdEncoding.EncodeToString(make([]byte, MaxData+3)) + `","more":5}`: CodeProtocol,
		strings.Repeat(" ", MaxLine+1): CodeTooBig,
	}
	for _, number := range []string{"-1", "-0", "1.0", "1e3", "01", `"1"`, "null", "true", "[1]", "9007199254740992", "18446744073709551617", "1" + strings.Repeat("0", 400)} {
		bad[fmt.Sprintf(`{"type":"message","seq":%s,"data":"x"}`, number)] = CodeProtocol
		bad[fmt.Sprintf(`{"type":"ack","received":%s,"window":1,"messages":1}`, number)] = CodeProtocol
		bad[fmt.Sprintf(`{"type":"ping","nonce":%s}`, number)] = CodeProtocol
		bad[fmt.Sprintf(`{"type":"open","max_message":%s}`, number)] = CodeProtocol
	}
	return bad
}

func TestJSONRefuses(t *testing.T) {
	for line, code := range badJSON() {
		wire := []byte(line + "\n")
		for _, step := range []int{1, len(wire)} {
			b := decodeAll(t, JSON, wire, step)
			if codeOf(b.err) != code || len(b.frames) > 0 {
				t.Errorf("%.100q, %d bytes at a time: got %v, %v, expected code %d", line, step, b.frames, b.err, code)
			}
		}
	}
}

// The longest line passes; one byte more is refused before its LF has come.
func TestJSONLineLimit(t *testing.T) {
	line := `{"type":"start"}`
	line += strings.Repeat(" ", MaxLine-len(line))
	sameBody(t, "longest", decodeAll(t, JSON, []byte(line+"\n"), 1000), body{frames: []Frame{{Type: TypeStart}}})
	if n, err := JSON.NewDecoder().Decode([]byte(line), new(Frame)); n != 0 || err != nil {
		t.Errorf("longest line without LF: got %d, %v, expected to wait", n, err)
	}
	if _, err := JSON.NewDecoder().Decode([]byte(line+" "), new(Frame)); codeOf(err) != CodeTooBig {
		t.Errorf("line of MaxLine+1 bytes without LF: got %v, expected code 1009", err)
	}
}

// The usual lines do take the short way.
func TestJSONFastIsTaken(t *testing.T) {
	for line, expected := range map[string]bool{
		`{"type":"message","seq":1,"data":"x"}`:                  true,
		`{"type":"message","seq":1,"data":"x\"\u00e9y"}`:         true,
		`{"type":"message","seq":1,"data64":"AA==","more":true}`: true,
		`{"type":"ack","received":1,"window":2,"messages":3}`:    true,
		`{"type":"open","window":1,"version":1,"start":true}`:    true,
		`{"type":"open","version":1,"session":"\u00e9"}`:         true,
		`{"type":"open","version":1,"new":2}`:                    false,
		`{"type":"open","version":01}`:                           false,
		`{"type":"open","version":1,}`:                           false,
		`{"type":"message","seq":1}`:                             false,
		`{"type":"start"}`:                                       false,
	} {
		if got := decodeFast([]byte(line), new(Frame)); got != expected {
			t.Errorf("decodeFast(%s) = %v, expected %v", line, got, expected)
		}
	}
}

func TestPlain(t *testing.T) {
	for b := range 256 {
		special := b < ' ' || b == '"' || b == '\\'
		for at := range 20 {
			s := []byte(strings.Repeat("\u00ffx", 7))[:20]
			s[at] = byte(b)
			expected := len(s)
			if special {
				expected = at
			}
			if got := plain(s); got != expected {
				t.Fatalf("plain(%q) = %d, expected %d", s, got, expected)
			}
		}
	}
}
