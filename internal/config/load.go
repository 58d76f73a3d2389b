package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Error is one mistake in a configuration file.
type Error struct {
	File string
	Line int    // from 1; 0: the file as a whole
	Key  string // full name, such as endpoint.chat.command; may be empty
	Err  error
}

func (e *Error) Error() string {
	text := e.Err.Error()
	if e.Key != "" {
		text = e.Key + ": " + text
	}
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, text)
	case e.File != "":
		return e.File + ": " + text
	}
	return text // from the command line
}

func (e *Error) Unwrap() error { return e.Err }

// maxFile is the largest configuration file that is read, in bytes: a device
// or a mistaken name must not fill the memory.
const maxFile = 4 << 20

// Load reads, checks and completes the file that Find found. The error joins
// an *Error for each mistake, in the order of the file.
func Load(at Place) (*Config, error) {
	info, err := os.Stat(at.File)
	if err != nil {
		return nil, &Error{File: at.File, Err: fmt.Errorf("%w (%s)", pathless(err), at.Source)}
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, &Error{File: at.File, Err: errors.New("expected a file, this is " + info.Mode().Type().String())}
	case info.Size() > maxFile:
		return nil, &Error{File: at.File, Err: fmt.Errorf("%d bytes are too many for a configuration, the limit is %d", info.Size(), maxFile)}
	case info.Mode().Perm()&0o002 != 0:
		// It names the programs that run as this user.
		return nil, &Error{File: at.File, Err: errors.New("everybody may write to it and so choose the programs that Tandem runs: chmod o-w it")}
	}
	data, err := os.ReadFile(at.File)
	if err != nil {
		return nil, &Error{File: at.File, Err: pathless(err)}
	}
	c, err := Parse(at.File, string(data))
	if err != nil {
		return nil, err
	}
	c.Source = at.Source
	return c, nil
}

// FromArgs makes the configuration of a command line: one endpoint with app
// and, for AppProgram, command. An empty app is AppProgram if there is a command.
func FromArgs(app string, command []string) (*Config, error) {
	c := Default()
	c.Source = "command line"
	e := NewEndpoint("")
	e.App, e.Command = app, command
	if app == "" && len(command) > 0 {
		e.App = AppProgram
	}
	switch {
	case e.App == AppProgram && len(command) == 0:
		return nil, errors.New(`app "program" needs the program after --, such as: tandem serve --http :8080 -- bc -q`)
	case e.App == AppEcho && len(command) > 0:
		return nil, errors.New(`app "echo" runs no program; leave out either`)
	case e.App != AppProgram && e.App != AppEcho:
		return nil, fmt.Errorf("there is no app %q, expected one of %s, %s", e.App, AppEcho, AppProgram)
	}
	c.Endpoints = []*Endpoint{e}
	return c, nil
}

// pathless takes the path off an *fs.PathError: an Error has it already.
func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Parse is Load for a text; file is its name in errors, and relative paths
// are relative to file's folder.
func Parse(file, data string) (*Config, error) {
	d := &decoder{file: file, given: map[string]toml.Primitive{}}
	var top map[string]toml.Primitive
	md, err := toml.Decode(data, &top)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, &Error{File: file, Line: pe.Position.Line, Key: pe.LastKey, Err: errors.New(pe.Message)}
		}
		return nil, &Error{File: file, Err: err}
	}
	d.md = md
	c := Default()
	c.File = file
	d.top(c, top)
	d.check(c)
	c.file = d
	if err := d.join(); err != nil {
		return nil, err
	}
	return c, nil
}

// decoder goes through one file and gathers what is wrong with it.
type decoder struct {
	file  string
	md    toml.MetaData
	given map[string]toml.Primitive // every key of the file that is known, by full name
	errs  []*Error
}

// take decodes by calling a function: the library then adds the position of
// the key to the function's error, which it tells in no other way.
type take struct{ f func(v any) error }

func (t *take) UnmarshalTOML(v any) error { return t.f(v) }

// apply calls f with the value of p and records its error.
func (d *decoder) apply(name string, p toml.Primitive, f func(v any) error) bool {
	var err error
	_ = d.md.PrimitiveDecode(p, &take{func(v any) error { err = f(v); return nil }})
	if err == nil {
		return true
	}
	d.errs = append(d.errs, &Error{File: d.file, Line: d.line(p), Key: name, Err: err})
	return false
}

// line is where p stands. A table without a header of its own ("a" where the
// file has only [a.b]) stands where the first thing in it does.
func (d *decoder) line(p toml.Primitive) int {
	var pe toml.ParseError
	err := d.md.PrimitiveDecode(p, &take{func(any) error { return errors.ErrUnsupported }})
	if errors.As(err, &pe) && pe.Position.Line > 0 {
		return pe.Position.Line
	}
	var in map[string]toml.Primitive
	if d.md.PrimitiveDecode(p, &in) != nil {
		return 0
	}
	first := 0
	for _, p := range in {
		if n := d.line(p); n > 0 && (first == 0 || n < first) {
			first = n
		}
	}
	return first
}

