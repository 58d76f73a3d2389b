package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// overUnix is a client of what listens on socket, each request with a connection of its own.
func overUnix(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialWhenThere(ctx, socket)
	}}}
}

var (
	head   = regexp.MustCompile(`^# HELP (\w+) .+\n# TYPE (\w+) (counter|gauge)$`)
	sample = regexp.MustCompile(`^(\w+)((?:\{(?:\w+="[^"\\]*",?)+\})?) (-?[0-9.]+)$`)
)

// scrape reads the page of metrics as Prometheus does, and returns the values by name and labels.
func scrape(t *testing.T, c *http.Client) map[string]float64 {
	t.Helper()
	resp, err := c.Get("http://tandem/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s, %s, %v", resp.Status, resp.Header.Get("Content-Type"), err)
	}
	values := make(map[string]float64)
	families := make(map[string]bool)
	var family, kind string
	for lines := strings.Split(strings.TrimSuffix(string(page), "\n"), "\n"); len(lines) > 0; lines = lines[1:] {
		if strings.HasPrefix(lines[0], "#") && len(lines) > 1 {
			m := head.FindStringSubmatch(lines[0] + "\n" + lines[1])
			if m == nil || m[1] != m[2] || families[m[1]] {
				t.Fatalf("no head of a new family: %q, %q", lines[0], lines[1])
			}
			family, kind = m[1], m[3]
			families[family] = true
			lines = lines[1:]
			continue
		}
		m := sample.FindStringSubmatch(lines[0])
		if m == nil || m[1] != family || (kind == "counter") != strings.HasSuffix(family, "_total") {
			t.Fatalf("no sample of the %s %s: %q", kind, family, lines[0])
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if _, twice := values[m[1]+m[2]]; err != nil || twice {
			t.Fatalf("%q: twice %v, %v", lines[0], twice, err)
		}
		values[m[1]+m[2]] = v
	}
	return values
}

