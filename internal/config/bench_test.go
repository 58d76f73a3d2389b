package config

import "testing"

// A CGI process pays for this at each request.
func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("/etc/x/tandem.toml", full); err != nil {
			b.Fatal(err)
		}
	}
}
