package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"tandem/internal/gateway"
	"tandem/internal/probe"
)

// quietGone is how long an app that is left writes nothing.
const quietGone = 600 * time.Millisecond

// gone leaves a response, and asks by another request when the app learned of it.
func (d *examination) gone(ctx context.Context, patience int) Check {
	id := rand.Text()
	quiet := time.Duration(patience) * quietGone
	t := d.begin(ctx, probing{test: fmt.Sprintf("gone; id=%s; quiet=%d", id, quiet.Milliseconds())})
	came := t.wait(d.patient(patience), func(line) bool { return true })
	t.end()
	left := time.Now()
	if !came && t.other != nil {
		return d.broken(t)
	}
	var s probe.Seen
	_, err := d.ask(ctx, func(r *http.Request) { r.Header.Set(probe.Header, "seen; wait=4000; id="+id) }, &s)
	if err != nil {
		return Check{Verdict: Unknown, Text: "asking for it failed: " + clean(err.Error())}
	}
	after := max(time.Since(left)-time.Duration(s.Ago)*time.Microsecond, 0)
	c := Check{Verdict: OK, Text: fmt.Sprintf("the app learned it %s after the client had gone", short(after))}
	switch s.How {
	case probe.Closed, probe.Write:
		if late := after > quiet*3/4; late {
			c.Text += ", once it wrote"
			if len(d.path.Hops) == 1 && d.path.knows(GoneLate) {
				c.Verdict, c.symptoms = Note, []seen{{GoneLate, ""}}
			}
		}
	case probe.Unknown:
		c = Check{Verdict: Unknown, Text: "another process answered: there is nobody to ask"}
		if d.path.Interface == gateway.CGI {
			c.Text = "each request is a process of its own: there is nobody to ask"
		}
		return c
	default:
		c.Verdict, c.symptoms = Fault, []seen{{GoneUnnoticed, ""}}
		c.Text = fmt.Sprintf("the app did not learn it within %s: it goes on for nobody", short(time.Since(left)))
		if held := d.heldBack(); held && patience > 1 {
			c.Verdict, c.symptoms = Note, nil
			c.Text += "; what it writes is held back"
		}
	}
	return again(c, patience)
}
