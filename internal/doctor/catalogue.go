package doctor

import (
	"fmt"
	"strings"
)

// Symptom is what a check can find.
type Symptom string

// Symptoms.
const (
	ResponseHeld    Symptom = "response held back"        // until a buffer is full, or the end
	FirstHeld       Symptom = "first bytes held back"     // a few only
	HeaderNeeded    Symptom = "response buffered"         // but X-Accel-Buffering: no prevents it
	Compressed      Symptom = "response compressed"       // if the client allows it, as browsers do
	RequestHeld     Symptom = "request held back"         // the app is called at the body's end
	AnswerHeld      Symptom = "answer held back"          // of a POST, until its body has ended
	LengthRequired  Symptom = "length required"           // 411 for chunked bodies
	TooLarge        Symptom = "size limited"              // 413
	Slow            Symptom = "messages delayed"          // far more than a round trip
	UploadRefused   Symptom = "upload refused"            // another status than for a small body
	UploadStalled   Symptom = "upload stalled"            // for good
	BodyTimeout     Symptom = "quiet body cut"            //
	AnswerTimeout   Symptom = "quiet response cut"        //
	GoneUnnoticed   Symptom = "client's end unnoticed"    //
	GoneLate        Symptom = "client's end noticed late" // once the app writes
	SessionNotFound Symptom = "session not found"         // by its second request
	NoLogin         Symptom = "authorization withheld"    // from the app
	HeaderDropped   Symptom = "header dropped"            // that sessions need
	OldHTTP         Symptom = "requests become HTTP/1.0"  // between a proxy and the app
	NoHTTP2         Symptom = "HTTP/2 not offered"        // over TLS
)

// seen is a symptom, and what about it changes the lines to paste.
type seen struct {
	Symptom
	detail string // for people: "until 8 KiB"
}

// A remedy says what to do at one kind of hop about some symptoms. HOST in its lines
// stands for the URL's.
type remedy struct {
	family, way string // of the hop; "" is any
	symptoms    []Symptom
	directive   string
	lines       []string
	since       string // the first version for which they are right; "" any
	before      string // the first for which they aren't any more
	where       string
	why         string
	doc         string
	trap        int
}

// Where lines go.
const (
	nginxLocation  = "in the location of the endpoint, in nginx's configuration (nginx/tandem.conf has it)"
	nginxAny       = "in the location of the endpoint, in the configuration of this nginx"
	nginxProxy     = "in the location with proxy_pass, in the configuration of this nginx"
	nginxServer    = "in the server block of this nginx"
	apacheLocation = "in the <Location> of the endpoint (apache/tandem-proxy-fcgi.conf has it)"
	apacheCGI      = "in the <Directory> of the programs (apache/tandem-cgi.conf has it)"
	apacheFcgid    = "in the virtual host (apache/tandem-fcgid.conf has it)"
	apacheFilter   = "in the <Location> or <Directory> of the endpoint (the files in apache/ have it)"
	apacheSection  = "in the <Location> or <Directory> of the endpoint"
	apacheHost     = "in the virtual host, outside of any <Location> or <Directory> (the files in apache/ have it)"
	apacheProxy    = "in the virtual host of this Apache"
	lighttpdURL    = `in the $HTTP["url"] block of the endpoint (the files in lighttpd/ have it)`
	haproxyBoth    = "in the defaults, or in frontend and backend"
)

