package e2e_test

import (
	"os/exec"
	"strings"
	"testing"

	"tandem/internal/servertest"
)

// TestNobodyIsAUserByHisOwnWord: a name that comes with a request is nobody's who has
// not been authenticated. nginx has it in $remote_user all the same.
func TestNobodyIsAUserByHisOwnWord(t *testing.T) {
	td := servertest.StartTandem(t, `
[endpoint.env]
path = "/tandem"
command = ["/usr/bin/env"]
`)
	for _, kind := range servertest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := servertest.Start(t, kind, servertest.Config{Socket: td.Socket})
			cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-m", "10", "-u", "root:x", "-H", "Content-Type: text/plain", "--data-binary", "x", s.FastCGI())
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "TANDEM_SESSION=") {
				t.Fatalf("%v: %s", err, out)
			}
			if strings.Contains(string(out), "REMOTE_USER") {
				t.Errorf("a request made itself a user:\n%s", out)
			}
		})
	}
}
