package doctor

// choose finds the transport that a client will take: the first that the endpoint
// offers, in its order, and that the checks saw work.
func (d *examination) choose() {
	offered := d.description.Transports
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
				how = "a streamed response, requests beside it"
			}
		case "poll":
			if f.meet {
				how = "one request after the other"
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
