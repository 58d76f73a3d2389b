package doctor

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tandem/internal/gateway"
	"tandem/internal/probe"
)

// String is the hop as a report names it: "nginx 1.22.1 (FastCGI)".
func (h Hop) String() string {
	name := h.Name
	if f, ok := families[h.Family]; ok {
		name = strings.TrimSpace(f + " " + h.Version)
	}
	switch {
	case h.Family == hidden || h.Way == "":
	case h.Way == gateway.FastCGI:
		name += " (FastCGI)"
	case h.Way == gateway.CGI:
		name += " (CGI)"
	default:
		name += " (" + h.Way + ")"
	}
	return name
}

// families are the servers that the catalogue knows, and how they are written.
var families = map[string]string{
	"nginx": "nginx", "apache": "Apache", "lighttpd": "lighttpd", "caddy": "Caddy", "haproxy": "HAProxy", "h2o": "h2o",
	"squid": "squid", "privoxy": "privoxy", "tinyproxy": "tinyproxy", "varnish": "Varnish", "envoy": "Envoy", "traefik": "Traefik", "openresty": "OpenResty", "cloudflare": "Cloudflare",
}

var product = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(nginx|openresty|apache|lighttpd|caddy|haproxy|h2o|squid|privoxy|tinyproxy|varnish|envoy|traefik|cloudflare)\b(?:[/ ]v?([0-9]+(?:\.[0-9]+)*))?`)
})

// newHop makes a hop of what it calls itself.
func newHop(name, role, by, way string) Hop {
	h := Hop{Name: clean(name), Role: role, By: by, Way: way}
	if m := product().FindStringSubmatch(name); m != nil {
		h.Family, h.Version = strings.ToLower(m[1]), m[2]
		if h.Family == "openresty" {
			h.Family = "nginx" // with its directives and its versions
		}
	}
	return h
}

// newPath puts the hops together, the client's end first, from what each tells of
// itself: the environment's proxy, Via, Server, and what the app was told.
func (d *examination) newPath(r reply, e *probe.Echo) Path {
	p := Path{Interface: e.Interface}
	p.forward(d, r)
	// In a response the hop nearest to the client comes last.
	via := commaSeparated(r.Header["Via"])
	slices.Reverse(via)
	for _, v := range append(via, commaSeparated(e.Header["Via"])...) {
		p.proxy(newHop(viaName(v), "proxy", "Via", "proxy"))
	}
	web := newHop(e.Software, "web server", "SERVER_SOFTWARE", e.Interface)
	if e.Module != "" {
		web.Way = e.Module
	}
	if web.Name == "" {
		web.Name = "a web server"
	}
	if front := newHop(r.Header.Get("Server"), "proxy", "Server", "proxy"); front.Name != "" && !same(front, web) {
		p.proxy(front)
	}
	if len(p.Hops) == 0 {
		p.footprints(r, e, web)
	}
	if e.Interface != gateway.HTTP {
		p.Hops = append(p.Hops, web)
	}
	return p
}

// forward adds the proxy that the client itself goes through.
func (p *Path) forward(d *examination, r reply) {
	u, err := d.options.Proxy(r.Request)
	if err != nil || u == nil {
		return
	}
	way := "forward proxy"
	if d.url.Scheme == "https" {
		way = "tunnel" // what is in it, it doesn't see
	}
	p.Hops = append(p.Hops, newHop(u.Host, "forward proxy", "the environment", way))
}

// proxy adds a hop, unless it is there already, or is the name of one that had none.
func (p *Path) proxy(hop Hop) {
	for i, h := range p.Hops {
		switch {
		case h.Name == hop.Name || same(h, hop):
			return
		case h.Family == "" && h.Way != "tunnel" && hop.Family != "":
			hop.Role, hop.Way = h.Role, h.Way
			p.Hops[i] = hop
			return
		}
	}
	p.Hops = append(p.Hops, hop)
}

// same tells whether two hops may be one.
func same(a, b Hop) bool {
	return a.Family != "" && a.Family == b.Family && (a.Version == b.Version || a.Version == "" || b.Version == "")
}

// footprints adds a proxy that shows no name, by what it did to the request.
func (p *Path) footprints(r reply, e *probe.Echo, web Hop) {
	has := func(field string) bool { _, ok := e.Header[field]; return ok }
	switch {
	case web.Family == "caddy": // adds such fields by itself
	case has("X-Forwarded-Server"):
		p.Hops = append(p.Hops, newHop("Apache", "proxy", "X-Forwarded-Server", "proxy"))
	case has("X-Host") && has("X-Forwarded-For"):
		p.Hops = append(p.Hops, newHop("lighttpd", "proxy", "X-Host", "proxy"))
	case e.Protocol == "HTTP/1.0":
		p.Hops = append(p.Hops, newHop("nginx", "proxy", "requests as HTTP/1.0", "proxy"))
	case has("X-Forwarded-For"), has("Forwarded"), has("X-Real-Ip"):
		p.Hops = append(p.Hops, Hop{Name: "a proxy without a name", Role: "proxy", By: "X-Forwarded-For", Family: hidden, Way: "proxy"})
	case e.Port != "" && r.port != "" && e.Port != r.port:
		p.Hops = append(p.Hops, Hop{Name: "NAT, or a proxy without a name", Role: "unknown", By: "another port at the server", Family: hidden, Way: "proxy"})
	}
}

// hidden is the family of proxies that don't show what they are.
const hidden = "hidden"

// viaName is what a Via entry names: "1.1 proxy (squid/5.7)" is "proxy (squid/5.7)".
func viaName(v string) string {
	if _, name, ok := strings.Cut(v, " "); ok {
		return strings.TrimSpace(name)
	}
	return v
}

func commaSeparated(values []string) (l []string) {
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				l = append(l, item)
			}
		}
	}
	return l
}

// older tells whether version a comes before b: both are numbers with dots.
func older(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if x, y := number(as, i), number(bs, i); x != y {
			return x < y
		}
	}
	return false
}

func number(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, _ := strconv.Atoi(parts[i]) // what is no number is 0
	return n
}

// clean makes one printable line of what a server said.
func clean(s string) string {
	const most = 300
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
