package main

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// A bar is one of a plot, with its spread.
type bar struct {
	name string
	spread
}

// A panel is bars on one scale.
type panel struct {
	title, number string
	bars          []bar
}

// panels are the figures that a picture says more of than a table.
func (r *results) panels() []panel {
	rate := panel{title: "Messages/s, ping-pong, 50 sessions", number: "%.0f"}
	depth := panel{title: "Messages/s, 16 deep, 50 sessions", number: "%.0f"}
	for _, p := range []struct {
		*panel
		values func(name string) []float64
	}{
		{&rate, func(name string) []float64 { return r.rate(busy, name, perSecond) }},
		{&depth, func(name string) []float64 { return r.rate(deep, name, perSecond) }},
	} {
		for _, name := range r.names() {
			if values := p.values(name); values != nil {
				p.bars = append(p.bars, bar{name, spreadOf(values)})
			}
		}
	}
	memory := panel{title: "Memory of an idle session, program and web server, KiB", number: "%.1f"}
	for _, all := range r.idle {
		memory.bars = append(memory.bars, bar{all.sitter.name, spreadOf(column(all.of, func(s sat) float64 { return s.web + s.backend }))})
	}
	return []panel{rate, depth, memory}
}

// Sizes of the plot, in pixels.
const (
	plotWidth = 860
	plotLabel = 330 // width of the names
	plotBar   = 20  // height, with its gap
	plotHead  = 44
)

// plot draws the panels as SVG.
func (r *results) plot(to io.Writer) {
	panels := r.panels()
	height := 10
	for _, p := range panels {
		height += plotHead + plotBar*len(p.bars)
	}
	fmt.Fprintf(to, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
`, plotWidth, height)
	y := 0
	for _, p := range panels {
		p.draw(to, y)
		y += plotHead + plotBar*len(p.bars)
	}
	fmt.Fprintln(to, "</svg>")
}

// draw draws a panel, whose top is at y: for each bar the median, and a line from the
// smallest to the largest.
func (p *panel) draw(to io.Writer, y int) {
	fmt.Fprintf(to, "<text x=\"8\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y+28, html.EscapeString(p.title))
	y += plotHead - 4
	var most float64
	for _, b := range p.bars {
		most = max(most, b.max)
	}
	scale := func(v float64) float64 {
		if most <= 0 {
			return plotLabel
		}
		return plotLabel + max(v, 0)/most*(plotWidth-plotLabel-90)
	}
	for _, b := range p.bars {
		colour := "#9aa5b1"
		if strings.HasPrefix(b.name, "Tandem") {
			colour = "#2f6fb0"
		}
		middle := y + plotBar/2
		fmt.Fprintf(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", plotLabel-8, middle+4, html.EscapeString(strings.ReplaceAll(b.name, "`", "")))
		fmt.Fprintf(to, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", plotLabel, y+3, scale(b.median)-plotLabel, plotBar-6, colour)
		fmt.Fprintf(to, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"black\"/>\n", scale(b.min), middle, scale(b.max), middle)
		fmt.Fprintf(to, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", scale(b.max)+6, middle+4, fmt.Sprintf(p.number, b.median))
		y += plotBar
	}
}
