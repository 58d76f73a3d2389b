// Package frame is the wire of Tandem: the frames of protocol version 1, the
// termination codes, and the codecs that turn frames into bytes and back.
//
// Start with [Codecs], or [ByMediaType], then [Codec].NewDecoder and
// [Codec].Append. Nothing here reads, writes, waits or keeps state beyond one
// partly received line: sequence numbers, windows and acks are package flow's.
//
// See docs/protocol.md sections 2 and 3.
package frame

// Version is the protocol version that this package speaks.
const Version = 1

// Limits of the wire. A frame beyond them is CodeTooBig.
const (
	// MaxData is the largest payload of one message frame, in bytes; a larger
	// message goes as several fragments.
	MaxData = 16 << 10
	// MaxLine is the longest encoded frame that a decoder accepts, in bytes: a
	// full fragment with every byte escaped as \u00XX, and room for fields to come.
	MaxLine = 128 << 10
	// MaxReason is the longest close reason, in bytes; longer ones are cut.
	MaxReason = 1024
	// MaxInt is the largest number in any field: 2^53-1, what JSON carries
	// between languages without loss.
	MaxInt = 1<<53 - 1
)

// Type is the frame's type; the values are those of the binary codec.
type Type uint8

const (
	TypeEmpty   Type = iota // keeps a path open, carries nothing
	TypeOpen                // first frame of each attach, each way
	TypeStart               // the app starts now
	TypeMessage             // one fragment of a message
	TypeAck                 // what was taken in, and the window
	TypePing
	TypePong
	TypeEnd    // end of input: the last seq of this direction
	TypeClose  // termination of the session
	TypeDetach // end of this attach, the session goes on
)

var typeNames = [...]string{"empty", "open", "start", "message", "ack", "ping", "pong", "end", "close", "detach"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}

// Frame is one unit on the wire. Which fields count depends on Type; the
// others are zero.
type Frame struct {
	Type Type

	// Seq of a message fragment, from 1 in each direction; of end and close: the
	// last seq sent before it.
	Seq  uint64
	Data []byte // message: at most MaxData bytes; aliases the decoder's input
	Text bool   // message: Data is UTF-8 text, not binary
	More bool   // message: the message goes on in the next fragment

	Received uint64 // ack: all up to this seq was taken in
	Window   uint64 // ack, open: bytes that may be un-acked beyond Received
	Messages uint64 // ack, open: fragments that may be un-acked beyond Received

	Nonce uint64 // ping, pong

	Code    Code   // close, detach
	Reason  string // close
	RetryMS uint64 // close, detach: milliseconds to wait before coming back

	// open
	Version    uint64
	Session    string // the session's id, from the server
	Transport  string // "single", "pulse", …; the server's is binding
	Heartbeat  uint64 // promise: sends something at least that often, in ms; 0: no promise
	Grace      uint64 // from the server: how long the session waits to be resumed, in ms; 0: it can't be
	MaxMessage uint64 // largest message accepted, in bytes; 0: not told
	Hold       bool   // "start": false: the app waits for a start frame
}

// Cost is what a message fragment counts for in the window, in bytes.
func Cost(data int) int { return data + 32 }

// A Codec is an encoding of frames. Codecs have no state and are safe for
// concurrent use.
type Codec interface {
	// Name is the short name: "json", "binary" or "lines".
	Name() string
	// MediaType is the Content-Type of bodies in this codec.
	MediaType() string
	// Append appends the encoded frame to dst. Frames that the codec has no
	// form for (all but message in lines) append nothing. The error is a
	// *CloseError: CodeUnsupported for a message that the codec can't carry,
	// CodeTooBig for one above MaxData.
	Append(dst []byte, f *Frame) ([]byte, error)
	// NewDecoder returns a decoder for one body.
	NewDecoder() Decoder
	// Framed tells whether the codec carries more than messages: seq, acks,
	// end, close. False for lines, whose end of body is the end of input.
	Framed() bool
}

// A Decoder takes frames from the bytes of one body. It is not safe for
// concurrent use. After an error it must not be used again.
type Decoder interface {
	// Decode decodes the first frame of p into f (overwriting all of it) and
	// returns how many bytes it took. Zero bytes and no error: p holds no whole
	// frame yet; call again with p and what follows it. f.Data is valid until p
	// changes or Decode is called again. Frames of unknown type are skipped inside:
	// they come back as TypeEmpty. The error is a *CloseError.
	Decode(p []byte, f *Frame) (n int, err error)
	// EOF is called once at the end of the body with the bytes that Decode left.
	// It reports whether they made a last frame (an unterminated last line); a
	// framed codec answers io.ErrUnexpectedEOF where p is not empty.
	EOF(p []byte, f *Frame) (ok bool, err error)
}
