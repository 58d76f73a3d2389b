package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const full = `#!/usr/bin/tandem
state_dir = "state"
http = ["127.0.0.1:8080", "unix:http.sock"]
drain = "3m"

[fastcgi]
listen = "unix:/run/tandem/tandem.sock"
mode = "0600"
group = "www-data"
public = true
max_connections = 20
allowed = ["127.0.0.1", "::1"]
relay_users = ["www-data", "33"]
engine = "net/http"

[metrics]
listen = ["127.0.0.1:9090", "unix:metrics.sock"]
mode = "0640"

[log]
level = "debug"
format = "json"

[limits]
sessions = 1
sessions_per_user = 2
sessions_per_address = 3
children = 4
children_per_user = 5

[endpoint.chat]
path = "/chat/"
command = ["bin/chat", "-v", "tab\there"]
dir = "/srv"
env = { K = "V", "B" = "a\\b\"c" }
pass_env = "LANG"
framing = "netstring"
stderr = "both"
stdin_grace = "100ms"
term_grace = "1m30s"
max_message = "2 MiB"
lines_buffer = 5000000
heartbeat = "1s"
max_life = "24h"
max_idle = "5m"
grace = "45s"
origins = ["https://example.org", "http://Localhost:8080"]
probe = false

[endpoint.echo]
app = "echo"
max_message = "32MiB"
`

const hubA = "[endpoint.a]\napp = 'hub'\ndatabase = '/x/hub.db'\n"

const fullHub = `[endpoint.news]
app = "hub"
database = "hub.db"
database_sync = true
history_age = "24h"
history_events = 1000
history_bytes = "1GiB"
url = "https://example.org/.well-known/mercure"
publisher_keys = "keys/publisher.pem"
subscriber_keys = ["keys/a.jwks", "/b"]
issuers = "https://issuer.example"
cookie = "c"
strict = true
anonymous = false
publish_users = ["ann", "bob"]
presence = true
max_data = "64KiB"
max_matchers = 7
max_subscribers = 12
queue_events = 8
queue_bytes = "2MiB"
slow = ["keep-latest   /prices/*", "drop-oldest *"]
`

