package config

import (
	"bufio"
	"fmt"
	"io"
	"slices"
)

// Show prints what is in force as a TOML file that Parse reads back to the same
// configuration. Keys that the file did not give are marked as defaults.
func (c *Config) Show(w io.Writer) error {
	b := bufio.NewWriter(w)
	if c.File != "" {
		fmt.Fprintf(b, "# configuration: %s (%s)\n", c.File, c.Source)
	} else {
		fmt.Fprintf(b, "# configuration: %s\n", c.Source)
	}
	section := func(header, prefix string, keys []key) {
		if header != "" {
			fmt.Fprintf(b, "\n[%s]\n", header)
		}
		for _, k := range keys {
			line := k.name + " = " + k.value.show()
			if !c.gave(prefix + k.name) {
				line += "  # default"
			}
			fmt.Fprintln(b, line)
		}
	}
	section("", "", c.keys())
	for _, e := range c.Endpoints {
		if e.Name == "" {
			section("", "", e.shown())
		}
	}
	section("http", "http.", c.HTTP.keys())
	section("fastcgi", "fastcgi.", c.FastCGI.keys())
	section("metrics", "metrics.", c.Metrics.keys())
	section("log", "log.", c.Log.keys())
	section("limits", "limits.", c.Limits.keys())
	for _, e := range c.Endpoints {
		if e.Name != "" {
			section("endpoint."+e.Name, "endpoint."+e.Name+".", e.shown())
		}
	}
	return b.Flush()
}

// shown is keys without those that say nothing for this endpoint.
func (e *Endpoint) shown() []key {
	var out []key
	for _, k := range e.keys() {
		if k.name == "path" && e.Path == "" {
			continue
		}
		if e.foreign(k.name) != "" || e.App == AppHub && e.unused(k.name) {
			continue
		}
		out = append(out, k)
	}
	return out
}

// foreign is the app that the key name is for, if that is another one than e's.
func (e *Endpoint) foreign(name string) string {
	for app, keys := range appKeys {
		if app != e.App && slices.Contains(keys, name) {
			return app
		}
	}
	return ""
}

// unused tells whether a hub's key is for the storage that it doesn't have.
func (e *Endpoint) unused(name string) bool {
	if len(e.Hub.Servers) > 0 {
		return name == "database" || name == "database_sync"
	}
	return name == "nats" || slices.Contains(natsKeys, name)
}
