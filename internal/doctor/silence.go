package doctor

import (
	"context"
	"fmt"
	"time"

	"tandem/internal/probe"
)

// Silence is cut by time-outs; each check here is silent in one way and waits for that,
// as long as Options.Slow says.

// quietBody: the client sends nothing, the app does.
func (d *examination) quietBody(ctx context.Context, _ int) Check {
	return d.quiet(ctx, BodyTimeout, probing{test: d.until("every=1000"), length: d.openLength()}, 0)
}

// quietResponse: the app sends nothing, the client a byte a second.
func (d *examination) quietResponse(ctx context.Context, _ int) Check {
	return d.quiet(ctx, AnswerTimeout, probing{test: d.until("report=0"), length: d.openLength()}, time.Second)
}

// quietGET: the app sends nothing, the client can't.
func (d *examination) quietGET(ctx context.Context, _ int) Check {
	return d.quiet(ctx, AnswerTimeout, probing{test: fmt.Sprintf("stream; writes=1; quiet=%d", (d.options.Slow + time.Second).Milliseconds())}, 0)
}

// until is the probe of a body that lasts as long as is looked for time-outs.
func (d *examination) until(params string) string {
	return fmt.Sprintf("body; hold=%d; %s", (d.options.Slow + time.Second).Milliseconds(), params)
}

// openLength is the length of an open body that this way lets through.
func (d *examination) openLength() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range []form{declaredForm, chunkedForm} {
		if d.facts.single[f.name] || d.facts.pulse[f.name] {
			if f.open > 0 && d.facts.refused {
				return smallBody
			}
			return f.open
		}
	}
	return smallBody
}

// stayOpen tells whether sessions keep a body open on this way.
func (d *examination) stayOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range []map[string]bool{d.facts.single, d.facts.pulse} {
		for _, works := range m {
			if works {
				return true
			}
		}
	}
	return false
}

// attribute finds the side of what was cut. A client that sends little is cut like one
// that sends nothing; where the same app may be silent beside no body at all, it is the
// body.
func attribute(results []Check) []Check {
	body, response, get := results[0], &results[1], results[2]
	if len(body.symptoms) > 0 && len(response.symptoms) > 0 && len(get.symptoms) == 0 {
		response.symptoms = body.symptoms
		response.Text += "; it is the body, of which too little came"
	}
	return results
}

// quiet waits for a cut.
func (d *examination) quiet(ctx context.Context, s Symptom, p probing, every time.Duration) Check {
	t := d.begin(ctx, p)
	defer t.end()
	if p.length != 0 {
		t.send([]byte("\n"))
	}
	over := false
	done := func(l line) bool { over = l.Event == probe.Over || l.Event == probe.End; return over }
	until := t.started.Add(d.options.Slow)
	for !t.over && !over && time.Now().Before(until) {
		wait := time.Until(until)
		if every > 0 {
			wait = min(wait, every)
		}
		t.wait(wait, done)
		if every > 0 {
			t.send([]byte("\n"))
		}
	}
	cut := t.over && !over
	after := time.Since(t.started)
	t.end()
	if !cut {
		return Check{Verdict: OK, Text: fmt.Sprintf("not cut within %s", d.options.Slow)}
	}
	c := Check{Verdict: Note, certain: true, symptoms: []seen{{s, "cut after " + short(after)}}}
	how := "the connection was cut"
	if t.other != nil {
		how = t.other.String()
	}
	heartbeat := time.Duration(d.description.Heartbeat) * time.Millisecond
	c.Text = fmt.Sprintf("cut after %s (%s): ", short(after), how)
	switch {
	case p.length != 0 && !d.stayOpen():
		c.Text += "bodies don't stay open on this way anyhow, but for curl"
	case after < heartbeat*3/2:
		c.Verdict = Fault
		c.Text += fmt.Sprintf("sessions send something every %s", heartbeat)
	default:
		c.Text += fmt.Sprintf("harmless to clients with a heartbeat (every %s), not to curl", heartbeat)
	}
	return c
}
