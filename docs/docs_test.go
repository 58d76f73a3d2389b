// Package docs_test holds the documentation to the code.
package docs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tandem/internal/config"
	"tandem/session/frame"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every configuration that is shown is one.
func TestConfigurations(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```toml\n(.*?)^```")
	found := 0
	for _, page := range append(pages, "../README.md") {
		for _, b := range block.FindAllStringSubmatch(read(t, page), -1) {
			found++
			if _, err := config.Parse(page, b[1]); err != nil {
				t.Errorf("%s: %v, in\n%s", page, err, b[1])
			}
		}
	}
	if found < 4 {
		t.Errorf("found %d configurations, expected at least 4", found)
	}
}

// configuration.md has a row for every key, with its default.
func TestKeys(t *testing.T) {
	c, err := config.Parse("x.toml", "[endpoint.x]\npath = \"/x\"\napp = \"program\"\ncommand = [\"x\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	page := read(t, "configuration.md")
	keys := 0
	for _, m := range regexp.MustCompile(`(?m)^(\w+) = (.*?)(  # default)?$`).FindAllStringSubmatch(shown.String(), -1) {
		key, value := m[1], m[2]
		keys++
		row := regexp.MustCompile("(?m)^\\| `" + key + "`.*$").FindString(page)
		switch {
		case row == "":
			t.Errorf("no row for %s", key)
		case m[3] == "" || value == `""` || value == "[]" || value == "{}": // not a default, or none
		case !strings.Contains(row, "`"+value+"`"):
			t.Errorf("expected the default %s for %s, the row is %s", value, key, row)
		}
	}
	if keys < 25 {
		t.Errorf("saw %d keys, expected at least 25", keys)
	}
}

// protocol.md has the table of termination codes as frame has it.
func TestCodes(t *testing.T) {
	page := read(t, "protocol.md")
	retry := map[frame.Retry]string{frame.RetryNever: "never", frame.RetryNow: "at once", frame.RetryLater: "later"}
	codes := 0
	for code := frame.Code(1000); code < 5000; code++ {
		if code.String() == fmt.Sprintf("code %d", code) {
			continue
		}
		codes++
		row := fmt.Sprintf(`(?m)^\| %d \| %s \| .* \| %s \| %d \|$`, code, regexp.QuoteMeta(code.String()), retry[code.Retry()], code.ExitStatus())
		if !regexp.MustCompile(row).MatchString(page) {
			t.Errorf("expected a row that matches %s", row)
		}
	}
	if codes < 15 {
		t.Errorf("saw %d codes, expected at least 15", codes)
	}
}

// The frames in protocol.md's examples are frames.
func TestExampleFrames(t *testing.T) {
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^    (?:> )?(\{"type":.*\})$`).FindAllStringSubmatch(read(t, "protocol.md"), -1) {
		found++
		line := m[1] + "\n"
		var f frame.Frame
		n, err := frame.JSON.NewDecoder().Decode([]byte(line), &f)
		if err != nil || n != len(line) || f.Type == frame.TypeEmpty {
			t.Errorf("%s is %v, %v", line, f, err)
			continue
		}
		if back, err := frame.JSON.Append(nil, &f); err != nil || f.Type != frame.TypeOpen && string(back) != line {
			t.Errorf("%s comes back as %s, %v", line, back, err)
		}
	}
	if found < 15 {
		t.Errorf("found %d frames, expected at least 15", found)
	}
}

// Links from the README and between the pages lead somewhere.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// Tests that the pages name as proof are there.
func TestTestsThatPagesName(t *testing.T) {
	there := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(read(t, path), -1) {
				there[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range append(pages, "../README.md") {
		for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(read(t, page), -1) {
			named++
			if !there[m[1]] {
				t.Errorf("%s names %s: there is no such test", page, m[1])
			}
		}
	}
	if named < 40 {
		t.Errorf("the pages name %d tests, expected at least 40", named)
	}
}
