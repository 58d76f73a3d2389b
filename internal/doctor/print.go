package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Printer writes a report for people.
type Printer struct {
	W      io.Writer
	Colour bool
	err    error
}

const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
)

func (p *Printer) colour(code, s string) string {
	if !p.Colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *Printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.W, format, args...)
	}
}

var marks = map[Verdict]struct{ word, colour string }{
	OK:      {"ok", green},
	Note:    {"note", yellow},
	Fault:   {"FAULT", red},
	Unknown: {"?", faint},
}

// Check writes one line of the table. The text goes on below itself.
func (p *Printer) Check(c Check) {
	const indent = 36
	mark, took := marks[c.Verdict], ""
	if c.Took > 0 {
		took = short(c.Took)
	}
	p.printf("%s %-18s %s  %s\n", p.colour(mark.colour, fmt.Sprintf("%-6s", mark.word)), c.Name,
		p.colour(faint, fmt.Sprintf("%8s", took)), wrap(c.Text, 110-indent, strings.Repeat(" ", indent)))
}

// End writes what follows the table.
func (p *Printer) End(r *Report) error {
	p.printf("\n")
	if len(r.Path.Hops) > 0 || r.Path.Interface != "" {
		p.printf("%s\n", p.row("way", r.Path.String()))
	}
	if r.Transport != "" {
		p.printf("%s\n", p.row("transport", r.Transport+" ("+r.How+")"))
	}
	colour := green
	if r.Status != Healthy {
		colour = red
	}
	p.printf("%s\n", p.row("result", p.colour(colour, r.Summary)))
	number := 0
	for i, f := range r.Findings {
		if i > 0 && f.Instead && r.Findings[i-1].Symptom == f.Symptom {
			p.finding("   or    ", f)
			continue
		}
		number++
		kind := p.colour(red, "fault")
		if f.Verdict == Note {
			kind = p.colour(yellow, "note")
		}
		p.finding(fmt.Sprintf("%d. %s  ", number, kind), f)
	}
	return p.err
}

func (p *Printer) row(name, text string) string {
	return p.colour(bold, fmt.Sprintf("%-10s", name)) + " " + text
}

func (p *Printer) finding(label string, f Finding) {
	head := f.Hop
	if f.Directive != "" {
		head += ": " + f.Directive
	}
	p.printf("\n%s%s\n", label, p.colour(bold, head))
	const indent = "   "
	p.printf("%s%s\n", indent, wrap(f.Why, 100, indent))
	if f.Where != "" {
		p.printf("%s%s:\n", indent, wrap(upper(f.Where), 100, indent))
	}
	for i, line := range f.Lines {
		if i == 0 {
			p.printf("\n")
		}
		p.printf("%s    %s\n", indent, p.colour(bold, line))
		if i == len(f.Lines)-1 {
			p.printf("\n")
		}
	}
	see := f.Doc
	if f.Trap > 0 {
		see += fmt.Sprintf(", docs/servers.md trap %d", f.Trap)
	}
	if see != "" {
		p.printf("%s%s\n", indent, p.colour(faint, "See "+see))
	}
}

// String is the way in one line, the client first.
func (p Path) String() string {
	names := []string{"client"}
	for _, h := range p.Hops {
		names = append(names, h.String())
	}
	s := strings.Join(append(names, "Tandem"), " → ")
	if p.RoundTrip > 0 {
		s += fmt.Sprintf(", %s, round trip %.1f ms", strings.Join(p.Protocols, " and "), p.RoundTrip)
	}
	return s
}

// wrap breaks s into lines of at most width letters; the second and later begin with
// indent.
func wrap(s string, width int, indent string) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(s) {
		l := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case n+1+l > width:
			b.WriteString("\n" + indent)
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += l
	}
	return b.String()
}

func upper(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(string(r)) + s[n:]
}
