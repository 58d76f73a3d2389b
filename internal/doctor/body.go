package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"tandem/internal/probe"
)

// A form is how a request body tells its length.
type form struct {
	name  string // "chunked"
	http2 bool
	open  int64 // the length of one that stays open: chunked or far beyond what is sent
	small int64 // of one that is sent to its end
}

// smallBody is the declared length of a body that is sent to its end, in bytes.
const smallBody = 4096

var (
	chunkedForm  = form{"chunked", false, chunked, chunked}
	declaredForm = form{"with a declared length", false, 1 << 40, smallBody}
	http2Form    = form{"over HTTP/2", true, 1 << 40, chunked}
)

// A passage is what one POST with an open body showed.
type passage struct {
	status  int           // the refusal's, or 0
	both    bool          // answers came while the body was open
	pulsed  bool          // but only as more was sent
	trip    time.Duration // from a piece of the body to its report
	streams bool          // pieces of the body reached the app as they were sent
	ended   bool          // the body's end was reported
	talk    *talk
}

// slowTrip is above what timers of TCP add when they don't go wrong.
const slowTrip = 100 * time.Millisecond

// pulse is how often an open body sends something that releases an answer.
const pulse = 20 * time.Millisecond

// pass sends a body in pieces, the next when the report of the last has come, or
// doesn't; then it ends the body and looks at when the app had what.
func (d *examination) pass(ctx context.Context, f form, patience int) passage {
	t := d.begin(ctx, probing{test: "body", length: f.small, http2: f.http2})
	defer t.end()
	p := passage{talk: t}
	rest := f.small
	var sent int64
	send := func(n int64) {
		t.send([]byte(strings.Repeat("\n", int(n))))
		sent += n
		rest -= n
	}
	reported := func(n int64) func(line) bool { return func(l line) bool { return l.Received >= n } }

	wait := d.patient(patience)
	send(64)
	first := time.Now()
	if t.wait(wait, reported(sent)) {
		p.both = true
	} else if !t.over {
		tick := time.NewTicker(pulse)
		mark := sent
		for until := time.Now().Add(wait); !t.over && !p.pulsed && time.Now().Before(until) && (rest > 64 || f.small < 0); {
			<-tick.C
			send(1)
			p.pulsed = t.wait(0, reported(mark)) || t.last().Received >= mark
		}
		tick.Stop()
	}
	if p.both {
		var trips []time.Duration
		for range 5 {
			start := time.Now()
			send(64)
			if !t.wait(wait, reported(sent)) {
				break
			}
			trips = append(trips, t.last().came.Sub(start))
		}
		if len(trips) > 0 {
			slices.Sort(trips)
			p.trip = trips[len(trips)/2]
		}
	} else if p.pulsed {
		p.trip = d.pulseTrip(t, send, &sent, &rest, f)
	}
	open := time.Since(first)
	if rest > 0 {
		send(rest)
	}
	t.endBody()
	p.ended = t.wait(5*d.patient(patience), func(l line) bool { return l.Event == probe.End })
	t.end()
	if t.other != nil {
		p.status = t.other.Status
	}
	p.streams = p.both || p.pulsed
	if reads := t.reads(); !p.streams && p.ended && len(reads) > 0 {
		// Between the first piece and the end lay a time that the app saw, or not.
		apart := time.Duration(t.last().At-reads[0].At) * time.Microsecond
		p.streams = apart > open/2
	}
	return p
}

// pulseTrip is how long a report takes while pulses release it.
func (d *examination) pulseTrip(t *talk, send func(int64), sent, rest *int64, f form) time.Duration {
	if f.small >= 0 && *rest < 256 {
		return 0
	}
	send(64)
	mark, start := *sent, time.Now()
	for time.Since(start) < 2*time.Second && (f.small < 0 || *rest > 64) {
		if t.wait(pulse, func(l line) bool { return l.Received >= mark }) {
			return t.last().came.Sub(start)
		}
		if t.over {
			break
		}
		send(1)
	}
	return 0
}

// reads are the lines that report a piece of the body.
func (t *talk) reads() (l []line) {
	for _, x := range t.lines {
		if x.Event == probe.Read {
			l = append(l, x)
		}
	}
	return l
}

func (d *examination) chunkedBody(ctx context.Context, patience int) Check {
	return d.passing(ctx, chunkedForm, patience)
}

func (d *examination) declaredBody(ctx context.Context, patience int) Check {
	return d.passing(ctx, declaredForm, patience)
}

func (d *examination) http2Body(ctx context.Context, patience int) Check {
	if !slices.Contains(d.path.Protocols, "HTTP/2.0") {
		return Check{Verdict: Note, Text: "not offered: browsers have only six connections to this server", symptoms: []seen{{NoHTTP2, ""}}}
	}
	return d.passing(ctx, http2Form, patience)
}

// passing judges a body in one form.
func (d *examination) passing(ctx context.Context, f form, patience int) Check {
	p := d.pass(ctx, f, patience)
	d.know(func(known *facts) {
		if known.single == nil {
			known.single, known.pulse, known.streams = make(map[string]bool), make(map[string]bool), make(map[string]bool)
		}
		known.single[f.name] = p.both
		known.pulse[f.name] = p.pulsed
		known.streams[f.name] = p.streams
	})
	switch {
	case p.status == http.StatusLengthRequired:
		if why := d.path.can(LengthRequired); why != "" {
			return Check{Verdict: Note, Text: "refused with 411: " + why}
		}
		return Check{Verdict: Fault, Text: "refused: " + p.talk.other.String(), symptoms: []seen{{LengthRequired, ""}}}
	case p.status == http.StatusRequestEntityTooLarge:
		return Check{Verdict: Fault, Text: "refused: " + p.talk.other.String(), symptoms: []seen{{TooLarge, ""}}}
	case p.status != 0 || !p.ended && !p.both:
		return d.broken(p.talk)
	case p.both && p.trip > slowTrip && p.trip > 8*d.roundTrip:
		text := fmt.Sprintf("both ways at once, but there and back takes %s, and a whole request %s", short(p.trip), short(d.roundTrip))
		return Check{Verdict: Fault, Text: text, symptoms: []seen{{Slow, ""}}}
	case p.both:
		return Check{Verdict: OK, Text: "both ways at once" + trip(p.trip)}
	case p.pulsed:
		text := "an answer comes when the next bytes are sent"
		if why := d.path.can(AnswerHeld); why != "" {
			return Check{Verdict: OK, Text: why + " (pulse)" + trip(p.trip)}
		}
		return Check{Verdict: Fault, Text: text, symptoms: []seen{{AnswerHeld, ""}}}
	case p.streams:
		text := "the body streams to the app, the answer is held until its end"
		if why := d.path.can(AnswerHeld); why != "" {
			return Check{Verdict: Note, Text: text + ": " + why}
		}
		return Check{Verdict: Fault, Text: text, symptoms: []seen{{AnswerHeld, ""}}}
	default:
		text := "the body is held until its end"
		if why := d.path.can(RequestHeld); why != "" {
			return Check{Verdict: Note, Text: text + ": " + why}
		}
		return Check{Verdict: Fault, Text: text, symptoms: []seen{{RequestHeld, ""}}}
	}
}

func trip(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(", there and back in %s", short(d))
}
