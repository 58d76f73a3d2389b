package doctor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"tandem/internal/probe"
	"tandem/session/frame"
)

// description is what the doctor needs of an endpoint's description.
type description struct {
	Version    int
	Transports []string
	Interface  string
	Software   string
	Heartbeat  int64 // ms
	Streamed   bool  `json:"streamed_upload"` // split may send in one long request
}

// reach asks for the endpoint's description. False: there is no endpoint here that
// could be examined; the report says what is.
func (d *examination) reach(ctx context.Context) bool {
	start := time.Now()
	var desc description
	resp, err := d.ask(ctx, nil, &desc)
	c := Check{Name: "endpoint", Took: time.Since(start), Verdict: OK, certain: true}
	answer := other(err)
	if err == nil && desc.Version == 0 {
		answer = notJSON(resp)
	}
	switch {
	case answer != nil:
		a := classify(d.url, answer)
		c.Verdict, c.Text = Fault, a.text
		d.report.Findings = append(d.report.Findings, a.finding)
	case err != nil:
		a := d.unreachable(err)
		c.Verdict, c.Text = Fault, a.text
		d.report.Findings = append(d.report.Findings, a.finding)
	case desc.Version != frame.Version:
		c.Verdict, c.Text = Fault, fmt.Sprintf("Tandem is there, but speaks version %d of the protocol; this one speaks %d", desc.Version, frame.Version)
		d.report.Findings = append(d.report.Findings, Finding{Verdict: Fault, Hop: "Tandem", Why: c.Text + ".", Where: "use the doctor and the client of that version"})
	default:
		d.description = &desc
		c.Text = "Tandem, transports " + strings.Join(desc.Transports, ", ")
		if len(desc.Transports) == 0 {
			c.Text = "Tandem, which knows of no transport behind this web server"
		}
	}
	d.add(c)
	return d.description != nil
}

// notJSON is an answer that is some JSON, but not what was asked for.
func notJSON(r reply) *answer { return &answer{r.StatusCode, r.Header, ""} }

// sessionHeaders are the fields of requests that sessions need, with values that
// mean nothing. (Not Tandem-Session: the probe is not asked with it.)
var sessionHeaders = map[string]string{
	"Tandem-Attempt":   "1",
	"Tandem-After":     "0",
	"Tandem-Open":      rand.Text(),
	"Tandem-Transport": "split",
	"Prefer":           "wait=1",
	"Incremental":      "?1",
}

// meet asks the probe what comes to it: the path, the round trip, the headers. False:
// there is no probe.
func (d *examination) meet(ctx context.Context) bool {
	var echoes []*probe.Echo
	var trips []time.Duration
	var first reply
	for range 3 {
		var e probe.Echo
		a, err := d.ask(ctx, func(r *http.Request) {
			r.Header.Set(probe.Header, "echo")
			for name, value := range sessionHeaders {
				r.Header.Set(name, value)
			}
			if r.Header.Get("Authorization") == "" {
				r.Header.Set("Authorization", "Tandem-Doctor none")
			}
		}, &e)
		if err == nil && e.Process == "" {
			err = &otherError{*notJSON(a)}
		}
		if err != nil {
			d.noProbe(err)
			return false
		}
		echoes, trips = append(echoes, &e), append(trips, a.took)
		if first.Response == nil {
			first = a
		}
	}
	slices.Sort(trips)
	d.roundTrip = trips[0] // the others met a busy machine, or the start of a process
	e := echoes[0]
	d.path = d.newPath(first, e)
	d.path.RoundTrip = millis(d.roundTrip)
	d.path.Protocols = []string{first.Proto}
	if d.url.Scheme == "https" && !d.options.HTTP1 {
		d.path.Protocols = []string{"HTTP/1.1"}
		if first.ProtoMajor == 2 {
			d.path.Protocols = append(d.path.Protocols, first.Proto)
		}
	}
	d.report.Path = d.path
	d.add(d.headers(first.Response, e))
	d.add(d.login(e))
	return true
}

