package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// diagnosis is what to say of an address where no endpoint was found.
type diagnosis struct {
	text    string
	finding Finding
}

// A foreign is an answer that comes from something else than an endpoint, and what it
// means. In its texts %s stands for the URL's path.
type foreign struct {
	statuses []int
	family   string // of the Server header; "" any
	body     string // a regular expression for its beginning; "" any
	why      string
	where    string
	lines    []string
	doc      string
}

// answers are what web servers answer where Tandem isn't reached. The first that fits
// counts. Expressions are compiled when they are needed: this is linked into a program that
// a web server starts for each request.
var answers = []foreign{
	// A program that is shown instead of run.
	{statuses: []int{200}, body: `^(\x7fELF|#!)`, family: "apache",
		why:   "Apache sends the program itself as a file, to everybody, instead of running it",
		where: "in the virtual host", lines: []string{"Include /etc/tandem/apache/tandem-cgi.conf"}, doc: "docs/apache.md#install-cgi-bin"},
	{statuses: []int{200}, body: `^(\x7fELF|#!)`, family: "lighttpd",
		why:   "lighttpd sends the program itself as a file, to everybody, instead of running it",
		where: "in lighttpd.conf", lines: []string{`include "/etc/tandem/lighttpd/paths.conf"`, `include "/etc/tandem/lighttpd/tandem-cgi.conf"`}, doc: "docs/lighttpd.md#install"},
	{statuses: []int{200}, body: `^(\x7fELF|#!)`,
		why: "The web server sends the program itself as a file, to everybody, instead of running it: nginx, for one, runs no CGI programs. Take the program out of that folder, and let the server pass %s to tandem serve", doc: "docs/nginx.md#install"},
	{statuses: []int{200}, body: `<\?php`,
		why: "The source of a PHP page came: something else than Tandem is at this address, and it is not even run. Check the URL"},
	{statuses: []int{200},
		why: "A page came, not an endpoint's description: the web server, or something on the way, answers %s itself. Check the URL, and whether Tandem's configuration is included in the server's"},

	// TLS and plain HTTP mixed up.
	{statuses: []int{400}, body: `(?i)plain HTTP.*(HTTPS port|SSL-enabled)`,
		why: "The port speaks TLS: use https:// in the URL"},

	// The way to the program.
	{statuses: []int{502}, family: "nginx",
		why:   "nginx passes %s on, but can't reach Tandem. Its error log says which: “(2: No such file or directory)” or “(111: Connection refused)”: tandem serve doesn't run, or listens elsewhere; “(13: Permission denied)”: the socket's group. Compare with server in nginx/upstream.conf",
		where: "in tandem.toml", lines: []string{"[fastcgi]", `listen = "unix:/run/tandem/tandem.sock"`, `mode = "0660"`, `group = "www-data"  # nginx's group`}, doc: "docs/nginx.md#if-it-doesnt-work"},
	{statuses: []int{503}, family: "apache",
		why:   "Apache passes %s on, but can't reach Tandem. Its error log says which, beside AH02454: “No such file or directory” or “Connection refused”: tandem serve doesn't run, or listens elsewhere; “Permission denied”: the socket's group. Compare with TANDEM_SOCKET",
		where: "in tandem.toml", lines: []string{"[fastcgi]", `listen = "unix:/run/tandem/tandem.sock"`, `mode = "0660"`, `group = "www-data"  # Apache's group`}, doc: "docs/apache.md#if-it-doesnt-work"},
	{statuses: []int{503}, family: "lighttpd",
		why:   "lighttpd passes %s on, but can't reach Tandem. Its error log says which: “No such file or directory” or “Connection refused”: tandem serve doesn't run, or listens elsewhere; “Permission denied”: the socket's group. Compare with var.tandem_socket in lighttpd/paths.conf",
		where: "in tandem.toml", lines: []string{"[fastcgi]", `listen = "unix:/run/tandem/tandem.sock"`, `mode = "0660"`, `group = "www-data"  # lighttpd's group`}, doc: "docs/lighttpd.md#if-it-doesnt-work"},
	{statuses: []int{502, 503, 504},
		why: "A proxy answers, but can't reach what is behind it, or waits in vain: see its error log, and whether the server behind it runs"},
	{statuses: []int{500}, family: "apache",
		why:   "Apache could not run the program. Its error log says which: “AH01241: exec of … failed”: not executable, or for another machine; “End of script output before headers”: it ended early, with its own message in the line above",
		where: "in a shell", lines: []string{"chmod 755 /usr/lib/cgi-bin/tandem", "tandem config check"}, doc: "docs/apache.md#if-it-doesnt-work"},
	{statuses: []int{500}, family: "lighttpd",
		why:   "lighttpd could not run the program: it isn't executable, or ended early; its own message is in lighttpd's error log",
		where: "in a shell", lines: []string{"chmod 755 /usr/lib/cgi-bin/tandem", "tandem config check"}, doc: "docs/lighttpd.md#if-it-doesnt-work"},
	{statuses: []int{500},
		why: "The web server failed to answer by itself: its error log says why"},

	// The address.
	{statuses: []int{404}, family: "nginx",
		why:   "nginx looks for %s among its files: no location passes it to Tandem",
		where: "in the server block of nginx's configuration", lines: []string{"location %s { include snippets/tandem.conf; }"}, doc: "docs/nginx.md#install"},
	{statuses: []int{404}, family: "apache",
		why:   "Apache looks for %s among its files: nothing passes it to Tandem, or the program isn't in the folder of programs",
		where: "in the virtual host, one of", lines: []string{"Include /etc/tandem/apache/tandem-proxy-fcgi.conf", "Include /etc/tandem/apache/tandem-cgi.conf"}, doc: "docs/apache.md"},
	{statuses: []int{404}, family: "lighttpd",
		why:   "lighttpd looks for %s among its files: nothing passes it to Tandem, or the program isn't in the folder of programs",
		where: "in lighttpd.conf", lines: []string{`include "/etc/tandem/lighttpd/paths.conf"`, `include "/etc/tandem/lighttpd/tandem-fastcgi.conf"`}, doc: "docs/lighttpd.md#install"},
	{statuses: []int{404, 410},
		why: "There is nothing at %s: check the URL, and which paths the server passes to Tandem"},
	{statuses: []int{403}, family: "apache",
		why:   "Apache refuses %s: Require forbids it, or Options lacks ExecCGI for the folder of programs",
		where: "in the <Directory> of the programs", lines: []string{"Require all granted", "Options +ExecCGI"}, doc: "docs/apache.md"},
	{statuses: []int{403},
		why: "The web server refuses %s: its configuration forbids it (deny, auth), or %s is a folder of files there, or the file can't be read"},
	{statuses: []int{405, 501},
		why: "GET is not let through to %s: something on the way forbids it, or something else than Tandem answers"},
	{statuses: []int{401},
		why: "The web server wants to know who you are: use --user NAME:PASSWORD or --header"},
	{statuses: []int{407},
		why: "The forward proxy wants to know who you are: put NAME:PASSWORD@ into HTTPS_PROXY or HTTP_PROXY"},
	{statuses: []int{429},
		why: "Something on the way counts requests, and has had too many: try later"},
}

