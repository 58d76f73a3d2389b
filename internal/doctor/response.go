package doctor

import (
	"context"
	"fmt"
	"time"

	"tandem/internal/probe"
)

// holding is what a stream showed of a hop that holds back.
type holding struct {
	held  bool
	bytes int  // that had to come before the first were released, at most
	atEnd bool // it took the response's end
	first time.Duration
}

func (h holding) String() string {
	switch {
	case !h.held:
		return "nothing is held back"
	case h.atEnd:
		return "held until its end"
	default:
		return "held until up to " + size(h.bytes) + " are there"
	}
}

// aFew bytes are what compressors wait for before they look at what to do; buffers are
// larger.
const aFew = 256

// largestStart is what hops may pass on at once before they begin to hold back, in bytes.
const largestStart = 8 << 10

// symptom names what is held.
func (h holding) symptom() Symptom {
	if !h.atEnd && h.bytes <= aFew {
		return FirstHeld
	}
	return ResponseHeld
}

// measure finds out from a stream's lines what was held back: a line that came late,
// together with what was written later. The quickest line tells what is not late; a
// quarter of a step is for lines that come one after the other though released at once.
// Who holds back begins with the first bytes: what is late further on met a busy machine.
func measure(lines []line, step time.Duration) holding {
	if len(lines) == 0 {
		return holding{}
	}
	at := func(l line) time.Duration { return time.Duration(l.At) * time.Microsecond }
	began := lines[0].came.Add(-at(lines[0]))
	for _, l := range lines {
		if b := l.came.Add(-at(l)); b.Before(began) {
			began = b
		}
	}
	before := 0 // bytes that were in time
	for i, l := range lines {
		if late := l.came.Sub(began) - at(l); late < step*3/4 || l.Event == probe.End {
			before += l.size
			continue
		}
		if before > largestStart {
			break
		}
		h := holding{held: true}
		// The end was written a while after all else; now it came right after this.
		if n := len(lines) - 1; i < n && lines[n].Event == probe.End && lines[n].came.Sub(l.came) < (at(lines[n])-at(lines[n-1]))/2 {
			h.bytes, h.atEnd = total(lines[i:]), true
			return h
		}
		for _, later := range lines[i:] {
			if at(later) > l.came.Sub(began)+step/4 {
				break
			}
			h.bytes += later.size
		}
		return h
	}
	return holding{}
}

// alike tells whether two streams saw the same.
func (h holding) alike(other holding) bool {
	return h.held == other.held && h.atEnd == other.atEnd && h.bytes <= 4*other.bytes && other.bytes <= 4*h.bytes
}

// stream runs a probe of a response. Where it was seen to be held back before, the same
// must be seen twice: amounts are the hop's, delays the moment's.
func (d *examination) stream(ctx context.Context, patience int, p probing) (*talk, holding) {
	t, h := d.streamOnce(ctx, patience, p)
	d.mu.Lock()
	before := d.held[p.test+p.encoding]
	d.held[p.test+p.encoding] = h
	d.mu.Unlock()
	if patience > 1 && h.held && !h.alike(before) {
		if again, h2 := d.streamOnce(ctx, patience, p); !h2.alike(h) && !h2.alike(before) {
			return again, holding{first: h2.first}
		}
	}
	return t, h
}

func (d *examination) streamOnce(ctx context.Context, patience int, p probing) (*talk, holding) {
	step := min(max(40*time.Millisecond, 2*d.roundTrip), 400*time.Millisecond)
	if patience > 1 {
		step = max(step*2, 200*time.Millisecond) // a loaded machine makes pauses of 100 ms by itself
	}
	const writes = 14
	p.test = fmt.Sprintf("%s; step=%d; quiet=%d", p.test, step.Milliseconds(), 6*step.Milliseconds())
	t := d.begin(ctx, p)
	defer t.end()
	t.wait((writes+6)*step+5*d.patient(patience), never)
	h := measure(t.lines, step)
	if len(t.lines) > 0 {
		h.first = t.lines[0].came.Sub(t.started)
	}
	return t, h
}

