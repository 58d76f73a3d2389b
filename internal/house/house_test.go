// Package house holds the module to its architecture: which package may import
// which, by what go list says.
package house

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowed is, for each package, all that it may depend on of this module, and
// a pattern of what it must not depend on at all.
var allowed = map[string]struct {
	own   []string
	never string
}{
	"tandem/session/frame":     {never: `^net|^os/exec$|^flag$`},
	"tandem/session/flow":      {own: []string{"tandem/session/frame"}, never: `^net|^os/exec$|^flag$`},
	"tandem/session":           {own: []string{"tandem/session/frame", "tandem/session/flow", "tandem/internal/gateway", "tandem/internal/problem"}, never: `^os/exec$|^flag$|logrus|toml`},
	"tandem/cgi":               {own: []string{"tandem/internal/gateway", "tandem/internal/problem"}, never: `logrus|toml|kong`},
	"tandem/fcgi":              {own: []string{"tandem/internal/nowait", "tandem/cgi", "tandem/internal/gateway", "tandem/internal/problem"}, never: `logrus|toml|kong`},
	"tandem/program":           {own: []string{"tandem/internal/nowait", "tandem/session", "tandem/session/frame", "tandem/session/flow", "tandem/internal/gateway", "tandem/internal/problem"}, never: `logrus|toml|kong`},
	"tandem/client":            {own: []string{"tandem/session/frame", "tandem/session/flow"}, never: `^os/exec$|logrus|toml|kong`},
	"tandem/web":               {never: `^os/exec$|logrus|toml|kong`},
	"tandem/internal/gateway":  {never: `^os/exec$|logrus|toml|kong`},
	"tandem/internal/listen":   {never: `logrus|toml|kong`},
	"tandem/internal/config":   {never: `logrus|kong`},
	"tandem/internal/owner":    {own: []string{"tandem/internal/nowait", "tandem/fcgi", "tandem/cgi", "tandem/internal/gateway", "tandem/internal/problem"}, never: `logrus|toml|kong`},
	"tandem/internal/endpoint": {own: []string{"tandem/internal/gateway", "tandem/internal/problem"}, never: `logrus|toml|kong`},
	"tandem/internal/probe":    {own: []string{"tandem/internal/gateway", "tandem/internal/problem"}, never: `^os/exec$|logrus|toml|kong`},
	"tandem/hub":               {never: `^net/http$|^os/exec$|logrus|toml|kong`},
	"tandem/hub/app":           {own: []string{"tandem/hub", "tandem/session", "tandem/session/frame", "tandem/session/flow", "tandem/internal/gateway", "tandem/internal/problem"}, never: `^os/exec$|logrus|toml|kong`},
	"tandem/hub/mercure":       {own: []string{"tandem/hub", "tandem/internal/gateway", "tandem/internal/problem"}, never: `^os/exec$|logrus|toml|kong`},
	"tandem/hub/sqlitebus":     {own: []string{"tandem/hub"}, never: `^net/http$|logrus|toml|kong`},
	"tandem/hub/natsbus":       {own: []string{"tandem/hub"}, never: `logrus|toml|kong`},
	"tandem/internal/metrics":  {own: []string{"tandem/session", "tandem/session/frame", "tandem/session/flow", "tandem/fcgi", "tandem/cgi", "tandem/program", "tandem/hub", "tandem/internal/nowait", "tandem/internal/gateway", "tandem/internal/problem"}, never: `logrus|toml|kong|prometheus`},
	"tandem/internal/doctor":   {own: []string{"tandem/internal/probe", "tandem/internal/gateway", "tandem/internal/problem", "tandem/session/frame", "tandem/session/flow"}, never: `^os/exec$|logrus|toml|kong`},
}

func TestImports(t *testing.T) {
	for pkg, rule := range allowed {
		never := regexp.MustCompile(rule.never)
		for _, dep := range list(t, "-deps", pkg) {
			switch {
			case dep == pkg:
			case strings.HasPrefix(dep, "tandem/") && !slices.Contains(rule.own, dep):
				t.Errorf("%s depends on %s", pkg, dep)
			case never.MatchString(dep):
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// TestCmdAlone: what ends processes, reads flags or logs for people is cmd's.
func TestCmdAlone(t *testing.T) {
	cmdOnly := regexp.MustCompile(`logrus|go-systemd|alecthomas/kong`)
	for _, pkg := range list(t, "tandem/...") {
		if strings.HasPrefix(pkg, "tandem/cmd/") {
			continue
		}
		for _, imp := range list(t, "-f", `{{join .Imports "\n"}}`, pkg) {
			if cmdOnly.MatchString(imp) {
				t.Errorf("%s imports %s, which is for cmd/tandem alone", pkg, imp)
			}
		}
	}
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}
