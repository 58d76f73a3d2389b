package main

import (
	"bytes"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// What a request may carry: words of its query as arguments (RFC 3875 section
// 4.4), and variables. None may be taken for configuration.
var hostile = []struct {
	name string
	args []string
	vars map[string]string
}{
	{"serve --app program", []string{"serve", "--app", "program"}, nil},
	{"serve -- id", []string{"serve", "--http", "127.0.0.1:0", "--", "/usr/bin/id"}, nil},
	{"-c other", []string{"-c", "$OTHER"}, nil},
	{"-c glued", []string{"-c$OTHER"}, nil},
	{"--config=", []string{"--config=$OTHER"}, nil},
	{"-c /etc/passwd", []string{"-c/etc/passwd"}, nil},
	{"the other file", []string{"$OTHER"}, nil},
	{"the other script", []string{"$SCRIPT"}, nil},
	{"the binary", []string{"$BINARY"}, nil},
	{"--help", []string{"--help"}, nil},
	{"config show", []string{"config", "show"}, nil},
	{"version", []string{"version"}, nil},
	{"connect", []string{"connect", "http://127.0.0.1:1/"}, nil},
	{"--", []string{"--"}, nil},
	{"an empty argument", []string{""}, nil},
	{"bytes", []string{"\xff\xfe\n\x1b[2J"}, nil},
	{"many arguments", slices.Repeat([]string{"-v"}, 2000), nil},

	{"query", nil, map[string]string{"QUERY_STRING": "serve+--app+program&TANDEM_CONFIG=$OTHER&TANDEM_ENDPOINT=id"}},
	{"path", nil, map[string]string{"PATH_INFO": "/-c/$OTHER"}},
	{"path translated", nil, map[string]string{"PATH_TRANSLATED": "$SCRIPT"}},
	{"Tandem-Config", nil, map[string]string{"HTTP_TANDEM_CONFIG": "$OTHER"}},
	{"Tandem-Endpoint", nil, map[string]string{"HTTP_TANDEM_ENDPOINT": "id"}},
	{"Proxy", nil, map[string]string{"HTTP_PROXY": "http://127.0.0.1:1/"}},
	{"LD_PRELOAD as a header", nil, map[string]string{"HTTP_LD_PRELOAD": "/tmp/x.so"}},
	{"User-Agent of a shell", nil, map[string]string{"HTTP_USER_AGENT": "() { :;}; /usr/bin/id"}},
	{"GATEWAY_INTERFACE as a header", nil, map[string]string{"HTTP_GATEWAY_INTERFACE": "x"}},
	{"redirected", nil, map[string]string{"REDIRECT_TANDEM_CONFIG": "$OTHER", "REDIRECT_TANDEM_ENDPOINT": "id"}},
}

// Beside them, params that a web server's configuration could pass on from a
// request by mistake; a CGI process has the like from its server's own environment.
var hostileParams = map[string]string{
	"LD_PRELOAD": "/tmp/x.so", "LD_LIBRARY_PATH": "/tmp", "BASH_ENV": "/tmp/x.sh", "ENV": "/tmp/x.sh",
	"SHELLOPTS": "xtrace", "PATH": "/tmp", "LANG": "xx_XX", "IFS": "/", "PYTHONPATH": "/tmp", "PERL5OPT": "-Mx",
	"NODE_OPTIONS": "--require /tmp/x.js", "TANDEM_CONFIG": "$OTHER", "TANDEM_SESSION": "x", "HTTP_PROXY": "http://127.0.0.1:1/",
	"http_proxy": "http://127.0.0.1:1/", "LISTEN_FDS": "1", "FCGI_WEB_SERVER_ADDRS": "192.0.2.1", "GODEBUG": "inittrace=1",
}

// hostileSetup writes the configuration that must hold, whose program prints
// its environment, and the others that must not be reached.
func hostileSetup(t *testing.T) (config string, fill func(string) string) {
	t.Helper()
	env, err := exec.LookPath("env")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := exec.LookPath("tandem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config = filepath.Join(dir, "good.toml")
	other := filepath.Join(dir, "other.toml")
	script := filepath.Join(dir, "script")
	const id = "app = 'program'\ncommand = '/usr/bin/id'\n"
	writeFile(t, config, "[log]\nlevel = 'error'\n[endpoint.env]\npath = '/'\ncommand = '"+env+"'\n[endpoint.id]\npath = '/id/only/here'\ncommand = '/usr/bin/id'\n")
	writeFile(t, other, id)
	writeFile(t, script, "#!"+binary+"\n"+id)
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	return config, strings.NewReplacer("$OTHER", other, "$SCRIPT", script, "$BINARY", binary).Replace
}

var request = map[string]string{
	"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1", "GATEWAY_INTERFACE": "CGI/1.1", "SCRIPT_NAME": "/cgi-bin/tandem",
	"SERVER_SOFTWARE": "test", "REMOTE_ADDR": "192.0.2.7", "HTTP_ACCEPT": "*/*",
}

// allowed are the names that a program's environment may have.
var allowed = regexp.MustCompile(`^(PATH|LANG|TANDEM_SESSION|AUTH_TYPE|GATEWAY_INTERFACE|PATH_INFO|PATH_TRANSLATED|QUERY_STRING|` +
	`REMOTE_(ADDR|HOST|IDENT|USER)|REQUEST_METHOD|SCRIPT_NAME|SERVER_(NAME|PORT|PROTOCOL|SOFTWARE)|HTTP_[A-Z0-9_]+)=`)

// checkUnmoved checks that response is that of the program env, with nothing in
// its environment that the request put there.
func checkUnmoved(t *testing.T, response string) {
	t.Helper()
	head, body, _ := strings.Cut(strings.ReplaceAll(response, "\r\n", "\n"), "\n\n")
	if !strings.HasPrefix(head, "Status: 200 ") || !strings.Contains(body, "\nTANDEM_SESSION=") {
		t.Fatalf("not the answer of the configured program:\n%s", response)
	}
	for line := range strings.Lines(body) {
		if !allowed.MatchString(line) || strings.HasPrefix(line, "HTTP_PROXY=") {
			t.Errorf("in the program's environment: %s", line)
		}
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); {
		case name == "PATH" && strings.Contains(value, "tmp"), name == "LANG" && value != "C.UTF-8", name == "TANDEM_SESSION" && len(value) < 20:
			t.Errorf("changed by the request: %s", line)
		}
	}
}

func TestHostileCGI(t *testing.T) {
	config, fill := hostileSetup(t)
	run := func(t *testing.T, args []string, vars map[string]string) {
		env := []string{"TANDEM_CONFIG=" + config}
		all := maps.Clone(request)
		all["SCRIPT_FILENAME"] = fill("$BINARY")
		maps.Copy(all, vars)
		for k, v := range all {
			env = append(env, k+"="+fill(v))
		}
		filled := make([]string, len(args))
		for i, a := range args {
			filled[i] = fill(a)
		}
		cmd := tandem(t, env, filled...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("%v, on stderr: %s", err, stderr.String())
		}
		checkUnmoved(t, string(out))
	}
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) { run(t, h.args, h.vars) })
	}
	t.Run("environment", func(t *testing.T) {
		// LD_PRELOAD, PATH and the like are real in this process: only what the
		// program gets of them is looked at.
		vars := maps.Clone(hostileParams)
		for _, k := range []string{"TANDEM_CONFIG", "LD_PRELOAD", "GODEBUG"} { // those are the server's to set
			delete(vars, k)
		}
		run(t, nil, vars)
	})
}