// TestMetrics: what a server tells of sessions, programs, connections and a hub with a slow subscriber.
func TestMetrics(t *testing.T) {
	cmd := tandem(t, nil, "serve", "-c", "c.toml")
	writeFile(t, filepath.Join(cmd.Dir, "c.toml"), `http = "unix:s"
[fastcgi]
listen = "unix:f"
max_connections = 1
[metrics]
listen = "unix:m"
[limits]
sessions = 30
[endpoint.cat]
path = "/cat"
command = ["cat"]
[endpoint.news]
path = "/news"
app = "hub"
database = "hub.db"
publish = "anyone"
queue_events = 4
max_subscribers = 2
`)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	metrics, web := overUnix(filepath.Join(cmd.Dir, "m")), overUnix(filepath.Join(cmd.Dir, "s"))
	before := scrape(t, metrics)
	for name, want := range map[string]float64{
		`tandem_sessions_ended_total{endpoint="cat",code="1011"}`: 0, `tandem_requests_refused_total{endpoint="news",status="503"}`: 0,
		"tandem_max_sessions": 30, "tandem_max_programs": 500, "tandem_fastcgi_max_connections": 1, "tandem_programs": 0,
		`tandem_hub_max_subscribers{endpoint="news"}`: 2, `tandem_hub_subscribers{endpoint="news"}`: 0, "tandem_fastcgi_connections": 0,
	} {
		if got, ok := before[name]; !ok || got != want {
			t.Errorf("at first %s is %v (%v), expected %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_cpu_seconds_total", "process_start_time_seconds", "go_goroutines", "go_memstats_heap_alloc_bytes"} {
		if before[name] <= 0 {
			t.Errorf("%s is %v", name, before[name])
		}
	}

	do := func(method, path, contentType string, body io.Reader) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		resp, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	// A session that ends, one that stays, and one that is refused.
	if _, err := io.ReadAll(do("POST", "/cat", "text/plain", strings.NewReader("a\n")).Body); err != nil {
		t.Fatal(err)
	}
	input, write := io.Pipe()
	defer write.Close()
	go fmt.Fprintln(write, "b")
	if line, err := bufio.NewReader(do("POST", "/cat", "text/plain", input).Body).ReadString('\n'); line != "b\n" {
		t.Fatal(line, err)
	}
	if resp := do("POST", "/cat", "image/png", nil); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Fatal(resp.Status)
	}
	// Two connections, one of them too many.
	for range 2 {
		c, err := net.Dial("unix", filepath.Join(cmd.Dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// A subscriber that reads, one that doesn't, and one too many.
	events := bufio.NewScanner(do("GET", "/news?match=a", "", nil).Body)
	events.Buffer(nil, 1<<20)
	do("GET", "/news?match=a", "", nil)
	full := do("GET", "/news?match=a", "", nil)
	if body, _ := io.ReadAll(full.Body); full.StatusCode != 503 || full.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "max_subscribers") {
		t.Errorf("beyond max_subscribers: %s %v %s", full.Status, full.Header, body)
	}
	const slow = `tandem_hub_subscribers_too_slow_total{endpoint="news"}`
	published, last := 0, make(map[string]float64)
	data := strings.Repeat("x", 64<<10)
	for ; last[slow] == 0 && published < 1000; published++ {
		post := do("POST", "/news", "application/x-www-form-urlencoded", strings.NewReader(url.Values{"topic": {"a"}, "data": {data}}.Encode()))
		if post.StatusCode != 200 {
			t.Fatal(post.Status)
		}
		for events.Scan() && events.Text() != "data: "+data {
		}
		last = scrape(t, metrics)
	}
	want := map[string]float64{
		`tandem_sessions{endpoint="cat",transport="single"}`:              1,
		`tandem_sessions_opened_total{endpoint="cat",transport="single"}`: 2,
		`tandem_sessions_ended_total{endpoint="cat",code="1000"}`:         1,
		`tandem_sessions_resumed_total{endpoint="cat"}`:                   0,
		`tandem_requests_refused_total{endpoint="cat",status="415"}`:      1,
		"tandem_programs":                                       1,
		"tandem_fastcgi_connections":                            1,
		"tandem_fastcgi_connections_refused_total":              1,
		`tandem_hub_subscribers{endpoint="news"}`:               1,
		`tandem_hub_subscribers_refused_total{endpoint="news"}`: 1,
		slow: 1,
		`tandem_hub_events_published_total{endpoint="news"}`:                    float64(published),
		`tandem_hub_publish_failures_total{endpoint="news"}`:                    0,
		`tandem_hub_gaps_total{endpoint="news"}`:                                0,
		`tandem_hub_events_dropped_total{endpoint="news",policy="drop-oldest"}`: 0,
	}
	// Subscribers, sessions and connections end beside what was waited for.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		wrong := ""
		last = scrape(t, metrics)
		for name, n := range want {
			if got, ok := last[name]; !ok || got != n {
				wrong += fmt.Sprintf("%s is %v (%v), expected %v\n", name, got, ok, n)
			}
		}
		if wrong == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
	}
	if n := last[`tandem_hub_events_delivered_total{endpoint="news"}`]; n < float64(published) || n >= 2*float64(published) {
		t.Errorf("%v of %d events delivered, expected all to one and some to the other", n, published)
	}
	if n := last[`tandem_hub_database_bytes{endpoint="news"}`]; n < float64(published*len(data)) {
		t.Errorf("database of %v bytes", n)
	}
	for path, status := range map[string]int{"/": 404, "/metrics/x": 404} {
		resp, err := metrics.Get("http://tandem" + path)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s: %v %v", path, resp, err)
			continue
		}
		resp.Body.Close()
	}
	write.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestMetricsDocumented: operations.md names all that a page has.
func TestMetricsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"server.go", "process.go"} {
		source, err := os.ReadFile("../../internal/metrics/" + file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`"((?:tandem|process|go)_\w+)"`)
		for _, m := range names.FindAllSubmatch(source, -1) {
			if name := string(m[1]); name != "tandem_build_info" && !regexp.MustCompile("`"+name+"[`{]").Match(doc) {
				t.Errorf("docs/operations.md doesn't have %s", name)
			}
		}
	}
}