// catalogue is what the doctor knows. The first entry that fits a hop counts.
var catalogue = []remedy{
	// nginx in front of Tandem, by FastCGI.
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{RequestHeld}, directive: "fastcgi_request_buffering", since: "1.7.11",
		lines: []string{"fastcgi_request_buffering off;"}, where: nginxLocation, doc: "docs/nginx.md",
		why: "nginx reads a request's whole body before it calls Tandem"},
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{ResponseHeld, AnswerHeld}, directive: "fastcgi_buffering",
		lines: []string{"fastcgi_buffering off;"}, where: nginxLocation, doc: "docs/nginx.md",
		why: "nginx collects the response in buffers"},
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{HeaderNeeded}, directive: "fastcgi_buffering",
		lines: []string{"fastcgi_buffering off;"}, where: nginxLocation, doc: "docs/nginx.md",
		why: "nginx's buffering of responses is on; the header X-Accel-Buffering: no, which each session sends, switches it off for now"},
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{GoneUnnoticed, GoneLate}, directive: "fastcgi_ignore_client_abort",
		lines: []string{"fastcgi_ignore_client_abort off;"}, where: nginxLocation, doc: "docs/nginx.md", trap: 4,
		why: "nginx keeps the connection to Tandem when a client has gone, until something is written"},
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{AnswerTimeout}, directive: "fastcgi_read_timeout",
		lines: []string{"fastcgi_read_timeout 1h;"}, where: nginxLocation, doc: "docs/nginx.md#time-outs", trap: 6,
		why: "nginx ends a request whose program is silent for too long"},
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{UploadStalled}, directive: "fastcgi_request_buffering", since: "1.7.11",
		lines: []string{"fastcgi_request_buffering off;"}, where: nginxLocation, doc: "docs/nginx.md#traps", trap: 1,
		why: "An upload came to a halt once the socket to Tandem was full, which Tandem prevents by reading at once: look for something between nginx and Tandem that doesn't"},

	// nginx as a reverse proxy.
	{family: "nginx", way: "proxy", symptoms: []Symptom{RequestHeld, UploadStalled}, directive: "proxy_request_buffering", since: "1.7.11",
		lines: []string{"proxy_http_version 1.1;", "proxy_request_buffering off;"}, where: nginxProxy, doc: "docs/proxies.md#nginx",
		why: "This nginx reads a request's whole body before it passes the request on; for chunked bodies it can do without only with HTTP/1.1"},
	{family: "nginx", way: "proxy", symptoms: []Symptom{ResponseHeld, AnswerHeld, HeaderNeeded}, directive: "proxy_buffering",
		lines: []string{"proxy_buffering off;"}, where: nginxProxy, doc: "docs/proxies.md#nginx",
		why: "This nginx collects the response in buffers"},
	{family: "nginx", way: "proxy", symptoms: []Symptom{AnswerTimeout}, directive: "proxy_read_timeout",
		lines: []string{"proxy_read_timeout 1h;"}, where: nginxProxy, doc: "docs/proxies.md#nginx", trap: 6,
		why: "This nginx ends a request whose server is silent for too long"},
	{family: "nginx", way: "proxy", symptoms: []Symptom{GoneUnnoticed, GoneLate}, directive: "proxy_ignore_client_abort",
		lines: []string{"proxy_ignore_client_abort off;"}, where: nginxProxy, doc: "docs/proxies.md#nginx", trap: 4,
		why: "This nginx keeps its connection when a client has gone, until something is written"},
	{family: "nginx", way: "proxy", symptoms: []Symptom{OldHTTP}, directive: "proxy_http_version",
		lines: []string{"proxy_http_version 1.1;"}, where: nginxProxy, doc: "docs/proxies.md#nginx",
		why: "This nginx passes requests on as HTTP/1.0, in which bodies can't be chunked"},

	// nginx in any place.
	{family: "nginx", symptoms: []Symptom{Compressed}, directive: "gzip",
		lines: []string{"gzip off;"}, where: nginxAny, doc: "docs/nginx.md#traps", trap: 9,
		why: "nginx compresses responses for clients that allow it, as browsers do; a compressor may hold messages back"},
	{family: "nginx", symptoms: []Symptom{TooLarge, UploadRefused}, directive: "client_max_body_size",
		lines: []string{"client_max_body_size 0;"}, where: nginxAny, doc: "docs/nginx.md#size-and-limits", trap: 7,
		why: "nginx limits the size of a request's body, and counts every byte that a session ever streamed"},
	{family: "nginx", symptoms: []Symptom{BodyTimeout}, directive: "client_body_timeout",
		lines: []string{"client_body_timeout 1h;"}, where: nginxAny, doc: "docs/nginx.md#time-outs", trap: 6,
		why: "nginx ends a request whose client is silent for too long"},
	{family: "nginx", symptoms: []Symptom{NoHTTP2}, directive: "listen … http2", before: "1.25.1",
		lines: []string{"listen 443 ssl http2;"}, where: nginxServer, doc: "docs/nginx.md",
		why: "HTTP/2 is not on; browsers have only six connections to a server without it"},
	{family: "nginx", symptoms: []Symptom{NoHTTP2}, directive: "http2", since: "1.25.1",
		lines: []string{"http2 on;"}, where: nginxServer, doc: "docs/nginx.md",
		why: "HTTP/2 is not on; browsers have only six connections to a server without it"},
	{family: "nginx", way: "fastcgi", symptoms: []Symptom{NoLogin}, directive: "HTTP_AUTHORIZATION",
		lines: []string{"fastcgi_param HTTP_AUTHORIZATION $http_authorization;"}, where: nginxLocation, doc: "docs/nginx.md",
		why: "Something in nginx's configuration sets the param HTTP_AUTHORIZATION to nothing: remove it, or write"},

	// Apache, mod_proxy_fcgi.
	{family: "apache", way: "mod_proxy_fcgi", symptoms: []Symptom{ResponseHeld}, directive: "flushpackets", since: "2.4.31",
		lines: []string{`ProxyPass "unix:/run/tandem/tandem.sock|fcgi://tandem/tandem" enablereuse=off flushpackets=on timeout=3600`},
		where: apacheLocation + "; keep your own socket and path", doc: "docs/apache.md",
		why: "Apache collects the response until a buffer is full: flushpackets=on is missing from ProxyPass"},
	{family: "apache", way: "mod_proxy_fcgi", symptoms: []Symptom{AnswerTimeout}, directive: "timeout",
		lines: []string{`ProxyPass "unix:/run/tandem/tandem.sock|fcgi://tandem/tandem" enablereuse=off flushpackets=on timeout=3600`},
		where: apacheLocation + "; keep your own socket and path", doc: "docs/apache.md#time-outs", trap: 6,
		why: "Apache ends a request whose program is silent for too long: timeout=3600 is missing from ProxyPass"},

	// Apache, CGI.
	{family: "apache", way: "mod_cgi", symptoms: []Symptom{AnswerTimeout}, directive: "CGIDScriptTimeout",
		lines: []string{"<IfModule mod_cgid.c>", "    CGIDScriptTimeout 3600", "</IfModule>", "<IfModule mod_cgi.c>", "    CGIScriptTimeout 3600", "</IfModule>"},
		where: apacheCGI, doc: "docs/apache.md#time-outs", trap: 6,
		why: "Apache ends a request whose program is silent for too long"},

	// Apache, mod_fcgid.
	{family: "apache", way: "mod_fcgid", symptoms: []Symptom{ResponseHeld}, directive: "FcgidOutputBufferSize",
		lines: []string{"FcgidOutputBufferSize 0"}, where: apacheFcgid, doc: "docs/apache.md",
		why: "mod_fcgid collects the response until 64 KiB are there, unless told otherwise"},
	{family: "apache", way: "mod_fcgid", symptoms: []Symptom{TooLarge, UploadRefused}, directive: "FcgidMaxRequestLen",
		lines: []string{"FcgidMaxRequestLen 1073741824", "LimitRequestBody 0"}, where: apacheFcgid, doc: "docs/apache.md#size-and-limits", trap: 7,
		why: "mod_fcgid refuses bodies of more than 128 KiB, unless told otherwise"},
	{family: "apache", way: "mod_fcgid", symptoms: []Symptom{AnswerTimeout}, directive: "FcgidIOTimeout",
		lines: []string{"FcgidIOTimeout 3600", "FcgidBusyTimeout 86400"}, where: apacheFcgid, doc: "docs/apache.md#time-outs", trap: 6,
		why: "mod_fcgid ends a request whose program is silent for too long"},

	// Apache as a reverse proxy.
	{family: "apache", way: "proxy", symptoms: []Symptom{ResponseHeld}, directive: "flushpackets",
		lines: []string{`ProxyPass "/tandem" "http://127.0.0.1:8080/tandem" flushpackets=on`}, where: apacheProxy + "; keep your own paths and address", doc: "docs/proxies.md#apache",
		why: "This Apache collects the response until a buffer is full"},

	// Apache in any place.
	{family: "apache", symptoms: []Symptom{FirstHeld, Compressed}, directive: "FilterChain",
		lines: []string{"SetEnv no-gzip 1", "SetEnv no-brotli 1", "<IfModule mod_filter.c>", "    FilterChain !", "</IfModule>"},
		where: apacheFilter, doc: "docs/apache.md#traps", trap: 9,
		why: "mod_deflate or mod_brotli is in the way; a compressor may hold messages back"},
	{family: "apache", symptoms: []Symptom{TooLarge, UploadRefused}, directive: "LimitRequestBody",
		lines: []string{"LimitRequestBody 0"}, where: apacheSection, doc: "docs/apache.md#size-and-limits", trap: 7,
		why: "Apache limits the size of a request's body, and counts every byte that a session ever streamed"},
	{family: "apache", symptoms: []Symptom{BodyTimeout}, directive: "RequestReadTimeout",
		lines: []string{"<IfModule mod_reqtimeout.c>", "    RequestReadTimeout body=0", "</IfModule>"}, where: apacheHost, doc: "docs/apache.md#time-outs", trap: 6,
		why: "mod_reqtimeout cuts bodies that are quiet or slow; if that is lifted already, it is Timeout"},
	{family: "apache", symptoms: []Symptom{NoLogin}, directive: "CGIPassAuth", since: "2.4.13",
		lines: []string{"CGIPassAuth On"}, where: apacheFilter, doc: "docs/apache.md#traps", trap: 11,
		why: "Apache keeps the Authorization header from programs, unless told otherwise"},
	{family: "apache", symptoms: []Symptom{NoLogin}, directive: "SetEnvIf", before: "2.4.13",
		lines: []string{`SetEnvIf Authorization "(.*)" HTTP_AUTHORIZATION=$1`}, where: apacheFilter, doc: "docs/apache.md#traps", trap: 11,
		why: "Apache keeps the Authorization header from programs"},
	{family: "apache", symptoms: []Symptom{NoHTTP2}, directive: "Protocols", since: "2.4.17",
		lines: []string{"Protocols h2 http/1.1"}, where: apacheProxy + "; it needs mod_http2 (a2enmod http2)", doc: "docs/apache.md",
		why: "HTTP/2 is not on; browsers have only six connections to a server without it"},

	// lighttpd.
	{family: "lighttpd", symptoms: []Symptom{RequestHeld}, directive: "server.stream-request-body", since: "1.4.40",
		lines: []string{"server.stream-request-body = 2"}, where: lighttpdURL, doc: "docs/lighttpd.md#traps",
		why: "lighttpd reads a request's whole body before it calls Tandem"},
	{family: "lighttpd", symptoms: []Symptom{ResponseHeld, AnswerHeld, HeaderNeeded, GoneUnnoticed}, directive: "server.stream-response-body", since: "1.4.40",
		lines: []string{"server.stream-response-body = 2"}, where: lighttpdURL, doc: "docs/lighttpd.md#traps",
		why: "lighttpd keeps the response until the program has ended it"},
	{family: "lighttpd", symptoms: []Symptom{TooLarge, UploadRefused}, directive: "server.max-request-size",
		lines: []string{"server.max-request-size = 0"}, where: lighttpdURL, doc: "docs/lighttpd.md#size-and-limits", trap: 7,
		why: "lighttpd limits the size of a request's body"},
	{family: "lighttpd", symptoms: []Symptom{BodyTimeout}, directive: "server.max-read-idle",
		lines: []string{"server.max-read-idle = 3600"}, where: lighttpdURL, doc: "docs/lighttpd.md#time-outs", trap: 6,
		why: "lighttpd ends a request whose client is silent for too long"},
	{family: "lighttpd", symptoms: []Symptom{AnswerTimeout}, directive: "server.max-write-idle",
		lines: []string{"server.max-write-idle = 3600"}, where: lighttpdURL, doc: "docs/lighttpd.md#time-outs", trap: 6,
		why: "lighttpd ends a request whose response is silent for too long"},
	{family: "lighttpd", symptoms: []Symptom{Compressed}, directive: "deflate.mimetypes", since: "1.4.56",
		lines: []string{"deflate.mimetypes = ()"}, where: lighttpdURL, doc: "docs/lighttpd.md#traps", trap: 9,
		why: "mod_deflate compresses responses for clients that allow it; a compressor may hold messages back"},
	{family: "lighttpd", symptoms: []Symptom{Compressed}, directive: "compress.filetype", before: "1.4.56",
		lines: []string{"compress.filetype = ()"}, where: lighttpdURL, doc: "docs/lighttpd.md#traps", trap: 9,
		why: "mod_compress compresses responses for clients that allow it; a compressor may hold messages back"},

	// Tandem itself, behind any web server.
	{symptoms: []Symptom{SessionNotFound}, directive: "state_dir",
		lines: []string{`state_dir = "/run/tandem/state"`}, where: "in tandem.toml, the same folder for all processes of the endpoint, theirs alone (0700); with several machines, have the balancer send a client always to the same one", doc: "docs/configuration.md",
		why: "A session lives in one process, and a later request met another one that did not find it"},

	// Proxies that call themselves by name.
	{family: "haproxy", symptoms: []Symptom{RequestHeld, AnswerHeld}, directive: "option http-buffer-request",
		lines: []string{"no option http-buffer-request"}, where: haproxyBoth, doc: "docs/proxies.md#haproxy",
		why: "HAProxy waits for a request's body before it passes the request on"},
	{family: "haproxy", symptoms: []Symptom{Slow, FirstHeld}, directive: "option http-no-delay",
		lines: []string{"option http-no-delay"}, where: haproxyBoth, doc: "docs/proxies.md#haproxy",
		why: "HAProxy waits for more before it passes a few bytes on"},
	{family: "haproxy", symptoms: []Symptom{AnswerTimeout}, directive: "timeout server",
		lines: []string{"timeout server 1h"}, where: haproxyBoth, doc: "docs/proxies.md#haproxy", trap: 6,
		why: "HAProxy ends a connection whose server is silent for too long"},
	{family: "caddy", way: "proxy", symptoms: []Symptom{ResponseHeld, FirstHeld}, directive: "flush_interval",
		lines: []string{"flush_interval -1"}, where: "in the reverse_proxy block of the Caddyfile", doc: "docs/proxies.md",
		why: "Caddy waits before it passes on what came of a response"},
	{family: "caddy", way: "proxy", symptoms: []Symptom{RequestHeld}, directive: "request_buffers",
		lines: []string{}, where: "in the reverse_proxy block of the Caddyfile: remove request_buffers (buffer_requests in older versions)", doc: "docs/proxies.md",
		why: "Caddy reads a request's body before it passes the request on"},
	{family: "caddy", symptoms: []Symptom{Compressed}, directive: "encode",
		lines: []string{"@not_tandem not path /tandem*", "encode @not_tandem gzip"}, where: "in the site's block of the Caddyfile, in place of encode", doc: "docs/proxies.md", trap: 9,
		why: "Caddy compresses responses for clients that allow it; a compressor may hold messages back"},
	{family: "h2o", symptoms: []Symptom{TooLarge, UploadRefused}, directive: "limit-request-body",
		lines: []string{"limit-request-body: 1099511627776"}, where: "at the top level of h2o's configuration", doc: "docs/servers.md", trap: 7,
		why: "h2o limits the size of a request's body"},

	// A proxy that doesn't show what it is.
	{family: hidden, symptoms: []Symptom{Slow, FirstHeld}, directive: "option http-no-delay",
		lines: []string{"option http-no-delay"}, where: "if there is an HAProxy, " + haproxyBoth, doc: "docs/proxies.md#what-to-set",
		why: "A proxy that shows no name may wait for more before it passes a few bytes on; HAProxy does"},
	{family: hidden, symptoms: []Symptom{RequestHeld}, directive: "proxy_request_buffering",
		lines: []string{"proxy_http_version 1.1;", "proxy_request_buffering off;"}, where: "if there is an nginx, " + nginxProxy, doc: "docs/proxies.md#what-to-set",
		why: "A proxy that shows no name may read a request's whole body before it passes the request on; nginx does by default, and so do some that can't be told otherwise"},
	{family: hidden, symptoms: []Symptom{ResponseHeld, AnswerHeld}, directive: "proxy_buffering",
		lines: []string{"proxy_buffering off;"}, where: "if there is an nginx, " + nginxProxy, doc: "docs/proxies.md#what-to-set",
		why: "A proxy that shows no name may collect the response in buffers; nginx does by default"},

	// What a client can do about a forward proxy of unknown make.
	{way: "forward proxy", symptoms: []Symptom{RequestHeld, AnswerHeld, ResponseHeld, FirstHeld, TooLarge, UploadRefused, LengthRequired, BodyTimeout, AnswerTimeout}, directive: "NO_PROXY",
		lines: []string{"export NO_PROXY=HOST"}, where: "in the client's environment; or use https, which forward proxies pass on as it is", doc: "docs/proxies.md",
		why: "The forward proxy that the environment names may do this"},
}

