package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// page has browsers see the demo page.
const page = "page = true\n"

// hubPath is below the endpoint's path, so that the servers' shipped configuration leads there, too.
const hubPath = "/tandem/hub"

// hub is the configuration of a hub beside the endpoint. Who reaches 127.0.0.1 may publish.
func (o *options) hub() string {
	return "[endpoint.hub]\npath = \"" + hubPath + "\"\n" + page + "app = \"hub\"\npublish = \"anyone\"\npresence = true\ndatabase = " +
		tomlString(filepath.Join(o.bin, "hub.db")) + "\n"
}

// endpoint is the endpoint's configuration.
func (o *options) endpoint() (string, error) {
	if o.app == "echo" {
		return page + "app = \"echo\"\n", nil
	}
	var dir string
	command := o.command
	if command != nil {
		path, err := exec.LookPath(command[0])
		if err != nil {
			return "", fmt.Errorf("no program %s: %w", command[0], err)
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", err
		}
		if dir, err = os.Getwd(); err != nil {
			return "", err
		}
		command = append([]string{path}, command[1:]...)
	} else {
		path, err := o.sample()
		if err != nil {
			return "", err
		}
		command = []string{path}
	}
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = tomlString(word)
	}
	text := page + fmt.Sprintf("app = \"program\"\ncommand = [%s]\n", strings.Join(quoted, ", "))
	if dir != "" {
		text += "dir = " + tomlString(dir) + "\n"
	}
	return text, nil
}

// sample finds a program of testdata/programs by its name without the ending, and
// copies it to where a web server of another user can read it.
func (o *options) sample() (string, error) {
	name := o.app
	if name == "" {
		name = "clock"
	}
	programs := filepath.Join(o.source, "testdata", "programs")
	entries, err := os.ReadDir(programs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	known := []string{"echo"}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		base := e.Name()
		known = append(known, base)
		if base != name && strings.TrimSuffix(base, filepath.Ext(base)) != name {
			continue
		}
		path := filepath.Join(o.bin, base)
		return path, copyProgram(filepath.Join(programs, base), path)
	}
	return "", usageError(fmt.Sprintf("--app %s: there are %s", name, strings.Join(known, ", ")))
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// tomlString quotes as TOML's basic strings want it, and hides $ from servertest.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r == '$':
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