// noProbe reports that nothing can be measured.
func (d *examination) noProbe(err error) {
	c := Check{Name: "probe", Verdict: Fault, certain: true, Text: err.Error()}
	f := Finding{Verdict: Fault, Hop: "Tandem", Doc: "docs/doctor.md"}
	a := other(err)
	switch {
	case a == nil:
		f.Why = "Tandem described itself, but the next request failed: " + err.Error() + ". Run the doctor again."
	case a.Header.Get(probe.Header) == "off":
		c.Text = "the endpoint's probe is switched off"
		f.Why, f.Directive = "Without its probe nothing can be measured.", "probe"
		f.Where, f.Lines = "in the endpoint's table in tandem.toml", []string{"probe = true"}
	case a.Status == http.StatusServiceUnavailable:
		f.Why = "Too many probes run at this endpoint, or the server is stopping. Run the doctor again soon."
	case a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden:
		f.Why = "Something on the way refuses what the doctor asks, though it lets the description through: " + a.String() + "."
		f.Where = "log in with --user or --header"
	default:
		f.Why = "Tandem described itself, but its probe did not answer (" + a.String() + "): a hop may drop the header " + probe.Header + ", or this Tandem is older than the doctor."
	}
	d.report.Findings = append(d.report.Findings, f)
	d.add(c)
}

// expectedFields are added or changed by every web server.
var expectedFields = []string{"Date", "Server", "Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "Via", probe.Header, "Tandem-Transports", "Vary", "Upgrade"}

// headers compares what was sent with what came, both ways.
func (d *examination) headers(resp *http.Response, e *probe.Echo) Check {
	c := Check{Name: "headers", Verdict: OK, certain: true}
	var dropped, changes []string
	for name := range sessionHeaders {
		if _, ok := e.Header[name]; !ok {
			dropped = append(dropped, name)
		}
	}
	slices.Sort(dropped)
	var added []string
	sent := d.request(resp.Request.Context(), http.MethodGet).Header
	for name := range e.Header {
		_, ours := sessionHeaders[name]
		if _, known := sent[name]; !ours && !known && !slices.Contains([]string{"Host", "Connection", "Authorization", "Content-Length", "Accept-Encoding", probe.Header}, name) {
			added = append(added, name)
		}
	}
	if slices.Sort(added); len(added) > 0 {
		changes = append(changes, "the request got "+strings.Join(added, ", "))
	}
	added = nil
	for name := range resp.Header {
		if _, ok := e.Sent[name]; !ok && !slices.Contains(expectedFields, name) {
			added = append(added, name)
		}
	}
	if slices.Sort(added); len(added) > 0 {
		changes = append(changes, "the response got "+strings.Join(added, ", "))
	}
	var lost []string
	for name, value := range e.Sent {
		if got := resp.Header.Get(name); got != value && name != "X-Accel-Buffering" { // that one is for nginx, which takes it off
			if got == "" {
				lost = append(lost, name)
			} else {
				lost = append(lost, fmt.Sprintf("%s (now %s)", name, clean(got)))
			}
		}
	}
	if slices.Sort(lost); len(lost) > 0 {
		changes = append(changes, "the response lost "+strings.Join(lost, ", "))
	}
	c.Text = "as they were sent, both ways"
	if len(changes) > 0 {
		c.Text = strings.Join(changes, "; ")
	}
	if len(dropped) > 0 {
		c.Verdict, c.Text = Fault, "a hop drops "+strings.Join(dropped, ", ")+", which sessions need"
		c.symptoms = append(c.symptoms, seen{HeaderDropped, strings.Join(dropped, ", ")})
	} else if e.Protocol == "HTTP/1.0" {
		c.Verdict, c.Text = Note, "requests come as HTTP/1.0; "+c.Text
		c.symptoms = append(c.symptoms, seen{OldHTTP, ""})
	}
	return c
}

// login checks that who the client is gets through to the app.
func (d *examination) login(e *probe.Echo) Check {
	c := Check{Name: "authorization", Verdict: OK, certain: true, Text: "the header gets through to the app"}
	_, came := e.Header["Authorization"]
	given := d.url.User != nil || d.options.Header.Get("Authorization") != ""
	switch {
	case e.User:
		c.Text = "the web server says who the user is"
	case came:
	case given:
		c.Verdict, c.Text = Fault, "the app gets neither the header nor a user"
		c.symptoms = []seen{{NoLogin, ""}}
	default:
		c.Verdict, c.Text = Note, "the header does not get through to the app: programs that want a token won't see it"
		c.symptoms = []seen{{NoLogin, ""}}
	}
	return c
}

// problemDetail is the text for people in an RFC 9457 body, or "".
func problemDetail(a *answer) string {
	var p struct{ Detail string }
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal([]byte(a.Body), &p) != nil {
		return ""
	}
	return clean(p.Detail)
}
