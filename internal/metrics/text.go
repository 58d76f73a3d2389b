package metrics

import (
	"strconv"
	"strings"
)

// text is a page in Prometheus' text format, version 0.0.4. All samples of a family follow its head.
type text struct {
	strings.Builder
	family string
}

const contentType = "text/plain; version=0.0.4; charset=utf-8"

// head begins a family. kind is counter or gauge.
func (t *text) head(name, kind, help string) {
	t.family = name
	t.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// sample writes a value of the family; labels are names and values by turns.
func (t *text) sample(value float64, labels ...string) {
	t.WriteString(t.family)
	for i := 0; i < len(labels); i += 2 {
		t.WriteByte("{,"[min(i, 1)])
		t.WriteString(labels[i] + `="` + escape.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		t.WriteByte('}')
	}
	t.WriteByte(' ')
	t.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
	t.WriteByte('\n')
}

// one writes a family of one sample.
func (t *text) one(name, kind, help string, value float64) {
	t.head(name, kind, help)
	t.sample(value)
}

const (
	counter = "counter"
	gauge   = "gauge"
)