func TestHostileFastCGI(t *testing.T) {
	config, fill := hostileSetup(t)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := tandem(t, []string{"TANDEM_CONFIG=" + config})
	cmd.Stdin = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	run := func(t *testing.T, vars map[string]string) {
		params := maps.Clone(request)
		maps.Copy(params, vars)
		for k, v := range params {
			params[k] = fill(v)
		}
		checkUnmoved(t, fastCGI(t, socket, params, ""))
	}
	for _, h := range hostile {
		if h.vars != nil {
			t.Run(h.name, func(t *testing.T) { run(t, h.vars) })
		}
	}
	for k, v := range hostileParams {
		t.Run(k, func(t *testing.T) { run(t, map[string]string{k: v}) })
	}
}

// The check itself must be able to fail: what the web server's own
// configuration says does change the endpoint and the file.
func TestServerConfigurationCounts(t *testing.T) {
	config, fill := hostileSetup(t)
	for _, env := range [][]string{
		{"TANDEM_CONFIG=" + config, "TANDEM_ENDPOINT=id"},
		{"TANDEM_CONFIG=" + fill("$OTHER")},
		{"SCRIPT_FILENAME=" + fill("$SCRIPT"), "ARG=" + fill("$SCRIPT")},
	} {
		var args []string
		for k, v := range request {
			env = append(env, k+"="+v)
		}
		for _, kv := range env {
			if a, ok := strings.CutPrefix(kv, "ARG="); ok {
				args = []string{a}
			}
		}
		cmd := tandem(t, env, args...)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), "uid=") {
			t.Errorf("%q: %v\n%s", env[0], err, out)
		}
	}
}
