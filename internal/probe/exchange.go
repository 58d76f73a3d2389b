package probe

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Line is one line of an answer.
type Line struct {
	At       int64  `json:"at"` // when it was written, µs since the request came
	Event    string `json:"event,omitempty"`
	Received int64  `json:"received,omitempty"` // bytes of the body until then
	Pad      string `json:"pad,omitempty"`
}

// Events of a line.
const (
	Start  = "start"  // the request is here
	Read   = "read"   // something of the body came
	Beat   = "beat"   // nothing came, it was asked to say so
	End    = "end"    // the body has ended; or all was written
	Lost   = "lost"   // the body broke off
	Over   = "over"   // the time asked for is over
	Enough = "enough" // a limit of the probe is reached
)

// exchange is one request and its answer.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
	ctx     context.Context
	start   time.Time
	numbers map[string]int
	words   map[string]string
	sent    int // bytes
}

// millis is the parameter key as a duration, or d where it isn't given.
func (x *exchange) millis(key string, d time.Duration) time.Duration {
	if n, ok := x.numbers[key]; ok {
		return time.Duration(n) * time.Millisecond
	}
	return d
}

// say sends a line of at least size bytes at once. It fails when the client is gone,
// or the answer has become too long.
func (x *exchange) say(event string, received int64, size int) error {
	l := Line{At: time.Since(x.start).Microseconds(), Event: event, Received: received}
	line, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if missing := size - len(line) - len(`,"pad":""`) - 1; missing > 0 {
		random := make([]byte, missing*3/4+1) // a compressor must not make little of it
		rand.Read(random)
		l.Pad = base64.RawURLEncoding.EncodeToString(random)[:missing]
		if line, err = json.Marshal(l); err != nil {
			return err
		}
	}
	line = append(line, '\n')
	if x.sent += len(line); x.sent > MaxResponse {
		return io.ErrShortWrite
	}
	if _, err := x.w.Write(line); err != nil {
		return err
	}
	return x.rc.Flush()
}

// pause waits. False: the client is gone, or the process stops.
func (h *Handler) pause(x *exchange, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.ctx.Done():
	case <-h.stop:
	}
	return false
}

// stream writes amounts that double what was written, one every step; after the last
// a pause, then the end. What a hop holds back comes late, together with what
// released it.
func (h *Handler) stream(x *exchange) {
	step := max(x.millis("step", 40*time.Millisecond), 10*time.Millisecond)
	writes, ok := x.numbers["writes"]
	if !ok {
		writes = 14
	}
	for i, size := 0, 32; i < writes; i++ {
		if x.say("", 0, size) != nil || !h.pause(x, step) {
			return
		}
		if i > 0 {
			size *= 2
		}
	}
	if h.pause(x, x.millis("quiet", 6*step)) {
		x.say(End, 0, 0) // an error here is the client's loss
	}
}

// body reads the request's body and reports each piece as it comes: from the start or
// after a pause; with a beat in between where asked to; until its end or for as
// long as asked to. hold=0 reads nothing.
func (h *Handler) body(x *exchange) {
	hold := x.millis("hold", MaxTime-time.Second)
	if x.say(Start, 0, 0) != nil || hold == 0 {
		return
	}
	over := time.NewTimer(hold)
	defer over.Stop()
	begin := time.NewTimer(x.millis("pause", 0))
	defer begin.Stop()
	var beat <-chan time.Time
	if every := x.millis("every", 0); every > 0 {
		t := time.NewTicker(max(every, 10*time.Millisecond))
		defer t.Stop()
		beat = t.C
	}
	report, told := x.numbers["report"]
	pieces := make(chan piece)
	done, ended := make(chan struct{}), make(chan struct{})
	started := false
	defer func() {
		close(done)
		if started {
			if x.rc.SetReadDeadline(time.Unix(1, 0)) != nil {
				x.r.Body.Close()
			}
			<-ended // no Read may run when the handler has returned
		}
	}()
	var received int64
	for {
		var event string
		select {
		case <-begin.C:
			started = true
			go func() {
				defer close(ended)
				x.read(pieces, done)
			}()
			continue
		case p := <-pieces:
			received += int64(p.n)
			switch {
			case p.err == io.EOF:
				event = End
			case p.err != nil:
				event = Lost
			case received >= MaxBody:
				event = Enough
			case told && report == 0:
				continue
			default:
				event = Read
			}
		case <-beat:
			event = Beat
		case <-over.C:
			event = Over
		case <-x.ctx.Done():
			return
		case <-h.stop:
			return
		}
		if x.say(event, received, 0) != nil || event != Read && event != Beat {
			return
		}
	}
}

// piece is what one Read of a body gave.
type piece struct {
	n   int
	err error
}

func (x *exchange) read(to chan<- piece, done <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		var p piece
		p.n, p.err = x.r.Body.Read(buf)
		if p.n > 0 && p.err != nil { // one after the other
			select {
			case to <- piece{n: p.n}:
			case <-done:
				return
			}
			p.n = 0
		}
		select {
		case to <- p:
		case <-done:
			return
		}
		if p.err != nil {
			return
		}
	}
}