// inherent is what a server can't do, whatever its configuration: no fault.
var inherent = []struct {
	family, way string
	symptom     Symptom
	text        string
}{
	{"lighttpd", "", LengthRequired, "lighttpd wants a declared length"},
	{"apache", "mod_proxy_fcgi", AnswerHeld, "Apache passes output on only as the client sends"},
	{"apache", "mod_cgi", AnswerHeld, "Apache shows a CGI program's output after the body's end"},
	{"apache", "mod_fcgid", AnswerHeld, "mod_fcgid calls the program at the body's end"},
	{"apache", "mod_fcgid", RequestHeld, "mod_fcgid calls the program at the body's end"},
	{"haproxy", "fastcgi", AnswerHeld, "HAProxy carries one direction at a time to a FastCGI program"},
	{"haproxy", "fastcgi", RequestHeld, "HAProxy calls a FastCGI program at the body's end"},
	{"caddy", "fastcgi", AnswerHeld, "Caddy carries one direction at a time to a FastCGI program"},
	{"caddy", "fastcgi", RequestHeld, "Caddy calls a FastCGI program at the body's end"},
	{"h2o", "fastcgi", AnswerHeld, "h2o carries one direction at a time to a FastCGI program"},
	{"h2o", "fastcgi", RequestHeld, "h2o calls a FastCGI program at the body's end"},
	{"h2o", "proxy", RequestHeld, "h2o passes a request on at the body's end"},
	{"apache", "proxy", RequestHeld, "Apache's mod_proxy_http waits for more of a body, or its end"},
	{"apache", "proxy", AnswerHeld, "Apache's mod_proxy_http carries one direction at a time"},
	{"tinyproxy", "", AnswerHeld, "tinyproxy carries one direction at a time"},
}

