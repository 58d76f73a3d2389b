package e2e_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tandem/internal/servertest"
)

// TestConfigurationStaysSecret: a configuration beside the binary in cgi-bin is
// never sent to anybody.
func TestConfigurationStaysSecret(t *testing.T) {
	for _, kind := range []servertest.Kind{servertest.Apache, servertest.Lighttpd} {
		t.Run(string(kind), func(t *testing.T) {
			s := servertest.Start(t, kind, servertest.Config{Binary: servertest.Binary(t)})
			const secret = "0123456789abcdef"
			file := filepath.Join(s.CGIDir, "tandem.toml")
			if err := os.WriteFile(file, []byte("app = \"echo\" # "+secret+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"/cgi-bin/tandem.toml", "/cgi-bin/tandem.toml/x", "/cgi-bin/", "/cgi-bin/tandem"} {
				resp, err := http.Get(s.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if strings.Contains(string(body), secret) {
					t.Errorf("GET %s: %s with the configuration", path, resp.Status)
				}
				if works := path == "/cgi-bin/tandem"; works != (resp.StatusCode == http.StatusOK) {
					t.Errorf("GET %s: %s", path, resp.Status)
				}
			}
		})
	}
}
