package main

import (
	"fmt"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints the module's version and, of a build from a checkout, the commit.
func (*versionCmd) Run() error {
	version, rest := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				rest += " " + s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				rest += " modified"
			}
		}
		rest += " " + info.GoVersion
	}
	_, err := fmt.Printf("tandem %s%s\n", version, rest)
	return exitWith(exitIO, err)
}
