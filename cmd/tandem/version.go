package main

import (
	"fmt"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints the module's version and, of a build from a checkout, the commit.
func (*versionCmd) Run() error {
	rest := ""
	if info, ok := debug.ReadBuildInfo(); ok {
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
	_, err := fmt.Printf("tandem %s%s\n", version(), rest)
	return exitWith(exitIO, err)
}

// version is the module's.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(unknown)"
}