// lineOf is where the key with this full name stands, 0 if it isn't given.
func (d *decoder) lineOf(name string) int {
	if p, ok := d.given[name]; ok {
		return d.line(p)
	}
	return 0
}

func (d *decoder) fail(name string, err error) {
	d.apply(name, d.given[name], func(any) error { return err })
}

func (d *decoder) join() error {
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Key, b.Key)
	})
	errs := make([]error, len(d.errs))
	for i, e := range d.errs {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// table opens the table p.
func (d *decoder) table(name string, p toml.Primitive) map[string]toml.Primitive {
	d.given[name] = p
	isTable := func(v any) error {
		if _, ok := v.(map[string]any); !ok {
			return fmt.Errorf("expected a table, [%s], got %s", name, came(v))
		}
		return nil
	}
	var in map[string]toml.Primitive
	if d.apply(name, p, isTable) {
		if err := d.md.PrimitiveDecode(p, &in); err != nil {
			d.errs = append(d.errs, &Error{File: d.file, Key: name, Err: err})
		}
	}
	return in
}

// section decodes the keys of one table. prefix is its name with a dot, or empty.
func (d *decoder) section(prefix string, in map[string]toml.Primitive, keys []key, also ...string) {
	for name, p := range in {
		full := prefix + toml.Key{name}.String()
		if slices.Contains(also, name) {
			continue
		}
		d.given[full] = p
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		if i < 0 {
			d.fail(full, unknown(prefix, name, append(names(keys), also...)))
			continue
		}
		d.apply(full, p, keys[i].value.set)
	}
}

// unknown makes the error for a key that its table does not have.
func unknown(prefix, name string, valid []string) error {
	if near := nearest(name, valid); near != "" {
		return fmt.Errorf("unknown key; did you mean %q?", near)
	}
	for _, s := range sections() {
		if slices.Contains(names(s.keys), name) && s.name+"." != prefix {
			where := "[" + s.name + "]"
			if s.name == "" {
				where = "the top of the file, before any [table]"
			}
			return fmt.Errorf("unknown key here; %q belongs in %s", name, where)
		}
	}
	slices.Sort(valid)
	return fmt.Errorf("unknown key; valid here: %s", strings.Join(valid, ", "))
}

// sections lists every table with its keys, for hints.
func sections() []struct {
	name string
	keys []key
} {
	c, e := Default(), NewEndpoint("")
	return []struct {
		name string
		keys []key
	}{
		{"", c.keys()}, {"http", c.HTTP.keys()}, {"fastcgi", c.FastCGI.keys()},
		{"metrics", c.Metrics.keys()}, {"log", c.Log.keys()}, {"limits", c.Limits.keys()}, {"endpoint.NAME", e.keys()},
	}
}

// top decodes the file's top level and everything below it.
func (d *decoder) top(c *Config, in map[string]toml.Primitive) {
	only := NewEndpoint("")
	keys := append(c.keys(), only.keys()...)
	d.section("", in, keys, "http", "fastcgi", "metrics", "log", "limits", "endpoint")

	if p, ok := in["http"]; ok {
		// http = "ADDRESS" is short for [http] listen = "ADDRESS".
		d.given["http"] = p
		isTable := false
		d.apply("http", p, func(v any) error {
			if _, isTable = v.(map[string]any); isTable {
				return nil
			}
			d.given["http.listen"] = p
			return texts{&c.HTTP.Listen, address}.set(v)
		})
		if isTable {
			d.section("http.", d.table("http", p), c.HTTP.keys())
		}
	}
	for _, s := range []struct {
		name string
		keys []key
	}{{"fastcgi", c.FastCGI.keys()}, {"metrics", c.Metrics.keys()}, {"log", c.Log.keys()}, {"limits", c.Limits.keys()}} {
		if p, ok := in[s.name]; ok {
			d.section(s.name+".", d.table(s.name, p), s.keys)
		}
	}
	if p, ok := in["endpoint"]; ok {
		d.endpoints(c, d.table("endpoint", p))
	}

	for _, k := range only.keys() {
		if _, ok := in[k.name]; !ok {
			continue
		}
		if len(c.Endpoints) > 0 {
			d.fail(k.name, errors.New("an endpoint's key outside of [endpoint.NAME]: a file has either one endpoint without a table, or [endpoint.NAME] tables"))
			continue
		}
		c.Endpoints = append(c.Endpoints, only)
		break
	}
}

func (d *decoder) endpoints(c *Config, in map[string]toml.Primitive) {
	for _, k := range d.md.Keys() { // the order of the file
		if len(k) < 2 || k[0] != "endpoint" {
			continue
		}
		p, ok := in[k[1]]
		if !ok {
			continue
		}
		delete(in, k[1])
		name := k[:2].String()
		d.given[name] = p
		if err := checkName(k[1]); err != nil {
			d.fail(name, err)
			continue
		}
		e := NewEndpoint(k[1])
		if in := d.table(name, p); in != nil {
			d.section(name+".", in, e.keys())
			c.Endpoints = append(c.Endpoints, e)
		}
	}
}

// key is the full name of an endpoint's key.
func (e *Endpoint) key(name string) string {
	if e.Name == "" {
		return name
	}
	return toml.Key{"endpoint", e.Name, name}.String()
}

// at is the key to blame when name is missing from e: name, or else the table.
func (d *decoder) at(e *Endpoint, name string) string {
	full := e.key(name)
	if _, ok := d.given[full]; ok || e.Name == "" {
		return full
	}
	return toml.Key{"endpoint", e.Name}.String()
}

// check completes c, and checks what needs more than one key to be seen.
func (d *decoder) check(c *Config) {
	has := func(e *Endpoint, name string) bool { _, ok := d.given[e.key(name)]; return ok }
	d.relay(c)
	if len(c.Endpoints) == 0 && len(d.errs) == 0 && c.Relay == "" {
		d.errs = append(d.errs, &Error{File: d.file, Err: errors.New(`no endpoint: add [endpoint.NAME] with app = "echo", or with command = ["/path/to/program"]`)})
	}
	paths := map[string]*Endpoint{}
	for _, e := range c.Endpoints {
		if e.App == "" && !has(e, "app") {
			if !has(e, "command") {
				d.fail(d.at(e, "app"), errors.New(`the endpoint has no app: add command = ["/path/to/program"], or app = "echo"`))
				continue
			}
			e.App = AppProgram
		}
		switch {
		case e.App == AppProgram && !has(e, "command"):
			d.fail(d.at(e, "app"), errors.New(`app = "program" needs command = ["/path/to/program", "argument"]`))
		case e.App == AppHub:
			d.hub(e, has)
		}
		for _, k := range e.keys() {
			if app := e.foreign(k.name); app != "" && has(e, k.name) {
				d.fail(e.key(k.name), fmt.Errorf("only app = %q has this key, this endpoint's app is %q", app, e.App))
			}
		}
		if !has(e, "lines_buffer") {
			e.LinesBuffer = max(e.LinesBuffer, e.MaxMessage)
		} else if e.LinesBuffer < e.MaxMessage {
			d.fail(e.key("lines_buffer"), fmt.Errorf("%s can't hold one message of max_message = %s", showSize(e.LinesBuffer), showSize(e.MaxMessage)))
		}
		if e.Path != "" {
			if other := paths[e.Path]; other != nil {
				d.fail(e.key("path"), fmt.Errorf("%q is the path of [endpoint.%s] already", e.Path, other.Name))
			}
			paths[e.Path] = e
		}
		d.resolve(e)
	}
	d.drain(c)
	for _, l := range []*Listener{&c.HTTP, &c.FastCGI.Listener, &c.Metrics} {
		for i, a := range l.Listen {
			if p, ok := strings.CutPrefix(a, "unix:"); ok && !strings.HasPrefix(p, "@") {
				l.Listen[i] = "unix:" + d.path(p)
			}
		}
	}
	if c.StateDir != "" {
		c.StateDir = d.path(c.StateDir)
	}
}

// relay checks that a front is nothing else.
func (d *decoder) relay(c *Config) {
	if c.Relay == "" {
		return
	}
	c.Relay = d.path(c.Relay)
	switch {
	case len(c.Endpoints) > 0:
		d.fail("relay", errors.New("a front serves no endpoint itself: leave out either, and configure endpoints where the daemon is"))
	case len(c.HTTP.Listen) > 0:
		d.fail("relay", errors.New("only CGI and FastCGI are relayed: have the daemon itself serve HTTP"))
	}
	for _, a := range c.FastCGI.Listen {
		if p, ok := strings.CutPrefix(a, "unix:"); ok && d.path(p) == c.Relay {
			d.fail("relay", errors.New("this is the socket that [fastcgi] listens on: requests would go round in circles"))
		}
	}
}

// drain sees to it that programs are stopped before the process is: what it
// would leave behind has nobody to stop it.
func (d *decoder) drain(c *Config) {
	_, given := d.given["drain"]
	for _, e := range c.Endpoints {
		need := e.StdinGrace + e.TermGrace
		if e.App != AppProgram || c.Drain > need {
			continue
		}
		if !given {
			c.Drain = need + time.Second
			continue
		}
		of := "the program"
		if e.Name != "" {
			of = "programs of [endpoint." + e.Name + "]"
		}
		d.fail("drain", fmt.Errorf("%s would leave %s behind, whose stdin_grace and term_grace are %s together: make it longer",
			showDuration(c.Drain), of, showDuration(need)))
	}
}

// resolve makes e's paths absolute. A command without a slash is left for
// the PATH that programs get.
func (d *decoder) resolve(e *Endpoint) {
	if len(e.Command) > 0 && strings.Contains(e.Command[0], "/") {
		e.Command[0] = d.path(e.Command[0])
	}
	if e.Dir != "" {
		e.Dir = d.path(e.Dir)
	}
}

func (d *decoder) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	p = filepath.Join(filepath.Dir(d.file), p)
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}