func TestParseHub(t *testing.T) {
	c, err := Parse("/etc/x/tandem.toml", fullHub)
	if err != nil {
		t.Fatal(err)
	}
	want := newHub()
	want.Database, want.DatabaseSync = "/etc/x/hub.db", true
	want.HistoryAge, want.HistoryEvents, want.HistoryBytes = 24*time.Hour, 1000, 1<<30
	want.URL, want.PublisherKeys, want.SubscriberKeys = "https://example.org/.well-known/mercure", []string{"/etc/x/keys/publisher.pem"}, []string{"/etc/x/keys/a.jwks", "/b"}
	want.Issuers, want.Cookie, want.Strict, want.Anonymous = []string{"https://issuer.example"}, "c", true, false
	want.PublishUsers, want.Presence = []string{"ann", "bob"}, true
	want.MaxData, want.MaxMatchers, want.MaxSubscribers, want.QueueEvents, want.QueueBytes = 64<<10, 7, 12, 8, 2<<20
	want.Slow = []string{"keep-latest /prices/*", "drop-oldest *"}
	if got := c.Endpoints[0].Hub; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseFull(t *testing.T) {
	c, err := Parse("/etc/x/tandem.toml", full)
	if err != nil {
		t.Fatal(err)
	}
	chat, echo := c.Endpoints[0], c.Endpoints[1]
	want := &Endpoint{
		Name: "chat", Path: "/chat", App: AppProgram,
		Command: []string{"/etc/x/bin/chat", "-v", "tab\there"}, Dir: "/srv",
		Env: map[string]string{"K": "V", "B": `a\b"c`}, PassEnv: []string{"LANG"},
		Framing: "netstring", Stderr: "both", StdinGrace: 100 * time.Millisecond, TermGrace: 90 * time.Second,
		MaxMessage: 2 << 20, LinesBuffer: 5000000, Heartbeat: time.Second, MaxLife: 24 * time.Hour, MaxIdle: 5 * time.Minute, Grace: 45 * time.Second,
		Origins: []string{"https://example.org", "http://localhost:8080"}, Hub: newHub(),
	}
	if !reflect.DeepEqual(chat, want) {
		t.Errorf("chat:\n got %+v\nwant %+v", chat, want)
	}
	if echo.App != AppEcho || echo.LinesBuffer != 32<<20 {
		t.Errorf("echo: %+v; expected lines_buffer to follow max_message", echo)
	}
	if echo.Grace != 30*time.Second {
		t.Errorf("grace by default: %v", echo.Grace)
	}
	if c.StateDir != "/etc/x/state" || !slices.Equal(c.FastCGI.RelayUsers, []string{"www-data", "33"}) {
		t.Errorf("state_dir %q, relay_users %q", c.StateDir, c.FastCGI.RelayUsers)
	}
	if c.FastCGI.Engine != EngineNetHTTP {
		t.Errorf("engine %q", c.FastCGI.Engine)
	}
	if got := c.HTTP.Listen; !slices.Equal(got, []string{"127.0.0.1:8080", "unix:/etc/x/http.sock"}) {
		t.Errorf("http: %q", got)
	}
	if c.FastCGI.Mode != 0o600 || c.FastCGI.Group != "www-data" || !c.FastCGI.Public || len(c.FastCGI.Allowed) != 2 {
		t.Errorf("fastcgi: %+v", c.FastCGI)
	}
	if got := c.Metrics; !slices.Equal(got.Listen, []string{"127.0.0.1:9090", "unix:/etc/x/metrics.sock"}) || got.Mode != 0o640 || got.Public {
		t.Errorf("metrics: %+v", got)
	}
	if (c.Limits != Limits{1, 2, 3, 4, 5}) || (c.Log != Log{"debug", "json"}) || c.Drain != 3*time.Minute {
		t.Errorf("limits %+v, log %+v, drain %v", c.Limits, c.Log, c.Drain)
	}
}

// What Show prints must be read back as the same configuration.
func TestShowRoundTrip(t *testing.T) {
	for name, data := range map[string]string{
		"full":      full,
		"top level": "command = [\"/bin/cat\"]\nheartbeat = '2s'\n",
		"front":     "relay = 'unix:tandem.sock'\n",
		"least":     "[endpoint.a]\napp = 'echo'\n",
		"hub":       fullHub,
		"hub, NATS": "app = 'hub'\nnats = ['nats://a:4222', 'tls://b']\nnats_credentials = 'x.creds'\nnats_replicas = 3\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("/etc/x/tandem.toml", data)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := c.Show(&b); err != nil {
				t.Fatal(err)
			}
			again, err := Parse("/etc/x/tandem.toml", b.String())
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			// Empty and absent lists are the same thing; Show writes both as [].
			var x, y bytes.Buffer
			c.file, again.file = nil, nil
			c.Show(&x)
			again.Show(&y)
			if x.String() != y.String() {
				t.Errorf("first:\n%s\nread back:\n%s", x.String(), y.String())
			}
		})
	}
}

func TestShowMarksDefaults(t *testing.T) {
	c, err := Parse("t.toml", "http = ':80'\n[endpoint.a]\napp = 'echo'\nmax_idle = '1m'\n")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c.Show(&b)
	for _, line := range []string{
		"drain = \"10s\"  # default\n", "listen = [\":80\"]\n", "max_idle = \"1m\"\n", "max_life = \"0s\"  # default\n",
	} {
		if !strings.Contains(b.String(), "\n"+line) {
			t.Errorf("no line %q in\n%s", line, b.String())
		}
	}
	if strings.Contains(b.String(), "framing") {
		t.Errorf("keys of programs shown for an echo endpoint:\n%s", b.String())
	}
}

// A front needs nothing but the daemon's socket.
func TestParseRelay(t *testing.T) {
	c, err := Parse("/etc/x/tandem.toml", "relay = 'unix:run/tandem.sock'\n[fastcgi]\nlisten = 'unix:front.sock'\n")
	if err != nil || c.Relay != "/etc/x/run/tandem.sock" || len(c.Endpoints) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := c.BlameTop("relay", errors.New("x")); err.Error() != "/etc/x/tandem.toml:1: relay: x" {
		t.Errorf("blamed: %v", err)
	}
	if err := c.BlameTop("drain", errors.New("x")); err.Error() != "/etc/x/tandem.toml: drain: x" {
		t.Errorf("blamed: %v", err)
	}
}

