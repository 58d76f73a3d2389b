// Testcount reads what go test -json prints and writes it for people: a line per
// package, all output of the tests that failed, and at the end
//
//	N passed, N failed, N skipped
//
// A test with subtests counts as its subtests do and itself. Lines that aren't JSON
// (build errors) are passed on. The exit status is 1 if anything failed, or if no test
// ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is what go doc test2json describes.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

func main() {
	ok, err := count(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

func count(in io.Reader, out io.Writer) (ok bool, err error) {
	var passed, failed, skipped int
	ok = true
	output := map[string]*strings.Builder{} // of each test that runs, and each package
	lines := bufio.NewReader(in)
	for {
		line, readErr := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) != nil || e.Action == "":
			fmt.Fprint(out, line)
		default:
			key := e.Package + " " + e.Test
			switch e.Action {
			case "output":
				if output[key] == nil {
					output[key] = &strings.Builder{}
				}
				output[key].WriteString(e.Output)
			case "build-output":
				fmt.Fprint(out, e.Output)
			case "build-fail":
				ok = false
			case "pass", "fail", "skip":
				text := ""
				if b := output[key]; b != nil {
					text = b.String()
				}
				delete(output, key)
				if e.Action == "fail" {
					ok = false
					fmt.Fprint(out, text)
				}
				switch {
				case e.Test == "":
					if e.Action != "skip" { // skip: no test files
						fmt.Fprintf(out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
					}
				case e.Action == "pass":
					passed++
				case e.Action == "fail":
					failed++
				default:
					skipped++
					fmt.Fprintf(out, "skip %s %s: %s\n", e.Package, e.Test, reason(text))
				}
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return false, readErr
		}
	}
	// A test that never ended is why its package failed.
	for key, b := range output {
		if !strings.HasSuffix(key, " ") {
			failed++
			ok = false
			fmt.Fprintf(out, "%s did not end:\n%s", key, b)
		}
	}
	if passed+failed == 0 {
		fmt.Fprintln(out, "no test ran")
		ok = false
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return ok, nil
}

// reason is the last line that isn't go test's own.
func reason(output string) string {
	last := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			last = line
		}
	}
	return last
}
