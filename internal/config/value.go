package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A value is one key's place in a Config, as flag.Value is a flag's: set takes
// what the TOML decoder made of the value, show gives it back as TOML.
type value interface {
	set(v any) error
	show() string
}

// came describes a value of the wrong kind for an error.
func came(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case []any:
		return "a list"
	case map[string]any, []map[string]any:
		return "a table"
	default:
		return fmt.Sprintf("a %T", v)
	}
}

func quote(s string) string {
	// TOML's basic strings know no \x escapes; \u is the same thing there.
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteList(l []string) string {
	q := make([]string, len(l))
	for i, s := range l {
		q[i] = quote(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// text is a string; check, where there is one, may normalise it.
type text struct {
	p     *string
	check func(string) (string, error)
}

func (t text) show() string { return quote(*t.p) }

func (t text) set(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("expected a string, got %s", came(v))
	}
	if strings.ContainsRune(s, 0) {
		return errors.New("a string may not contain a NUL byte")
	}
	if t.check != nil {
		var err error
		if s, err = t.check(s); err != nil {
			return err
		}
	}
	*t.p = s
	return nil
}

// socket is the path of a unix socket, "unix:/path" in the file; empty: none.
type socket struct{ p *string }

func (s socket) show() string {
	if *s.p == "" {
		return `""`
	}
	return quote("unix:" + *s.p)
}

func (s socket) set(v any) error {
	var address string
	if err := (text{&address, nil}).set(v); err != nil {
		return err
	}
	path, ok := strings.CutPrefix(address, "unix:")
	if address != "" && (!ok || path == "" || path[0] == '@') {
		return fmt.Errorf(`got %q, expected "unix:/path/to.sock"`, address)
	}
	*s.p = path
	return nil
}

// oneOf is a string out of a set.
type oneOf struct {
	p    *string
	list []string
}

func (o oneOf) show() string { return quote(*o.p) }

func (o oneOf) set(v any) error {
	s, ok := v.(string)
	if ok && slices.Contains(o.list, s) {
		*o.p = s
		return nil
	}
	err := fmt.Errorf("got %s, expected one of %s", came(v), strings.Join(o.list, ", "))
	if near := nearest(s, o.list); near != "" {
		err = fmt.Errorf("%w; did you mean %q?", err, near)
	}
	return err
}

// texts is a list of strings; one string is a list of one.
type texts struct {
	p     *[]string
	check func(string) (string, error)
}

func (t texts) show() string { return quoteList(*t.p) }

func (t texts) set(v any) error {
	if s, ok := v.(string); ok {
		v = []any{s}
	}
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("expected a string or a list of strings, got %s", came(v))
	}
	out := make([]string, len(list))
	for i, e := range list {
		if err := (text{&out[i], t.check}).set(e); err != nil {
			return err
		}
	}
	*t.p = out
	return nil
}

// command is a program and its arguments.
type command struct{ p *[]string }

func (c command) show() string { return quoteList(*c.p) }

func (c command) set(v any) error {
	if s, ok := v.(string); ok && strings.ContainsAny(s, " \t") {
		return fmt.Errorf("no shell splits this into words: write %s", quoteList(strings.Fields(s)))
	}
	var list []string
	if err := (texts{&list, nil}).set(v); err != nil {
		return err
	}
	if len(list) == 0 || list[0] == "" {
		return errors.New("the first entry must be the program to run")
	}
	*c.p = list
	return nil
}

// addrs is a list of IP addresses.
type addrs struct{ p *[]netip.Addr }

func (a addrs) show() string {
	l := make([]string, len(*a.p))
	for i, ip := range *a.p {
		l[i] = ip.String()
	}
	return quoteList(l)
}

func (a addrs) set(v any) error {
	var list []string
	if err := (texts{&list, nil}).set(v); err != nil {
		return err
	}
	out := make([]netip.Addr, 0, len(list))
	for _, s := range list {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("%q is not an IP address", s)
		}
		out = append(out, ip.Unmap())
	}
	*a.p = out
	return nil
}

// table is a table of strings.
type table struct{ p *map[string]string }

func (t table) show() string {
	var l []string
	for _, k := range slices.Sorted(maps.Keys(*t.p)) {
		l = append(l, quote(k)+" = "+quote((*t.p)[k]))
	}
	if l == nil {
		return "{}"
	}
	return "{ " + strings.Join(l, ", ") + " }"
}

func (t table) set(v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf(`expected a table such as { LANG = "C.UTF-8" }, got %s`, came(v))
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if _, err := envName(k); err != nil {
			return err
		}
		var s string
		if err := (text{&s, nil}).set(v); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		out[k] = s
	}
	*t.p = out
	return nil
}