// Every error names file, line and key, and what would be valid.
func TestParseErrors(t *testing.T) {
	const echo = "[endpoint.a]\napp = 'echo'\n"
	for _, tt := range []struct {
		name, data string
		want       []string // one for each error: its beginning, "…", and what else it says
	}{
		{"relay to TCP", "\nrelay = '127.0.0.1:9000'\n", []string{`t.toml:2: relay: got "127.0.0.1:9000", expected "unix:/path/to.sock"`}},
		{"relay to an abstract socket", "relay = 'unix:@x'\n", []string{`t.toml:1: relay: got "unix:@x"`}},
		{"relay of no kind", "relay = true\n", []string{`t.toml:1: relay: expected a string, got true`}},
		{"no relay", "relay = ''\n", []string{`t.toml: no endpoint`}},
		{"relay and endpoints", echo + "[endpoint.b]\napp='echo'\nrelay='unix:/x'\n", []string{`t.toml:5: endpoint.b.relay: …top of the file`}},
		{"relay beside endpoints", "relay = 'unix:/x'\n" + echo, []string{`t.toml:1: relay: a front serves no endpoint itself`}},
		{"relay beside an endpoint", "app = 'echo'\nrelay = 'unix:/x'\n", []string{`t.toml:2: relay: a front serves no endpoint itself`}},
		{"relay of HTTP", "relay = 'unix:/x'\nhttp = ':80'\n", []string{`t.toml:1: relay: only CGI and FastCGI`}},
		{"relay to itself", "relay = 'unix:/x/s'\n[fastcgi]\nlisten = 'unix:/x/s'\n", []string{`t.toml:1: relay: …round in circles`}},
		{"state_dir", "state_dir = 3\n" + echo, []string{`t.toml:1: state_dir: expected a string`}},
		{"syntax", "\n\nhttp = \n", []string{"t.toml:3: http: …expected value"}},
		{"duplicate key", "drain='1s'\ndrain='2s'\n" + echo, []string{"t.toml:2: drain: …already been defined"}},
		{"unknown key", "\ndrian = '1s'\n" + echo, []string{`t.toml:2: drian: unknown key; did you mean "drain"?`}},
		{"unknown table", "[endpont.a]\napp='echo'\n", []string{`t.toml:1: endpont: unknown key; did you mean "endpoint"?`}},
		{"unknown implicit table", "\n[a.b.c]\nd=1\n", []string{`t.toml:2: a: unknown key; valid here: …limits`}},
		{"unknown endpoint key", echo + "comand = 'x'\n", []string{`t.toml:3: endpoint.a.comand: …did you mean "command"?`}},
		{"no key like it", echo + "zzz = 1\n", []string{`t.toml:3: endpoint.a.zzz: unknown key; valid here: …app, command…origins`}},
		{"key of another table", echo + "sessions = 3\n", []string{`t.toml:3: endpoint.a.sessions: …belongs in [limits]`}},
		{"top key in a table", "[fastcgi]\ndrain = '1s'\n" + echo, []string{`t.toml:2: fastcgi.drain: …top of the file`}},
		{"case counts", echo + "Path = '/x'\n", []string{`t.toml:3: endpoint.a.Path: …did you mean "path"?`}},
		{"quoted key", echo + "'a \"b' = 1\n", []string{`t.toml:3: endpoint.a."a \"b": unknown key`}},
		{"wrong app", "[endpoint.a]\napp = 'prgoram'\n", []string{`t.toml:2: endpoint.a.app: …one of echo, program, hub; did you mean "program"?`}},
		{"number for text", "[endpoint.a]\napp = 3\n", []string{`t.toml:2: endpoint.a.app: got 3, expected one of`}},
		{"text for number", "[limits]\nsessions = '3'\n" + echo, []string{`t.toml:2: limits.sessions: expected a whole number…got "3"`}},
		{"negative", "[limits]\nchildren = -1\n" + echo, []string{`t.toml:2: limits.children: …got -1`}},
		{"text for bool", "[fastcgi]\npublic = 'yes'\n" + echo, []string{`t.toml:2: fastcgi.public: expected true or false`}},
		{"duration without unit", echo + "heartbeat = 15\n", []string{`t.toml:3: endpoint.a.heartbeat: …"15s"…got 15`}},
		{"duration negative", echo + "max_idle = '-1s'\n", []string{`t.toml:3: endpoint.a.max_idle: …from 0s`}},
		{"heartbeat off", echo + "heartbeat = '0s'\n", []string{`t.toml:3: endpoint.a.heartbeat: …from 50ms to 1h, got "0s"`}},
		{"size", echo + "max_message = '1 MBit'\n", []string{`t.toml:3: endpoint.a.max_message: …"64KiB"…got "1 MBit"`}},
		{"size overflow", echo + "max_message = '99999999999GiB'\n", []string{`t.toml:3: endpoint.a.max_message: expected`}},
		{"size zero", echo + "max_message = 0\n", []string{`t.toml:3: endpoint.a.max_message: …from 1B to 1GiB`}},
		{"mode", "[fastcgi]\nmode = '660x'\n" + echo, []string{`t.toml:2: fastcgi.mode: …octal`}},
		{"mode of setuid", "[fastcgi]\nmode = '4660'\n" + echo, []string{`t.toml:2: fastcgi.mode: …octal`}},
		{"address", "http = 'localhost'\n" + echo, []string{`t.toml:1: http: "localhost" is no address`}},
		{"address a path", "[fastcgi]\nlisten = ['/run/x.sock']\n" + echo, []string{`t.toml:2: fastcgi.listen: …unix:/path`}},
		{"metrics address", "[metrics]\nlisten = 'localhost'\n" + echo, []string{`t.toml:2: metrics.listen: "localhost" is no address`}},
		{"http table", "[http]\nlisten = 3\n" + echo, []string{`t.toml:2: http.listen: expected a string or a list`}},
		{"http of a wrong type", "http = 3\n" + echo, []string{`t.toml:1: http: expected a string or a list`}},
		{"allowed", "[fastcgi]\nallowed = 'localhost'\n" + echo, []string{`t.toml:2: fastcgi.allowed: "localhost" is not an IP`}},
		{"table expected", "fastcgi = 'unix:/x'\n" + echo, []string{`t.toml:1: fastcgi: expected a table, [fastcgi], got "unix:/x"`}},
		{"endpoint no table", "endpoint = 'x'\n", []string{`t.toml:1: endpoint: expected a table`}},
		{"endpoints in a list", "[[endpoint]]\napp='echo'\n", []string{`t.toml:1: endpoint: expected a table`}},
		{"endpoint value", "[endpoint]\napp = 'echo'\n", []string{`t.toml:2: endpoint.app: expected a table, [endpoint.app]`}},
		{"endpoint name", "[endpoint.'a b']\napp = 'echo'\n", []string{`t.toml:1: endpoint."a b": …letters, digits`}},
		{"shell words", "[endpoint.a]\ncommand = 'bc -q'\n", []string{`t.toml:2: endpoint.a.command: no shell…["bc", "-q"]`}},
		{"empty command", "[endpoint.a]\ncommand = []\n", []string{`t.toml:2: endpoint.a.command: …program to run`}},
		{"NUL", "[endpoint.a]\ncommand = ['/bin/cat', \"\\u0000\"]\n", []string{`t.toml:2: endpoint.a.command: …NUL`}},
		{"env list", "[endpoint.a]\ncommand='cat'\nenv = ['A=B']\n", []string{`t.toml:3: endpoint.a.env: expected a table`}},
		{"env value", "[endpoint.a]\ncommand='cat'\nenv = { A = 1 }\n", []string{`t.toml:3: endpoint.a.env: A: expected a string`}},
		{"env name", "[endpoint.a]\ncommand='cat'\npass_env = ['A=B']\n", []string{`t.toml:3: endpoint.a.pass_env: "A=B" can't be`}},
		{"any origin", echo + "origins = ['*', 'https://x/']\n", []string{`t.toml:3: endpoint.a.origins: "https://x/" is no origin`}},
		{"path", echo + "path = 'chat'\n", []string{`t.toml:3: endpoint.a.path: …begins with "/"`}},
		{"path unclean", echo + "path = '/a/../b'\n", []string{`t.toml:3: endpoint.a.path: …write "/b"`}},
		{"path pattern", echo + "path = '/a/*'\n", []string{`t.toml:3: endpoint.a.path: …segments`}},
		{"origin", echo + "origins = 'example.org'\n", []string{`t.toml:3: endpoint.a.origins: "example.org" is no origin`}},
		{"origin with a path", echo + "origins = 'https://example.org/'\n", []string{`t.toml:3: endpoint.a.origins: …no origin`}},
		{"same path", echo + "path='/x'\n[endpoint.b]\napp='echo'\npath='/x/'\n", []string{`t.toml:6: endpoint.b.path: "/x" is the path of [endpoint.a] already`}},
		{"no app", "\n[endpoint.a]\npath = '/x'\n", []string{`t.toml:2: endpoint.a: the endpoint has no app`}},
		{"no app at top", "\nmax_idle = '1s'\n", []string{`t.toml: app: the endpoint has no app`}},
		{"no command", "[endpoint.a]\n\napp = 'program'\n", []string{`t.toml:3: endpoint.a.app: …needs command`}},
		{"echo with a command", echo + "command = 'cat'\n", []string{`t.toml:3: endpoint.a.command: only app = "program"`}},
		{"echo with a key of hubs", echo + "presence = true\n", []string{`t.toml:3: endpoint.a.presence: only app = "hub"`}},
		{"hub with a command", hubA + "command = 'cat'\n", []string{`t.toml:4: endpoint.a.command: only app = "program"`}},
		{"hub without storage", "[endpoint.a]\napp = 'hub'\n", []string{`t.toml:2: endpoint.a.app: app = "hub" needs database…or nats`}},
		{"hub with two storages", hubA + "nats = 'nats://x'\n", []string{`t.toml:4: endpoint.a.nats: …not both`}},
		{"hub with a key of NATS", hubA + "nats_ca = 'x'\n", []string{`t.toml:4: endpoint.a.nats_ca: only a hub with nats`}},
		{"NATS with a key of databases", "[endpoint.a]\napp = 'hub'\nnats = 'nats://x'\ndatabase_sync = true\n", []string{`t.toml:4: endpoint.a.database_sync: only a hub with a database`}},
		{"NATS server", "[endpoint.a]\napp = 'hub'\nnats = 'x:4222'\n", []string{`t.toml:3: endpoint.a.nats: "x:4222" is no NATS server`}},
		{"NATS password", "[endpoint.a]\napp = 'hub'\nnats = 'nats://u:secret@h:x'\n", []string{`t.toml:3: endpoint.a.nats: this is no NATS server`}},
		{"NATS replicas", "[endpoint.a]\napp = 'hub'\nnats = 'nats://x'\nnats_replicas = 2\n", []string{`t.toml:4: endpoint.a.nats_replicas: got 2, expected 1, 3 or 5`}},
		{"hub URL", hubA + "url = '/.well-known/mercure'\n", []string{`t.toml:4: endpoint.a.url: …public URL`}},
		{"keys without URL", hubA + "publisher_keys = 'x'\n", []string{`t.toml:4: endpoint.a.publisher_keys: …url = `}},
		{"nobody may subscribe", hubA + "anonymous = false\n", []string{`t.toml:4: endpoint.a.anonymous: …nobody`}},
		{"open with keys", hubA + "publish = 'anyone'\npublisher_keys = 'x'\nurl = 'https://x/'\n", []string{`t.toml:4: endpoint.a.publish: "anyone"`}},
		{"slow policy", hubA + "slow = ['drop /x']\n", []string{`t.toml:4: endpoint.a.slow: got "drop /x", expected one of disconnect`}},
		{"slow without a pattern", hubA + "slow = ['keep-latest']\n", []string{`t.toml:4: endpoint.a.slow: …topic or URL pattern`}},
		{"buffer too small", echo + "lines_buffer = '1KiB'\n", []string{`t.toml:3: endpoint.a.lines_buffer: 1KiB can't hold one message of max_message = 1MiB`}},
		{"drain too short", "drain = '1s'\n[endpoint.a]\ncommand='cat'\n", []string{`t.toml:1: drain: 1s would leave programs of [endpoint.a] behind…are 2s together`}},
		{"no endpoint", "# nothing\n", []string{`t.toml: no endpoint: add [endpoint.NAME]`}},
		{"both forms", "app = 'echo'\n" + echo, []string{`t.toml:1: app: an endpoint's key outside of`}},
		{"all at once", "drian='1s'\n[limits]\nsessions='x'\n[endpoint.a]\napp='ehco'\n",
			[]string{`t.toml:1: drian`, `t.toml:3: limits.sessions`, `t.toml:5: endpoint.a.app`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("t.toml", tt.data)
			if err == nil {
				t.Fatal("no error")
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%T is no *Error", err)
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("got %d errors, expected %d:\n%v", len(got), len(tt.want), err)
			}
			for i, want := range tt.want {
				parts := strings.Split(want, "…")
				rest, ok := strings.CutPrefix(got[i], parts[0])
				for _, p := range parts[1:] {
					_, after, found := strings.Cut(rest, p)
					rest, ok = after, ok && found
				}
				if !ok {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
			}
		})
	}
}

func TestLoadFileErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string, perm os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, perm); err != nil { // past the umask
			t.Fatal(err)
		}
		return p
	}
	for name, tt := range map[string]struct{ file, want string }{
		"absent":         {filepath.Join(dir, "none"), "no such file"},
		"folder":         {dir, "expected a file"},
		"device":         {"/dev/zero", "expected a file"},
		"world-writable": {write("open.toml", "app='echo'\n", 0o666), "chmod o-w"},
		"huge":           {write("huge.toml", strings.Repeat("#\n", maxFile/2+1), 0o600), "too many"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(Place{tt.file, "TANDEM_CONFIG"})
			if err == nil || !strings.HasPrefix(err.Error(), tt.file+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, expected the file and %q", err, tt.want)
			}
		})
	}
	c, err := Load(Place{write("good.toml", "app='echo'\n", 0o664), "-c"})
	if err != nil || c.Source != "-c" || c.Endpoints[0].Name != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