// can tells why a hop of the path can't help having this symptom; "": none is known.
func (p Path) can(s Symptom) string {
	for _, hop := range p.Hops {
		for _, i := range inherent {
			if i.family == hop.Family && (i.way == "" || i.way == hop.Way) && i.symptom == s {
				return i.text
			}
		}
	}
	return ""
}

// knows tells whether there is a remedy for s on the path.
func (p Path) knows(s Symptom) bool {
	for _, hop := range p.Hops {
		if look(hop, s) != nil {
			return true
		}
	}
	return false
}

// look finds the remedy for a hop, or nil.
func look(hop Hop, s Symptom) *remedy {
	for i := range catalogue {
		r := &catalogue[i]
		if (r.family == "" || r.family == hop.Family) && (r.way == "" || r.way == hop.Way) && r.has(s) && r.fits(hop.Version) {
			return r
		}
	}
	return nil
}

func (r *remedy) has(s Symptom) bool {
	for _, has := range r.symptoms {
		if has == s {
			return true
		}
	}
	return false
}

// fits tells whether the lines are right for a version. An unknown one is taken for a
// new one.
func (r *remedy) fits(version string) bool {
	if version == "" {
		return r.before == ""
	}
	return (r.since == "" || !older(version, r.since)) && (r.before == "" || older(version, r.before))
}