// classify says what an answer means that isn't the endpoint's.
func classify(u *url.URL, a *answer) diagnosis {
	text := "expected Tandem, got " + a.String()
	f := Finding{Verdict: Fault, Hop: "unknown", Doc: "docs/doctor.md"}
	if hop := newHop(a.Header.Get("Server"), "", "Server", ""); hop.Name != "" {
		f.Hop = hop.String()
	}
	if detail := problemDetail(a); detail != "" {
		return ownAnswer(u, a, detail)
	}
	if to := a.Header.Get("Location"); a.Status/100 == 3 && to != "" {
		if l, err := u.Parse(to); err == nil {
			to = l.Redacted()
		}
		text += ", to " + clean(to)
		f.Why = "The address was left for another one: use " + clean(to) + " if that is the endpoint; if it is a page to log in, bring what it gives: --header 'Cookie: …'."
		return diagnosis{text, f}
	}
	family := newHop(a.Header.Get("Server"), "", "", "").Family
	for _, r := range answers {
		if !slices.Contains(r.statuses, a.Status) || r.family != "" && r.family != family || !regexp.MustCompile(r.body).MatchString(a.Body) {
			continue
		}
		path := u.EscapedPath()
		if path == "" {
			path = "/"
		}
		f.Why = strings.ReplaceAll(r.why, "%s", path) + "."
		f.Where, f.Doc = r.where, r.doc
		if f.Doc == "" {
			f.Doc = "docs/doctor.md"
		}
		for _, line := range r.lines {
			f.Lines = append(f.Lines, strings.ReplaceAll(line, "%s", path))
		}
		if media := a.Header.Get("Content-Type"); a.Status == http.StatusOK {
			text += ", " + clean(media)
			if by := a.Header.Get("X-Powered-By"); by != "" {
				f.Why = "A page came, made by " + clean(by) + ": another program is at this address. Check the URL, and which paths the server passes to Tandem."
			}
		}
		if challenge := a.Header.Get("WWW-Authenticate"); a.Status == http.StatusUnauthorized && challenge != "" {
			text += ", which wants " + clean(challenge)
		}
		return diagnosis{text, f}
	}
	f.Why = "Something else than Tandem answers. Check the URL."
	return diagnosis{text, f}
}

