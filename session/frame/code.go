package frame

import (
	"fmt"
	"strconv"
)

// Code says why a session, or one attach of it, ended. Where an IANA WebSocket
// close code fits (RFC 6455 section 7.4.1 and its registry) it is that number.
type Code uint16

// The termination codes of protocol version 1.
const (
	CodeNormal        Code = 1000 // the app or the client was done
	CodeGoingAway     Code = 1001 // the client, or the page it was in, went away
	CodeProtocol      Code = 1002 // a frame that the protocol does not allow
	CodeUnsupported   Code = 1003 // a message that the codec or the app's framing can't carry
	CodeBadUTF8       Code = 1007 // text that is not UTF-8
	CodePolicy        Code = 1008 // a window or a limit was overrun
	CodeTooBig        Code = 1009 // a frame or message above the size limit
	CodeInternal      Code = 1011 // the app failed
	CodeRestart       Code = 1012 // the server stops or restarts
	CodeOverloaded    Code = 1013 // the server can't take this session now
	CodeProgramExited Code = 4000 // the program exited, its status is in the reason
	CodeHeartbeat     Code = 4001 // the peer was silent for 2.5 heartbeats, or its transport was lost
	CodeTooSlow       Code = 4002 // the peer read too slowly
	CodeExpired       Code = 4003 // the session's life or idle limit is over
	CodeReplaced      Code = 4004 // another attach took this one's place (detach)
)

// Retry is what a client does after a code.
type Retry uint8

const (
	RetryNever Retry = iota // the same would happen again, or all is done
	RetryNow                // reconnect at once
	RetryLater              // reconnect after retry_ms, with jitter
)

// codes is the one table of termination codes: name, what the client does
// next, and the exit status of command line clients.
var codes = map[Code]struct {
	name  string
	retry Retry
	exit  int
}{
	CodeNormal:        {"normal", RetryNever, 0},
	CodeGoingAway:     {"going away", RetryNever, 0},
	CodeProtocol:      {"protocol error", RetryNever, 65},
	CodeUnsupported:   {"unsupported data", RetryNever, 65},
	CodeBadUTF8:       {"invalid UTF-8", RetryNever, 65},
	CodePolicy:        {"policy violation", RetryNever, 77},
	CodeTooBig:        {"message too big", RetryNever, 65},
	CodeInternal:      {"internal error", RetryLater, 70},
	CodeRestart:       {"restart", RetryLater, 75},
	CodeOverloaded:    {"overloaded", RetryLater, 75},
	CodeProgramExited: {"program exited", RetryNever, 1},
	CodeHeartbeat:     {"connection lost", RetryNow, 74},
	CodeTooSlow:       {"too slow", RetryLater, 75},
	CodeExpired:       {"expired", RetryLater, 75},
	CodeReplaced:      {"replaced", RetryNever, 75},
}

// String gives the code's name, such as "policy violation".
func (c Code) String() string {
	if e, ok := codes[c]; ok {
		return e.name
	}
	return "code " + strconv.Itoa(int(c))
}

// Known tells whether c is one of the protocol's.
func (c Code) Known() bool {
	_, ok := codes[c]
	return ok
}

// Valid tells whether a close frame may carry c.
func (c Code) Valid() bool { return minCode <= c && c <= maxCode }

// Retry tells what a client does after c. Unknown codes are not retried.
func (c Code) Retry() Retry { return codes[c].retry }

// ExitStatus is the exit status of a command line client whose session ended
// with c: 0 for a normal end, sysexits(3) numbers where they fit, else 1.
func (c Code) ExitStatus() int {
	if e, ok := codes[c]; ok {
		return e.exit
	}
	return 1
}

// CloseError is the termination of a session. Compare with errors.As.
type CloseError struct {
	Code   Code
	Reason string // for people, at most 1,024 bytes of UTF-8
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("tandem: session closed: %d %s", uint16(e.Code), e.Code)
	}
	return fmt.Sprintf("tandem: session closed: %d %s: %s", uint16(e.Code), e.Code, e.Reason)
}

// Errorf makes a CloseError; the codecs and the flow control report every
// violation with it, so that the code to close with travels with the error.
func Errorf(code Code, format string, args ...any) *CloseError {
	return &CloseError{Code: code, Reason: fmt.Sprintf(format, args...)}
}
