package program

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"tandem/session/frame"
)

// maxStderrLine is where a line of stderr is cut: what follows goes on as a
// line of its own. Nothing is dropped, nothing more is buffered.
const maxStderrLine = 16 << 10

// stderrDecoder takes lines of any length, in pieces of at most maxStderrLine
// bytes that don't cut a UTF-8 character.
type stderrDecoder struct{ scanned int }

func (d *stderrDecoder) decode(p []byte) (frame.Message, int, bool, error) {
	if i := bytes.IndexByte(p[d.scanned:], '\n'); i >= 0 && d.scanned+i <= maxStderrLine {
		i += d.scanned
		d.scanned = 0
		return message(p[:i]), i + 1, true, nil
	}
	if len(p) <= maxStderrLine {
		d.scanned = len(p)
		return frame.Message{}, 0, false, nil
	}
	d.scanned = 0
	n := maxStderrLine
	for back := 0; back < utf8.UTFMax && !utf8.RuneStart(p[n]); back++ {
		n--
	}
	return message(p[:n]), n, true, nil
}

func (d *stderrDecoder) eof(p []byte) (frame.Message, bool, error) {
	return message(p), len(p) > 0, nil
}

// emitStderr gives the function that takes each line of stderr.
//
// Back-pressure: it blocks while the log, or the client's window, does, and
// then the program blocks in its write to stderr. The client's failure is not the
// log's: with StderrBoth the log goes on when the session has ended.
func (a *App) emitStderr(r *relay) func(frame.Message) error {
	log := r.log()
	toLog := func(m frame.Message) {
		log.Info("program wrote to stderr", "line", strings.ToValidUTF8(string(m.Data), "\uFFFD"))
	}
	switch a.opt.Stderr {
	case StderrClient:
		return r.send
	case StderrBoth:
		var gone error
		return func(m frame.Message) error {
			toLog(m)
			if gone == nil {
				gone = r.send(m)
			}
			return nil
		}
	}
	return func(m frame.Message) error { toLog(m); return nil }
}