// ownAnswer is for what Tandem itself says, and others that use RFC 9457.
func ownAnswer(u *url.URL, a *answer, detail string) diagnosis {
	d := diagnosis{fmt.Sprintf("Tandem is there and answers %d %s", a.Status, http.StatusText(a.Status)), Finding{Verdict: Fault, Hop: "Tandem", Why: detail, Doc: "docs/configuration.md"}}
	switch {
	case a.Status == http.StatusNotFound:
		d.finding.Where = "in tandem.toml; the name is yours to choose"
		d.finding.Lines = []string{"[endpoint.chat]", fmt.Sprintf("path = %q", u.Path), `app = "program"`, `command = ["/usr/bin/bc", "-q"]`}
	case a.Status == http.StatusInternalServerError:
		d.finding.Where, d.finding.Lines = "in a shell; it names file, line and key", []string{"tandem config check"}
	case a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "":
		d.finding.Where = "in /etc/tandem/tandem.toml, or in tandem.toml beside the binary"
		d.finding.Lines = []string{"[endpoint.chat]", `app = "program"`, `command = ["/usr/bin/bc", "-q"]`}
	case a.Status == http.StatusForbidden:
		d.finding.Hop = "the endpoint"
	}
	return d
}

// unreachable says what an error means that came in place of an answer.
func (d *examination) unreachable(err error) diagnosis {
	f := Finding{Verdict: Fault, Hop: d.url.Host, Doc: "docs/doctor.md"}
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var timeout net.Error
	var text string
	switch {
	case errors.As(err, &dns):
		text = "no address is known for " + clean(dns.Name)
		f.Why = "The name can't be resolved: check the URL, and DNS."
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "connection refused"
		f.Why = "Nothing listens there: does the web server run, and is it this port?"
	case errors.Is(err, syscall.ENOENT):
		text = "the socket is not there"
		f.Why = "There is no socket of that name: does the server run?"
	case errors.Is(err, syscall.EACCES):
		text = "the socket may not be used"
		f.Why = "This user has no permission to connect to the socket."
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		text = "no way leads there"
		f.Why = "The network is not reachable from here: check the address, routes and firewalls."
	case errors.As(err, &authority):
		text = "the certificate's authority is not known"
		f.Why = "The server shows a certificate that this machine has no reason to trust: a self-signed one, or a chain without its intermediate certificate. Name its authority with --cacert FILE, or have the server send the whole chain (nginx: ssl_certificate with the full chain; Apache: SSLCertificateFile likewise; lighttpd: ssl.pemfile)."
	case errors.As(err, &host):
		text = "the certificate is for another name"
		f.Why = clean(host.Error()) + ": use the name that the certificate has, or get one for this name."
	case errors.As(err, &invalid):
		text = "the certificate is not valid"
		f.Why = clean(invalid.Error()) + ": renew it, or set the clock."
	case errors.As(err, &record):
		text = "the port does not speak TLS"
		f.Why = "What came is no TLS: use http:// in the URL, or the port for https."
	case errors.As(err, &timeout) && timeout.Timeout():
		text = "no answer in time"
		f.Why = fmt.Sprintf("No answer came in %v: a firewall drops packets, or the server waits for something itself: see its error log.", 2*connectTimeout)
	default:
		text = clean(err.Error())
		f.Why = "The connection failed: " + text + ". If the port speaks TLS, use https://; if not, http://."
	}
	if p, perr := d.options.Proxy(&http.Request{URL: d.url}); perr == nil && p != nil {
		f.Hop = "the forward proxy " + p.Host + ", or behind it"
	}
	return diagnosis{text, f}
}
