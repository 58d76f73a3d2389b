package hub

import (
	"fmt"
	"regexp/syntax"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"
	"weak"

	"github.com/dunglas/go-urlpattern"
	"github.com/yosida95/uritemplate/v3"
)

// Types of matchers. Exact and URLPattern are Mercure's; URITemplate is the topic
// selector of its drafts 04 to 07: a topic, or a template (RFC 6570) of topics.
const (
	Exact       = "Exact"
	URLPattern  = "URLPattern"
	URITemplate = "URITemplate"
)

// MaxPattern is how many bytes a Matcher's pattern may have.
const MaxPattern = 2048

// maxGroups bounds the regular expressions within a pattern, in instructions of
// Go's engine. That engine takes time in proportion to a topic's length times these, and
// counted repetitions such as a{1000} have more than they show.
const maxGroups = 256

// NoBase stands for the URL of a hub that has none configured. Its host is of no
// name that exists (RFC 6761): patterns of a real host can't match relative topics then.
const NoBase = "https://hub.invalid/.well-known/mercure"

// A Matcher selects topics. ParseMatcher makes them. Those made of the same are
// equal (==), and share what matching takes. The zero Matcher selects none.
type Matcher struct {
	typ, pattern string
	compiled     *compiled // nil: compare
}

// ParseMatcher makes a Matcher of a type, one of those above, and a pattern. base is
// the hub's URL, which relative URL patterns and topics are resolved against; "": NoBase. The
// pattern * matches all, whatever its type.
func ParseMatcher(typ, pattern, base string) (Matcher, error) {
	if typ != Exact && typ != URLPattern && typ != URITemplate {
		return Matcher{}, fmt.Errorf("hub: matcher type %.40q: expected Exact or URLPattern, spelled like that, or URITemplate", typ)
	}
	switch {
	case pattern == "":
		return Matcher{}, fmt.Errorf("hub: an empty %s matcher: expected a topic, a pattern, or *", typ)
	case len(pattern) > MaxPattern:
		return Matcher{}, fmt.Errorf("hub: a %s matcher of %d bytes: expected %d at most", typ, len(pattern), MaxPattern)
	}
	if err := checkText(pattern); err != nil {
		return Matcher{}, fmt.Errorf("hub: %s matcher %.100q: %w", typ, pattern, err)
	}
	if pattern == Everything {
		return Matcher{Exact, Everything, nil}, nil
	}
	if typ == URITemplate && !strings.ContainsRune(pattern, '{') {
		typ = Exact
	}
	if typ == Exact {
		return Matcher{Exact, pattern, nil}, nil
	}
	if base == "" {
		base = NoBase
	}
	c, err := compile(source{typ, pattern, base})
	if err != nil {
		return Matcher{}, err
	}
	if c == nil {
		return Matcher{Exact, pattern, nil}, nil
	}
	return Matcher{typ, pattern, c}, nil
}

// Type is Exact, URLPattern or URITemplate. A template without variables is an Exact one.
func (m Matcher) Type() string { return m.typ }

// Pattern is what ParseMatcher got.
func (m Matcher) Pattern() string { return m.pattern }

// Match tells whether m selects topic.
func (m Matcher) Match(topic string) bool {
	switch {
	case m.compiled == nil:
		return m.pattern == topic || m.pattern == Everything
	case m.typ == URITemplate && m.pattern == topic:
		return true
	}
	return m.compiled.match(topic)
}

// Exact returns the only topic that m selects. False: it may select several.
func (m Matcher) Exact() (topic string, ok bool) {
	return m.pattern, m.compiled == nil && m.pattern != Everything && m.pattern != ""
}

// All tells whether m selects all topics.
func (m Matcher) All() bool { return m.compiled == nil && m.pattern == Everything }

// MaxMatchers is how many matchers one subscriber of h may have.
func (h *Hub) MaxMatchers() int { return h.opt.MaxMatchers }

// compiled is what matchers of one source share.
type compiled struct{ match func(topic string) bool }

// source is what a compiled is made of.
type source struct{ typ, pattern, base string }

// compilations has what is in use. Ten thousand subscribers often have the same
// pattern, which takes kilobytes.
var compilations struct {
	sync.Mutex
	m map[source]weak.Pointer[compiled]
}

// compile returns nil for a template that is none: it is compared.
func compile(s source) (*compiled, error) {
	if c := shared(s, nil); c != nil {
		return c, nil
	}
	match, err := compilePattern(s)
	if match == nil || err != nil {
		return nil, err
	}
	return shared(s, &compiled{match}), nil
}

// shared returns what is in use for s: c, if there is none.
func shared(s source, c *compiled) *compiled {
	compilations.Lock()
	defer compilations.Unlock()
	if used := compilations.m[s].Value(); used != nil || c == nil {
		return used
	}
	if compilations.m == nil {
		compilations.m = make(map[source]weak.Pointer[compiled])
	}
	compilations.m[s] = weak.Make(c)
	runtime.AddCleanup(c, func(s source) {
		compilations.Lock()
		defer compilations.Unlock()
		if compilations.m[s].Value() == nil { // it may have been made anew
			delete(compilations.m, s)
		}
	}, s)
	return c
}

func compilePattern(s source) (func(topic string) bool, error) {
	if s.typ == URLPattern {
		return compileURLPattern(s)
	}
	t, err := uritemplate.New(s.pattern)
	if err != nil {
		return nil, nil // earlier drafts: a selector that is no template is a topic
	}
	return compileTemplate(s, t)
}

func compileURLPattern(s source) (func(string) bool, error) {
	if err := checkGroups(s.pattern); err != nil {
		return nil, fmt.Errorf("hub: URL pattern %.100q: %w", s.pattern, err)
	}
	p, err := urlpattern.New(s.pattern, s.base, nil)
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "&") // what follows are the parser's innards
		return nil, fmt.Errorf("hub: URL pattern %.100q: expected one of the URL Pattern Standard, with regular expressions that RE2 has: %.200s", s.pattern, strings.TrimRight(text, ": "))
	}
	return func(topic string) bool { return p.Test(topic, s.base) }, nil
}

func compileTemplate(s source, t *uritemplate.Template) (match func(string) bool, err error) {
	defer func() {
		if p := recover(); p != nil { // Regexp does where its expression has more than a thousand repetitions
			err = fmt.Errorf("hub: URI template %.100q: too many variables", s.pattern)
		}
	}()
	re := t.Regexp()
	if n := instructions(re.String()); n > 2*MaxPattern {
		return nil, fmt.Errorf("hub: URI template %.100q: too many variables", s.pattern)
	}
	return re.MatchString, nil
}

// checkGroups bounds what the regular expressions in a URL pattern cost.
func checkGroups(pattern string) error {
	n, depth, start := 0, 0, 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '(':
			if depth++; depth == 1 {
				start = i + 1
			}
		case ')':
			if depth--; depth == 0 {
				n += instructions(pattern[start:i])
			}
			depth = max(depth, 0)
		}
	}
	if n > maxGroups {
		return fmt.Errorf("its regular expressions are too large: expected %d steps at most, got %d; repetitions such as a{100} count in full", maxGroups, n)
	}
	return nil
}

// instructions is the size of what Go's engine makes of expr; 0 if expr is none.
func instructions(expr string) int {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(prog.Inst)
}

// checkText tells what s has that neither topics nor matchers may have: what isn't UTF-8, and
// control characters.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("expected UTF-8, got bytes that aren't")
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return fmt.Errorf("expected no control characters, got %U", r)
		}
	}
	return nil
}
