package config

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// System is the configuration file that is looked for last.
const System = "/etc/tandem/tandem.toml"

// Script is the Source of a configuration that started the process by its #! line.
const Script = "#! script"

// Place is a configuration file and how it was found.
type Place struct{ File, Source string }

// Process is what Find may know of the process it runs in.
type Process struct {
	// Flag is the file that -c named.
	Flag string
	// Args is os.Args. Only a #! script is looked for in it, and only its
	// second entry: in a CGI process the entries can be words of a query.
	Args []string
	// CGI tells that the process serves one CGI request. Args[1] then is a
	// script only if it is the one that the web server says it has started.
	CGI bool
	// Getenv is os.Getenv. TANDEM_CONFIG is read (exactly that name: a request
	// can set only names that begin with HTTP_), and SCRIPT_FILENAME in CGI.
	Getenv func(string) string
	// Executable is the path of the running binary.
	Executable string
	// System stands in for the constant System; empty: that.
	System string
}

// ErrNotFound is Find's error where there is no configuration in any place.
var ErrNotFound = errors.New("config: no configuration found")

// NotFound says where a configuration was looked for, for people. The
// places are the documented ones, so that a web server may show the text.
const NotFound = "no configuration: there is no -c FILE, no #! script, no TANDEM_CONFIG in the environment, " +
	"no tandem.toml beside the binary, and no " + System

// Find looks for the configuration: -c FILE, the #! script, $TANDEM_CONFIG,
// tandem.toml beside the binary, /etc/tandem/tandem.toml. The first that is
// named or exists counts, readable or not, so that a mistake in one is never
// covered up by the next.
func Find(p Process) (Place, error) {
	if p.Flag != "" {
		return Place{p.Flag, "-c"}, nil
	}
	if s := p.script(); s != "" {
		return Place{s, Script}, nil
	}
	if f := p.Getenv("TANDEM_CONFIG"); f != "" {
		return Place{f, "TANDEM_CONFIG"}, nil
	}
	system := p.System
	if system == "" {
		system = System
	}
	for _, at := range []Place{
		{filepath.Join(filepath.Dir(p.Executable), "tandem.toml"), "beside the binary"},
		{system, "system"},
	} {
		if _, err := os.Stat(at.File); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return at, nil
		}
	}
	return Place{}, fmt.Errorf("%w", ErrNotFound)
}

// script returns the file whose #! line started this process, or "".
//
// The kernel passes a script's path as argv[1], but web servers pass the words
// of a query without "=" there too: /cgi-bin/tandem?/etc/passwd must not be a
// configuration, nor may a query name the binary itself, or a shell script that
// has started it. So in CGI the file must be the one that the server says it
// started, and in any case its #! line must name this binary.
func (p Process) script() string {
	if len(p.Args) < 2 {
		return ""
	}
	file := p.Args[1]
	if p.CGI {
		started := p.Getenv("SCRIPT_FILENAME")
		if started == "" || (file != started && !sameFile(file, started)) {
			return ""
		}
		file = started
	}
	if !p.interprets(file) {
		return ""
	}
	return file
}

// interprets tells whether file begins with a #! line that names the running binary.
func (p Process) interprets(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	// The kernel reads at most 256 bytes of the line.
	line, _, _ := bufio.NewReaderSize(f, 256).ReadLine()
	rest, ok := strings.CutPrefix(string(line), "#!")
	if !ok {
		return false
	}
	for _, word := range strings.Fields(rest) { // "env" and its options may come first
		if !strings.Contains(word, "/") {
			if word, err = exec.LookPath(word); err != nil {
				continue
			}
		}
		if sameFile(word, p.Executable) {
			return true
		}
	}
	return false
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