// response: does a GET's response stream?
func (d *examination) response(ctx context.Context, patience int) Check {
	t, h := d.stream(ctx, patience, probing{test: "stream"})
	switch {
	case t.other != nil || t.err != nil || t.last().Event != probe.End:
		return d.broken(t)
	case h.held:
		if h.symptom() == FirstHeld {
			d.know(func(f *facts) { f.getStreams = true }) // frames add up to that soon
		}
		return Check{Verdict: Fault, Text: "the response is " + h.String(), symptoms: []seen{{h.symptom(), h.String()}}}
	}
	d.know(func(f *facts) { f.getStreams = true })
	return Check{Verdict: OK, Text: fmt.Sprintf("first byte after %s, then nothing is held back (%d writes, %s)", short(h.first), len(t.lines)-1, size(total(t.lines)))}
}

// accel: does it stream only because X-Accel-Buffering: no says so?
func (d *examination) accel(ctx context.Context, patience int) Check {
	t, h := d.stream(ctx, patience, probing{test: "stream; plain=1"})
	switch {
	case t.other != nil || t.err != nil || t.last().Event != probe.End:
		return d.broken(t)
	case h.held:
		return again(Check{Verdict: Note, Text: "without X-Accel-Buffering: no a response is " + h.String(), symptoms: []seen{{HeaderNeeded, ""}}}, patience)
	}
	return Check{Verdict: OK, Text: "streams without X-Accel-Buffering: no, too"}
}

// compression: is the response compressed for clients that allow it, and does that
// hold it back?
func (d *examination) compression(ctx context.Context, patience int) Check {
	t, h := d.stream(ctx, patience, probing{test: "stream", encoding: "gzip"})
	encoding := ""
	if t.header != nil {
		encoding = clean(t.header.Get("Content-Encoding"))
	}
	c := Check{Verdict: Note, Text: "compressed (" + encoding + ") for clients that allow it, as browsers do; nothing is held back", symptoms: []seen{{Compressed, ""}}}
	switch {
	case t.other != nil || t.err != nil || t.last().Event != probe.End:
		return d.broken(t)
	case encoding == "" || encoding == "identity":
		return Check{Verdict: OK, Text: "none, also for clients that allow it"}
	case h.held && d.heldBack() && patience == 1:
		c.again = true // what holds plain responses back may have been a busy moment
	case h.held && !(d.heldBack() && d.plainHeld(ctx, patience)):
		c.Verdict, c.Text = Fault, "compressed ("+encoding+") for clients that allow it, as browsers do, and "+h.String()
		c.symptoms[0].detail = h.String()
	}
	return c
}

// plainHeld tells whether a response that isn't compressed is held back, now.
func (d *examination) plainHeld(ctx context.Context, patience int) bool {
	_, h := d.streamOnce(ctx, patience, probing{test: "stream"})
	return h.held
}

// broken reports a probe that was not answered, or not to its end.
func (d *examination) broken(t *talk) Check {
	switch {
	case t.other != nil:
		return Check{Verdict: Fault, Text: "refused: " + t.other.String()}
	case t.changed != nil:
		return Check{Verdict: Fault, Text: clean(t.changed.Error())}
	case t.err != nil && !t.cut:
		return Check{Verdict: Fault, Text: "the response broke off: " + clean(t.err.Error())}
	case len(t.lines) == 0:
		return Check{Verdict: Fault, Text: fmt.Sprintf("no answer in %s", short(time.Since(t.started)))}
	case t.cut:
		return Check{Verdict: Fault, Text: fmt.Sprintf("the response did not end in %s", short(time.Since(t.started)))}
	default:
		return Check{Verdict: Fault, Text: fmt.Sprintf("the response ended too early, after %s", size(total(t.lines)))}
	}
}

func total(lines []line) (n int) {
	for _, l := range lines {
		n += l.size
	}
	return n
}

// size is a number of bytes for people.
func size(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return trim(float64(n)/(1<<10)) + " KiB"
	case n < 1<<30:
		return trim(float64(n)/(1<<20)) + " MiB"
	case n < 1<<40:
		return trim(float64(n)/(1<<30)) + " GiB"
	}
	return trim(float64(n)/(1<<40)) + " TiB"
}

func trim(f float64) string {
	if f >= 100 || f == float64(int(f)) {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

// short is a time for people.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", millis(d))
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", millis(d))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
