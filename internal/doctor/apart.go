package doctor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tandem/session/flow"
	"tandem/session/frame"
)

// requestsMeet opens a session, whose program it never starts, with one request, and
// ends it with another: do they find the same process?
func (d *examination) requestsMeet(ctx context.Context, patience int) Check {
	transport := "split"
	if d.heldBack() || !slices.Contains(d.description.Transports, transport) {
		transport = "poll"
	}
	if !slices.Contains(d.description.Transports, transport) {
		return Check{Verdict: Unknown, Text: "not looked at: neither split nor poll can be used here"}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*d.patient(patience)+connectTimeout)
	defer cancel()
	resp, err := d.post(ctx, transport, "", 0, &frame.Frame{Type: frame.TypeOpen, Version: frame.Version, Transport: transport,
		Window: flow.InitialWindow, Messages: flow.InitialMessages, Hold: true})
	if err != nil {
		return Check{Verdict: Fault, Text: "no session opens: " + clean(err.Error())}
	}
	defer resp.Body.Close()
	var open frame.Frame
	line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
	if n, bad := frame.JSON.NewDecoder().Decode(line, &open); resp.StatusCode != http.StatusOK || err != nil || bad != nil || n == 0 || open.Session == "" {
		c := Check{Verdict: Fault, Text: fmt.Sprintf("no session opens: %s %s", resp.Status, detail(line))}
		if strings.Contains(c.Text, "state_dir") {
			c.symptoms = []seen{{SessionNotFound, resp.Status}}
		}
		return c
	}
	start := time.Now()
	for i, f := range []frame.Frame{{Type: frame.TypeEmpty}, {Type: frame.TypeClose, Code: frame.CodeNormal}} {
		second, err := d.post(ctx, transport, open.Session, i+1, &f)
		if err != nil {
			return Check{Verdict: Fault, Text: "the second request of a session failed: " + clean(err.Error())}
		}
		second.Body.Close()
		if second.StatusCode != http.StatusOK {
			return Check{Verdict: Fault, Text: fmt.Sprintf("the second request of a session does not find it: %s", second.Status), symptoms: []seen{{SessionNotFound, second.Status}}}
		}
	}
	d.know(func(f *facts) { f.meet = true })
	return Check{Verdict: OK, Text: fmt.Sprintf("a session's requests find each other (%s, %s a request)", transport, short(time.Since(start)/2))}
}

// detail is what a problem's body says to people.
func detail(body []byte) string {
	var problem struct{ Detail string }
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		return clean(problem.Detail)
	}
	return clean(string(body))
}

// post sends one frame as a whole body; session is empty for an opening.
func (d *examination) post(ctx context.Context, transport, session string, attempt int, f *frame.Frame) (*http.Response, error) {
	body, err := frame.JSON.Append(nil, f)
	if err != nil {
		return nil, err
	}
	r := d.request(ctx, http.MethodPost)
	r.Header.Set("Content-Type", frame.JSON.MediaType())
	r.Header.Set("Accept", frame.JSON.MediaType())
	r.Header.Set("Tandem-Transport", transport)
	if session != "" {
		r.Header.Set("Tandem-Session", session)
		r.Header.Set("Tandem-Attempt", strconv.Itoa(attempt))
	}
	sized, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sized.Header, sized.Host = r.Header, r.Host
	return d.transport(false).RoundTrip(sized)
}
