package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tandem/internal/probe"
	"tandem/internal/servertest"
)

// docs checks that a place in the documentation exists.
func docs(t *testing.T, doc string) {
	t.Helper()
	file, anchor, _ := strings.Cut(doc, "#")
	text, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Error(err)
		return
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(string(m[1])), "")
		if anchor == strings.ReplaceAll(slug, " ", "-") {
			return
		}
	}
	if anchor != "" {
		t.Errorf("%s has no such section", doc)
	}
}

// The catalogue names documentation that exists, and says "has it" only of files that
// do; where the page on facts has a trap of that number.
func TestCatalogue(t *testing.T) {
	facts, err := os.ReadFile("../../docs/servers.md")
	if err != nil {
		t.Fatal(err)
	}
	shipped := regexp.MustCompile(`\((?:the files in )?((?:nginx|apache|lighttpd)/\S*) (?:has|have) it\)`)
	for _, r := range catalogue {
		docs(t, r.doc)
		if r.trap > 0 && !bytes.Contains(facts, fmt.Appendf(nil, "**%d. ", r.trap)) {
			t.Errorf("%s: no trap %d", r.directive, r.trap)
		}
		for version, fits := range map[string]bool{"": r.before == "", "0.1": r.since == "", "999": r.before == ""} {
			if r.fits(version) != fits {
				t.Errorf("%s %s: for version %q fits is %v", r.family, r.directive, version, r.fits(version))
			}
		}
		m := shipped.FindStringSubmatch(r.where)
		if m == nil || r.before != "" || r.symptoms[0] == NoLogin && r.family == "nginx" {
			continue
		}
		if strings.HasSuffix(m[1], "/") {
			m[1] += "*.conf"
		}
		files, err := filepath.Glob("../../" + m[1])
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %s matches nothing", r.directive, m[1])
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(text, []byte(r.directive)) && filepath.Base(file) != "paths.conf" && filepath.Base(file) != "upstream.conf" {
				t.Errorf("%s does not have %s", file, r.directive)
			}
		}
	}
	for _, a := range answers {
		if a.doc != "" {
			docs(t, a.doc)
		}
	}
}

// The servers accept the lines to paste.
func TestLinesAreAccepted(t *testing.T) {
	t.Parallel()
	lines := make(map[string]map[string]string) // by family and place
	for _, r := range catalogue {
		if lines[r.family] == nil {
			lines[r.family] = make(map[string]string)
		}
		if r.fits("1.22.1") && r.family == "nginx" || r.fits("2.4.71") && r.family == "apache" || r.fits("1.4.69") && r.family == "lighttpd" {
			for _, line := range r.lines {
				if !strings.Contains(lines[r.family][r.where], line) || strings.Contains(line, "IfModule") {
					lines[r.family][r.where] += line + "\n"
				}
			}
		}
	}
	t.Run("nginx", func(t *testing.T) {
		n := lines["nginx"]
		if n[nginxServer] == "" || n[nginxLocation] == "" || n[nginxProxy] == "" {
			t.Fatal("nothing to try")
		}
		servertest.Start(t, servertest.Nginx, servertest.Config{TLS: true, Extra: "location /x { fastcgi_pass tandem; " + n[nginxLocation] + n[nginxAny] + "}\n" +
			"location /y { proxy_pass http://127.0.0.1:1; " + n[nginxProxy] + n[nginxAny] + "}"})
	})
	t.Run("apache", func(t *testing.T) {
		var hosts, locations string
		for where, text := range lines["apache"] {
			switch where {
			case apacheFcgid:
			case apacheFilter, apacheCGI, apacheSection:
				locations += text
			default:
				if !strings.Contains(text, "Protocols") && !strings.Contains(text, "ProxyPass") {
					hosts += text
				}
			}
		}
		if hosts == "" || locations == "" || lines["apache"][apacheFcgid] == "" {
			t.Fatal("nothing to try")
		}
		servertest.Start(t, servertest.Apache, servertest.Config{Binary: servertest.Binary(t), TLS: true,
			Extra: hosts + lines["apache"][apacheFcgid] + "Protocols h2 http/1.1\n<Location /x>\n" + locations + "</Location>\n<Directory /x>\n" + locations + "</Directory>\n"})
		for _, r := range catalogue {
			if r.family == "apache" && r.way == "mod_proxy_fcgi" {
				servertest.Start(t, servertest.Apache, servertest.Config{Extra: "<Location /x>\n" + strings.Join(r.lines, "\n") + "\n</Location>\n"})
			}
		}
	})
	t.Run("lighttpd", func(t *testing.T) {
		if lines["lighttpd"][lighttpdURL] == "" {
			t.Fatal("nothing to try")
		}
		servertest.Start(t, servertest.Lighttpd, servertest.Config{Extra: `server.modules += ("mod_deflate")` + "\n" + `$HTTP["url"] =~ "^/x" {` + "\n" + lines["lighttpd"][lighttpdURL] + "}\n"})
	})
}