func envName(s string) (string, error) {
	ok := s != "" && (s[0] < '0' || s[0] > '9')
	for _, c := range []byte(s) {
		ok = ok && (c == '_' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9')
	}
	if !ok {
		return "", fmt.Errorf("%q can't be the name of an environment variable: letters, digits and _", s)
	}
	return s, nil
}

// boolean is true or false.
type boolean struct{ p *bool }

func (b boolean) show() string { return strconv.FormatBool(*b.p) }

func (b boolean) set(v any) error {
	x, ok := v.(bool)
	if !ok {
		return fmt.Errorf("expected true or false (without quotes), got %s", came(v))
	}
	*b.p = x
	return nil
}

// count is a whole number, 0 or more.
type count struct{ p *int }

func (c count) show() string { return strconv.Itoa(*c.p) }

func (c count) set(v any) error {
	n, ok := v.(int64)
	if !ok || n < 0 || n > math.MaxInt32 {
		return fmt.Errorf("expected a whole number from 0 (no limit) to %d, got %s", math.MaxInt32, came(v))
	}
	*c.p = int(n)
	return nil
}

// mode is the permission of a unix socket, written in octal.
type mode struct{ p *fs.FileMode }

func (m mode) show() string { return fmt.Sprintf(`"%04o"`, *m.p) }

func (m mode) set(v any) error {
	n, ok := v.(int64) // TOML's 0o660
	if s, isText := v.(string); isText {
		u, err := strconv.ParseUint(s, 8, 32)
		n, ok = int64(u), err == nil
	}
	if !ok || n < 0 || n > 0o777 {
		return fmt.Errorf(`expected permissions in octal such as "0660", got %s`, came(v))
	}
	*m.p = fs.FileMode(n)
	return nil
}

// duration is a time with its unit.
type duration struct {
	p        *time.Duration
	min, max time.Duration
}

func (d duration) show() string { return quote(showDuration(*d.p)) }

// showDuration is d.String without the zero units: 1h, not 1h0m0s.
func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (d duration) set(v any) error {
	s, ok := v.(string)
	x, err := time.ParseDuration(s)
	if !ok || err != nil {
		return fmt.Errorf(`expected a time with its unit such as "500ms", "15s" or "1h30m", got %s`, came(v))
	}
	if x < d.min || x > d.max {
		return fmt.Errorf("expected a time from %s to %s, got %s", showDuration(d.min), showDuration(d.max), came(v))
	}
	*d.p = x
	return nil
}

// size is a number of bytes.
type size struct {
	p        *int64
	min, max int64
}

// units are ordered so that the first suffix that fits is the right one.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

func (z size) show() string { return quote(showSize(*z.p)) }

func showSize(n int64) string {
	for _, u := range []int{2, 1, 0} {
		if b := units[u].bytes; n >= b && n%b == 0 {
			return strconv.FormatInt(n/b, 10) + units[u].name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

func parseSize(s string) (int64, error) {
	unit := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, strconv.ErrSyntax
	}
	return n * unit, nil
}

func (z size) set(v any) error {
	n, ok := v.(int64)
	if s, isText := v.(string); isText {
		var err error
		n, err = parseSize(s)
		ok = err == nil
	}
	if !ok {
		return fmt.Errorf(`expected a number of bytes such as 4096, "64KiB" or "1MiB", got %s`, came(v))
	}
	if n < z.min || n > z.max {
		return fmt.Errorf("expected a size from %s to %s, got %s", showSize(z.min), showSize(z.max), came(v))
	}
	*z.p = n
	return nil
}