func (r *remedy) finding(hop Hop, host string, s seen, v Verdict) Finding {
	why := r.why
	if s.detail != "" {
		why += ". Seen: " + s.detail
	}
	var lines []string
	for _, line := range r.lines {
		lines = append(lines, strings.ReplaceAll(line, "HOST", host))
	}
	return Finding{Symptom: s.Symptom, Verdict: v, Hop: hop.String(), Why: why + ".", Directive: r.directive, Where: r.where, Lines: lines, Doc: r.doc, Trap: r.trap}
}

// unknown is a finding where no hop is known that could be the cause.
func unknown(path Path, s seen) Finding {
	f := Finding{Symptom: s.Symptom, Verdict: Fault, Hop: "unknown", Doc: "docs/servers.md"}
	var names []string
	for _, h := range path.Hops {
		names = append(names, h.Name)
	}
	f.Why = "Something on the way does this (" + string(s.Symptom)
	if s.detail != "" {
		f.Why += ", " + s.detail
	}
	f.Why += "), and it doesn't show its name."
	if len(names) > 0 {
		f.Why = fmt.Sprintf("One of %s does this (%s), or something between that doesn't show its name.", strings.Join(names, ", "), s.Symptom)
	}
	f.Why += " Run the doctor from nearer to the server, on the machine itself at last: the hop behind which it disappears is the one."
	return f
}