func TestMeasure(t *testing.T) {
	const step = 40 * time.Millisecond
	start := time.Now()
	at := func(written, came int, size int, event string) line { // in steps
		return line{Line: probe.Line{At: int64(written) * step.Microseconds(), Event: event}, came: start.Add(time.Duration(came)*step + 7*time.Millisecond), size: size}
	}
	for _, c := range []struct {
		name  string
		lines []line
		want  holding
	}{
		{"nothing came", nil, holding{}},
		{"in time", []line{at(0, 0, 32, ""), at(1, 1, 32, ""), at(2, 2, 64, ""), at(9, 9, 10, probe.End)}, holding{}},
		{"until a buffer is full", []line{at(0, 2, 32, ""), at(1, 2, 32, ""), at(2, 2, 64, ""), at(3, 3, 128, ""), at(9, 9, 10, probe.End)}, holding{held: true, bytes: 128}},
		{"until the end", []line{at(0, 9, 32, ""), at(1, 9, 32, ""), at(2, 9, 64, ""), at(9, 9, 10, probe.End)}, holding{held: true, bytes: 138, atEnd: true}},
		{"later ones", []line{at(0, 0, 32, ""), at(1, 3, 32, ""), at(2, 3, 64, ""), at(3, 3, 128, ""), at(9, 9, 10, probe.End)}, holding{held: true, bytes: 224}},
		{"a busy machine", []line{at(0, 0, 32, ""), at(1, 1, 9000, ""), at(2, 5, 10000, ""), at(3, 5, 20000, ""), at(9, 9, 10, probe.End)}, holding{}},
		{"the end is late", []line{at(0, 0, 32, ""), at(1, 1, 32, ""), at(9, 12, 10, probe.End)}, holding{}},
	} {
		if got := measure(c.lines, step); got != c.want {
			t.Errorf("%s: got %+v, expected %+v", c.name, got, c.want)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, v := range [][2]string{{"1.22.1", "1.25.1"}, {"1.4.9", "1.4.56"}, {"2.4", "2.4.13"}, {"1.9", "1.10"}, {"1.99", "2"}} {
		if !older(v[0], v[1]) || older(v[1], v[0]) {
			t.Errorf("%s is older than %s", v[0], v[1])
		}
	}
	if older("1.2.0", "1.2") || older("1.2", "1.2.0") {
		t.Error("1.2 is 1.2.0")
	}
}

func TestNewHop(t *testing.T) {
	for name, want := range map[string]Hop{
		"nginx/1.22.1":           {Family: "nginx", Version: "1.22.1"},
		"nginx":                  {Family: "nginx"},
		"openresty/1.25.3.1":     {Family: "nginx", Version: "1.25.3.1"},
		"Apache/2.4.71 (Debian)": {Family: "apache", Version: "2.4.71"},
		"lighttpd/1.4.69":        {Family: "lighttpd", Version: "1.4.69"},
		"Caddy/v2.6.2":           {Family: "caddy", Version: "2.6.2"},
		"proxy (squid/5.7)":      {Family: "squid", Version: "5.7"},
		"gws":                    {},
		"\x1b[31m nginx":         {Family: "nginx"},
	} {
		got := newHop(name, "", "", "")
		if got.Family != want.Family || got.Version != want.Version || strings.ContainsRune(got.Name, '\x1b') {
			t.Errorf("%q: got %+v", name, got)
		}
	}
}