// An unset drain follows the time that programs are given to stop.
func TestDrainFollowsGraces(t *testing.T) {
	c, err := Parse("t.toml", "command = 'cat'\nterm_grace = '1m'\n")
	if err != nil || c.Drain != 62*time.Second {
		t.Errorf("drain %v, %v; expected 1s + 1m + 1s", c.Drain, err)
	}
}

func TestFromArgs(t *testing.T) {
	for _, tt := range []struct {
		app     string
		command []string
		want    string // the app, or a part of the error
	}{
		{"echo", nil, AppEcho},
		{"", []string{"cat"}, AppProgram},
		{"program", []string{"cat"}, AppProgram},
		{"program", nil, "after --"},
		{"echo", []string{"cat"}, "leave out either"},
		{"ehco", nil, `no app "ehco"`},
		{"", nil, "no app"},
	} {
		c, err := FromArgs(tt.app, tt.command)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q %q: %v, expected %q", tt.app, tt.command, err, tt.want)
			}
		} else if c.Endpoints[0].App != tt.want {
			t.Errorf("%q %q: %+v, expected %q", tt.app, tt.command, c.Endpoints[0], tt.want)
		}
	}
}

func TestBlame(t *testing.T) {
	c, err := Parse("t.toml", "\n[endpoint.a]\ncommand = '/none'\n[endpoint.b]\napp = 'echo'\n")
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	for key, want := range map[string]string{
		"command": "t.toml:3: endpoint.a.command: gone", // given: its line
		"dir":     "t.toml:2: endpoint.a.dir: gone",     // not given: its table's
	} {
		if err := c.Blame(c.Endpoints[0], key, gone); err.Error() != want || !errors.Is(err, gone) {
			t.Errorf("got %v, expected %s", err, want)
		}
	}
	if err := Default().Blame(NewEndpoint(""), "command", gone); err.Error() != "command: gone" {
		t.Errorf("without a file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("[a.b.c]\nd=1\n")
	f.Add("endpoint.x.y.z=1\n")
	f.Add("[[endpoint.a]]\n[[endpoint.a]]\n")
	f.Fuzz(func(t *testing.T, data string) {
		c, err := Parse("t.toml", data)
		if err != nil {
			return
		}
		var b bytes.Buffer
		c.Show(&b)
		if _, err := Parse("t.toml", b.String()); err != nil {
			t.Errorf("what Show prints is not read back: %v\n%s", err, b.String())
		}
	})
}
