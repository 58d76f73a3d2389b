package doctor

import "slices"

// choose finds the transport that a client will take: the first that the endpoint
// offers, in its order, and that the checks saw work. Pulse comes last, if it isn't
// offered: an Apache may be in front of the endpoint's web server.
func (d *examination) choose() {
	offered := slices.Clone(d.description.Transports)
	if slices.Contains(offered, "single") && !slices.Contains(offered, "pulse") {
		offered = append(offered, "pulse")
	}
	f := d.facts
	works := func(m map[string]bool, forms ...form) string {
		for _, form := range forms {
			if m[form.name] {
				return form.name
			}
		}
		return ""
	}
	for _, name := range offered {
		how := ""
		switch name {
		case "single":
			how = works(f.single, declaredForm, chunkedForm)
		case "pulse":
			// Where nothing need be pulsed, a pulsing body works as well.
			if how = works(f.pulse, chunkedForm, declaredForm); how == "" {
				how = works(f.single, chunkedForm, declaredForm)
			}
		case "split":
			if f.getStreams && f.meet {
				how = "a streamed response, batches beside it"
				if d.description.Streamed && f.streams[declaredForm.name] {
					how = "a streamed response, a streamed upload beside it"
				}
			}
		case "poll":
			if f.meet {
				how = "batches, and long polls"
			}
		}
		if how != "" {
			d.report.Transport, d.report.How = name, how
			return
		}
	}
	if len(d.report.Findings) == 0 {
		f := Finding{Verdict: Fault, Hop: "unknown", Doc: "docs/servers.md",
			Why: "None of the transports that the endpoint offers works on this way."}
		if len(offered) == 0 {
			f.Why = "The endpoint offers no transport behind this web server."
		}
		d.report.Findings = append(d.report.Findings, f)
	}
}
