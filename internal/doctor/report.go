package doctor

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Verdict is what came of a check.
type Verdict string

// Verdicts.
const (
	OK      Verdict = "ok"
	Note    Verdict = "note"    // worth knowing; no fault, or none that anybody meets
	Fault   Verdict = "fault"   // can be put right
	Unknown Verdict = "unknown" // could not be found out
)

// Check is the result of one test.
type Check struct {
	Name    string
	Verdict Verdict
	Took    time.Duration
	Text    string // what was seen, for people

	symptoms []seen
	certain  bool // looking again would show the same
	again    bool // it is to be looked at again
}

// MarshalJSON writes the time in milliseconds.
func (c Check) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name    string  `json:"name"`
		Verdict Verdict `json:"verdict"`
		Took    float64 `json:"took_ms"`
		Text    string  `json:"text"`
	}{c.Name, c.Verdict, millis(c.Took), c.Text})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Hop is a machine or a program on the way.
type Hop struct {
	Name    string `json:"name"`              // as it calls itself
	Role    string `json:"role"`              // what it does here: "forward proxy", "proxy", "web server"
	By      string `json:"by"`                // what it is known by
	Family  string `json:"family,omitempty"`  // "nginx", "apache"…, where the catalogue knows it
	Version string `json:"version,omitempty"` // "1.22.1"
	Way     string `json:"way,omitempty"`     // how it passes requests on: "fastcgi", "proxy", "cgi", or Apache's module
}

// Path is the way from the client to the app.
type Path struct {
	Hops      []Hop    `json:"hops"` // the client's end first
	Interface string   `json:"interface,omitempty"`
	Protocols []string `json:"protocols,omitempty"`
	RoundTrip float64  `json:"round_trip_ms,omitempty"`
}

// A Finding is a symptom and what to do about it at one hop.
type Finding struct {
	Symptom   Symptom  `json:"symptom"`
	Verdict   Verdict  `json:"verdict"` // Fault or Note
	Hop       string   `json:"hop"`     // "nginx 1.22.1"
	Why       string   `json:"why"`
	Directive string   `json:"directive,omitempty"`
	Where     string   `json:"where,omitempty"` // where the lines go
	Lines     []string `json:"lines,omitempty"` // to paste
	Doc       string   `json:"doc,omitempty"`
	Trap      int      `json:"trap,omitempty"` // of docs/servers.md
	// Instead says that this is one of several hops that may be the cause.
	Instead bool `json:"one_of_several,omitempty"`
}

// Report is what was found out.
type Report struct {
	URL       string    `json:"url"`
	Status    int       `json:"status"` // to exit with: Healthy, Degraded or Unusable
	Summary   string    `json:"summary"`
	Path      Path      `json:"path"`
	Transport string    `json:"transport,omitempty"` // that clients will choose
	How       string    `json:"how,omitempty"`       // and in which form
	Checks    []Check   `json:"checks"`
	Findings  []Finding `json:"findings"`

	host string // in the URL
}

// Statuses of a report.
const (
	Healthy  = 0 // as good as this server can
	Degraded = 1 // a transport works, but there are faults
	Unusable = 2 // no transport works, or nothing was reached
)

// find looks up what to do about a symptom on this path.
func (r *Report) find(path Path, s seen, v Verdict) {
	var found []Finding
	for _, hop := range path.Hops {
		remedy := look(hop, s.Symptom)
		if remedy == nil {
			continue
		}
		if remedy.family == "" && remedy.way == "" { // whichever the hop is
			found = []Finding{remedy.finding(Hop{Name: "Tandem"}, r.host, s, v)}
			break
		}
		found = append(found, remedy.finding(hop, r.host, s, v))
	}
	if len(found) == 0 && v == Fault {
		found = append(found, unknown(path, s))
	}
	for _, f := range found {
		f.Instead = len(found) > 1
		if !slices.ContainsFunc(r.Findings, func(g Finding) bool {
			return g.Hop == f.Hop && g.Directive == f.Directive && (g.Directive != "" || g.Symptom == f.Symptom)
		}) {
			r.Findings = append(r.Findings, f)
		}
	}
}

// conclude fills in the summary.
func (r *Report) conclude() {
	faults := 0
	for _, c := range r.Checks {
		if c.Verdict == Fault {
			faults++
		}
	}
	switch {
	case r.Transport == "":
		r.Status, r.Summary = Unusable, "No session is possible here."
	case faults > 0:
		r.Status, r.Summary = Degraded, "Sessions work, but not as well as they could here."
	default:
		r.Status, r.Summary = Healthy, "All is well: sessions work as well as this server can."
	}
	if r.Checks == nil {
		r.Checks = []Check{}
	}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return strings.Compare(string(a.Verdict), string(b.Verdict)) })
}
