package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Framing is how messages are written to the program's stdin and found in its
// stdout.
type Framing string

const (
	// FramingLines: a message is a line, without its LF. Text that contains LF
	// does not fit. The default.
	FramingLines Framing = "lines"
	// FramingNetstring: a message is `length:data,`, the length in bytes and in
	// decimal. Carries every message; tells text from binary by looking for
	// valid UTF-8.
	FramingNetstring Framing = "netstring"
	// FramingJSON: a message is one JSON object on a line: {"data":"text"} or
	// {"data64":"base64"}. Carries every message and keeps text and binary apart.
	FramingJSON Framing = "json"
)

// Stderr is where the lines go that the program writes to stderr.
type Stderr string

const (
	StderrLog    Stderr = "log"    // to the session's log; the default
	StderrClient Stderr = "client" // to the client, as text messages
	StderrBoth   Stderr = "both"   // to both
)

// Options of an App. Only Command is needed.
type Options struct {
	// Command is the program and its arguments. The program is an absolute
	// path, or a name that is found in the child's PATH (see Path).
	Command []string
	// Dir is the folder the program starts in; empty: the server's own.
	Dir string
	// Env is added to the program's environment, as "NAME=value". It wins
	// over everything else that is there.
	Env []string
	// PassEnv names variables of the server's own environment that the program gets
	// as well, where they are set when New is called. In a CGI program that environment
	// comes from the request, so names that a request can set are refused.
	PassEnv []string
	// Framing is FramingLines unless set.
	Framing Framing
	// Stderr is StderrLog unless set.
	Stderr Stderr
	// MaxMessage is the largest message accepted from the program, in bytes;
	// 0: 1 MiB. Up to this much is held in memory for each session (six times as much with
	// FramingJSON, where a byte can take six).
	MaxMessage int64
	// StdinGrace is how long a program may go on after its stdin was closed
	// because the session ended, before SIGTERM; 0: 1 s, negative: no time.
	StdinGrace time.Duration
	// TermGrace is how long it may go on after SIGTERM, before SIGKILL; 0: 1 s,
	// negative: no time. In cgi-bin Apache kills Tandem 3 s after SIGTERM: both
	// graces together must stay below that, or a program can be left behind.
	TermGrace time.Duration
	// Limiter bounds the number of children; nil: no bound. Share one between
	// all Apps that the bound is meant for.
	Limiter *Limiter
}

// Path is the PATH that every program gets and is looked for in.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	defaultMaxMessage = 1 << 20
	defaultStdinGrace = time.Second
	defaultTermGrace  = time.Second // together below the 3 s after which Apache kills a CGI process
)

// An OptionError says which option New does not accept.
type OptionError struct {
	Key  string // the key in the configuration: "command", "dir", …
	Text string // what came, what was expected and what to do
}

func (e *OptionError) Error() string { return "program: " + e.Key + ": " + e.Text }

func optionErrorf(key, format string, args ...any) error {
	return &OptionError{Key: key, Text: fmt.Sprintf(format, args...)}
}

// complete checks o and returns a copy with the defaults filled in and the
// program's absolute path. The error is an *OptionError.
func (o Options) complete() (Options, string, error) {
	path, err := findCommand(o.Command)
	if err != nil {
		return o, "", err
	}
	if o.Dir != "" {
		if fi, err := os.Stat(o.Dir); err != nil {
			return o, "", optionErrorf("dir", "%v; name a folder that exists and that the server may enter", err)
		} else if !fi.IsDir() {
			return o, "", optionErrorf("dir", "%s is not a folder; name the folder the program starts in", o.Dir)
		}
	}
	for _, kv := range o.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || !validName(name) || strings.ContainsRune(kv, 0) {
			return o, "", optionErrorf("env", "%q is not NAME=value; a name consists of letters, digits and _, and no value contains a NUL byte", kv)
		}
	}
	for _, name := range o.PassEnv {
		if !validName(name) {
			return o, "", optionErrorf("pass_env", "%q is not a variable's name; a name consists of letters, digits and _", name)
		}
		if requestSets(name) {
			return o, "", optionErrorf("pass_env", "%s comes from the request in a CGI program; the program gets what is safe of it anyway, so remove it here", name)
		}
	}
	switch o.Framing {
	case "":
		o.Framing = FramingLines
	case FramingLines, FramingNetstring, FramingJSON:
	default:
		return o, "", optionErrorf("framing", `%q is not known; use "lines", "netstring" or "json"`, o.Framing)
	}
	switch o.Stderr {
	case "":
		o.Stderr = StderrLog
	case StderrLog, StderrClient, StderrBoth:
	default:
		return o, "", optionErrorf("stderr", `%q is not known; use "log", "client" or "both"`, o.Stderr)
	}
	const most = 1 << 30 // six times this is still a size a slice can have
	switch {
	case o.MaxMessage == 0:
		o.MaxMessage = defaultMaxMessage
	case o.MaxMessage < 0 || o.MaxMessage > most:
		return o, "", optionErrorf("max_message", "%d bytes; use a size from 1 byte to 1 GiB", o.MaxMessage)
	}
	o.StdinGrace = grace(o.StdinGrace, defaultStdinGrace)
	o.TermGrace = grace(o.TermGrace, defaultTermGrace)
	return o, path, nil
}

func grace(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return max(d, 0)
}

// findCommand returns the absolute path of the program. A relative path is
// refused because what it means depends on the folder the server was started in.
func findCommand(command []string) (string, error) {
	if len(command) == 0 || command[0] == "" {
		return "", optionErrorf("command", `names no program; expected a list such as ["/usr/bin/bc", "-q"]`)
	}
	for _, arg := range command {
		if strings.ContainsRune(arg, 0) {
			return "", optionErrorf("command", "%q contains a NUL byte, which no argument can", arg)
		}
	}
	name := command[0]
	if filepath.IsAbs(name) {
		return name, executable(name)
	}
	if strings.Contains(name, "/") {
		return "", optionErrorf("command", "%q is a relative path; write it from the root, with / first", name)
	}
	for dir := range strings.SplitSeq(Path, ":") {
		if path := filepath.Join(dir, name); executable(path) == nil {
			return path, nil
		}
	}
	return "", optionErrorf("command", "no executable %q in %s; install it, or write its path from the root", name, Path)
}

// executable reports why path can't be executed by this user, or nil. exec.LookPath
// asks the kernel (faccessat), so that it holds for root and for ACLs too.
func executable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return optionErrorf("command", "%v; name a program that exists", err)
	}
	if fi.IsDir() {
		return optionErrorf("command", "%s is a folder; name the program in it", path)
	}
	if _, err := exec.LookPath(path); err != nil {
		return optionErrorf("command", "%s is not executable for user id %d; chmod +x it, or put its interpreter first", path, os.Getuid())
	}
	return nil
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c == '_' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
