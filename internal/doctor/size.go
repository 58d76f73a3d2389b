package doctor

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"tandem/internal/probe"
)

// Between 1<<least and 1<<most bytes the limit is looked for. Clients declare the
// largest first.
const (
	least = 10
	most  = 40
)

// lengthLimit finds the largest length that may be declared, without sending as much.
func (d *examination) lengthLimit(ctx context.Context, patience int) Check {
	status, a := d.declare(ctx, 1<<most, patience)
	switch {
	case status == 0:
		return Check{Verdict: OK, Text: size(1<<most) + " may be declared"}
	case status != http.StatusRequestEntityTooLarge:
		return Check{Verdict: Fault, Text: "a declared length of " + size(1<<most) + " is refused: " + a.String(), symptoms: []seen{{UploadRefused, a.String()}}}
	}
	taken := func(length int64) bool {
		status, _ := d.declare(ctx, length, patience)
		return status != http.StatusRequestEntityTooLarge
	}
	low, high := least, most // the exponents first, then the rest to a hundredth
	for high-low > 1 && ctx.Err() == nil {
		if middle := (low + high) / 2; taken(1 << middle) {
			low = middle
		} else {
			high = middle
		}
	}
	limit, refused := int64(1)<<low, int64(1)<<high
	for refused-limit > limit/100 && ctx.Err() == nil {
		if middle := (limit + refused) / 2; taken(middle) {
			limit = middle
		} else {
			refused = middle
		}
	}
	d.know(func(f *facts) { f.refused = true })
	c := Check{Verdict: Fault, Text: fmt.Sprintf("a body may have about %s, more is refused with 413", size(int(limit))),
		symptoms: []seen{{TooLarge, "refused at about " + size(int(limit))}}}
	if patience > 1 && !d.stayOpen() && limit > 1<<29 {
		return Check{Verdict: OK, Text: fmt.Sprintf("about %s may be declared: enough where bodies don't stay open", size(int(limit)))}
	}
	return c
}

// declare sends the beginning of a body of that length. It returns the status of a
// refusal, 0 where none comes.
func (d *examination) declare(ctx context.Context, length int64, patience int) (int, *answer) {
	t := d.begin(ctx, probing{test: "body; hold=0", length: length})
	defer t.end()
	t.send([]byte("\n"))
	t.wait(d.patient(patience), func(line) bool { return true })
	t.end()
	if t.other == nil {
		return 0, nil
	}
	return t.other.Status, t.other
}

// uploadSize is above the limits that servers have by default, window what sessions
// have on the way at most.
const (
	uploadSize = 1<<20 + 1<<16
	window     = 64 << 10
)

// upload sends as sessions do, window by window, while the app pauses at first: does
// all of it arrive? Where the server can't show a report while the body is open it sends
// on all the same. Not where it could: nginx stalls bursts, too (docs/servers.md trap 1).
func (d *examination) upload(ctx context.Context, patience int) Check {
	t := d.begin(ctx, probing{test: fmt.Sprintf("body; pause=300; hold=%d", (30 * time.Second).Milliseconds()), length: uploadSize})
	defer t.end()
	piece := bytes.Repeat([]byte("\n"), window)
	stalled := max(3*d.patient(patience), time.Second)
	silent := 300*time.Millisecond + d.patient(patience)
	burst := d.path.can(AnswerHeld) != "" && !slices.ContainsFunc(d.path.Hops, func(h Hop) bool { return h.Family == "nginx" })
	reports := true // come while the body is open
	for sent := int64(0); !t.over; {
		if sent < uploadSize {
			t.send(piece)
			sent += window
		}
		if sent == uploadSize {
			t.endBody()
			break
		}
		if !reports || t.over || t.progress(silent, sent) {
			continue
		}
		if t.last().Received > 0 {
			break // it was going well so far
		}
		if reports = false; !burst {
			return Check{Verdict: Unknown, Text: "not looked at, as nothing answers while a body is open"}
		}
	}
	ended := func(l line) bool { return l.Event == probe.End }
	for progress := t.written.Load(); !t.over && !t.wait(stalled, ended); {
		now := t.written.Load() + t.last().Received
		if now == progress {
			break
		}
		progress = now
	}
	took := time.Since(t.started)
	t.end()
	arrived := t.last().Received
	switch {
	case t.last().Event == probe.End && arrived == uploadSize:
		return Check{Verdict: OK, Text: fmt.Sprintf("%s arrived, after a pause of the app, in %s", size(uploadSize), short(took))}
	case t.other != nil && t.other.Status == http.StatusRequestEntityTooLarge:
		return Check{Verdict: Fault, certain: true, Text: size(uploadSize) + " are refused: " + t.other.String(), symptoms: []seen{{TooLarge, ""}}}
	case t.other != nil:
		return Check{Verdict: Fault, Text: size(uploadSize) + " are refused: " + t.other.String(), symptoms: []seen{{UploadRefused, t.other.String()}}}
	case t.cut && arrived < uploadSize:
		return Check{Verdict: Fault, Text: fmt.Sprintf("the upload stalled: %s arrived, then no more", size(int(arrived))), symptoms: []seen{{UploadStalled, ""}}}
	default:
		return d.broken(t)
	}
}

// progress waits until the app has reported n bytes, as long as each silence is shorter
// than pause.
func (t *talk) progress(pause time.Duration, n int64) bool {
	for {
		before := t.last().Received
		if t.wait(pause, func(l line) bool { return l.Received >= n }) {
			return true
		}
		if t.over || t.last().Received == before {
			return false
		}
	}
}
