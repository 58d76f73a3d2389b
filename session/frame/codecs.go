package frame

import (
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The codecs of protocol version 1.
var (
	JSON   Codec = jsonCodec{}
	Binary Codec = binaryCodec{}
	Lines  Codec = linesCodec{}
)

// Codecs gives all codecs, the one for programs to prefer first.
func Codecs() []Codec { return []Codec{Binary, JSON, Lines} }

// ByName finds a codec by its short name.
func ByName(name string) (Codec, bool) {
	for _, c := range Codecs() {
		if c.Name() == name {
			return c, true
		}
	}
	return nil, false
}

// ByMediaType finds the codec for the value of a Content-Type header. No value
// at all is [Lines], which is what curl -T sends. A charset other than UTF-8
// or its subset US-ASCII has no codec; other parameters are ignored.
func ByMediaType(value string) (Codec, bool) {
	if strings.TrimSpace(value) == "" {
		return Lines, true
	}
	mediaType, params, err := mime.ParseMediaType(value)
	if err != nil {
		return nil, false
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
	default:
		return nil, false
	}
	switch mediaType {
	case jsonMediaType:
		return JSON, true
	case binaryMediaType:
		return Binary, true
	case linesMediaType:
		return Lines, true
	}
	return nil, false
}

// Cut tells how much of a message's data goes into its next fragment: at most
// MaxData bytes, and for text a whole number of runes.
func Cut(data []byte, text bool) int {
	if len(data) <= MaxData {
		return len(data)
	}
	if text {
		return cutRune(data, MaxData)
	}
	return MaxData
}

// CleanReason makes s fit for a close frame: valid UTF-8 of at most MaxReason
// bytes, cut between runes.
func CleanReason(s string) string {
	if len(s) > MaxReason {
		s = s[:cutRune(s, MaxReason)]
	}
	if utf8.ValidString(s) {
		return s
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError)) // which may make it longer
	if len(s) > MaxReason {
		s = s[:cutRune(s, MaxReason)]
	}
	return s
}

// cutRune is the last place in s, at or below n < len(s), where a rune starts.
// What is not UTF-8 is cut at n, so that there is always progress.
func cutRune[T string | []byte](s T, n int) int {
	for i := n; i > n-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return i
		}
	}
	return n
}

// check finds what must not go on the wire, so that no encoder makes a frame
// that its decoder refuses. Data that came from an app gets the code of what is
// wrong with it; the rest would be a fault of this program: CodeInternal.
func check(codec string, f *Frame) error {
	for _, v := range [...]uint64{f.Seq, f.Received, f.Window, f.Messages, f.Nonce, f.RetryMS, f.Version, f.Heartbeat, f.Grace, f.MaxMessage} {
		if v > MaxInt {
			return Errorf(CodeInternal, "%s: can't send a number above 2^53-1: got %d in a frame of type %s", codec, v, f.Type)
		}
	}
	switch f.Type {
	case TypeMessage:
		if f.Seq == 0 {
			return Errorf(CodeInternal, "%s: can't send a message without a seq: the first is 1", codec)
		}
		return checkData(codec, f)
	case TypeClose, TypeDetach:
		if !f.Code.Valid() {
			return Errorf(CodeInternal, "%s: can't send the code %d: expected %d to %d", codec, f.Code, minCode, maxCode)
		}
	case TypeOpen:
		if !utf8.ValidString(f.Session) || !utf8.ValidString(f.Transport) {
			return Errorf(CodeInternal, "%s: can't send an open frame with names that are not UTF-8", codec)
		}
	default:
		if f.Type > TypeDetach {
			return Errorf(CodeInternal, "%s: can't send a frame of the unknown type %d", codec, f.Type)
		}
	}
	return nil
}

// checkData is check for what a message fragment carries.
func checkData(codec string, f *Frame) error {
	if len(f.Data) > MaxData {
		return tooMuchData(codec, len(f.Data))
	}
	if f.Text && !utf8.Valid(f.Data) {
		return badText(codec, f.Data)
	}
	return nil
}

// The range of codes that a close or detach frame may carry.
const (
	minCode = 1000
	maxCode = 4999
)

func tooMuchData(codec string, n int) error {
	return Errorf(CodeTooBig, "%s: expected at most %d bytes of data in one message frame, got %d: send fragments with more set", codec, MaxData, n)
}

// badText names the first place that is not UTF-8.
func badText(codec string, data []byte) error {
	at := 0
	for at < len(data) {
		r, n := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return Errorf(CodeBadUTF8, "%s: expected UTF-8 text, got %s at byte %d: send it as a binary message", codec, clip(data[at:]), at)
}

// clip quotes the start of what came, for an error text.
func clip(p []byte) string {
	const most = 40
	if len(p) > most {
		return strconv.Quote(string(p[:most])) + "…"
	}
	return strconv.Quote(string(p))
}
