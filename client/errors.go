package client

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// UsageError is a URL or an option that can't be used.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return "client: " + e.text }

func usageErrorf(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// HTTPError is an answer that is not a session: a refusal by the endpoint, or a
// web server, proxy or login page that answered in its place.
type HTTPError struct {
	Method, URL string // of the request
	Status      int
	Title       string        // of the problem (RFC 9457), or of the status
	Detail      string        // for people; from the endpoint, or what was unexpected
	RetryAfter  time.Duration // 0: the answer doesn't say
	Server      string        // the answer's Server header
	Location    string        // where a redirection points
}

func (e *HTTPError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client: %s %s: %d %s", e.Method, e.URL, e.Status, e.Title)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, " (retry after %v)", e.RetryAfter)
	}
	if e.Server != "" {
		fmt.Fprintf(&b, " (server: %s)", e.Server)
	}
	return b.String()
}

// An Attempt is one way that was tried to open a session.
type Attempt struct {
	Transport string // Single, Split, Pulse or Poll
	Body      string // of the requests: "length 1099511627776", "chunked" or "batches"
	Err       error
	rank      int // its place in the order
}

// NoTransportError says that the endpoint is there, but no transport that this
// client has carries messages both ways to it.
type NoTransportError struct {
	URL      string
	Software string    // the web server, by the endpoint's description or its Server header
	Attempts []Attempt // none where the endpoint's description rules all out
	Hint     string    // the likely cause and what to do
}

func (e *NoTransportError) Error() string {
	var b strings.Builder
	b.WriteString("client: " + e.URL + ": no transport works")
	for i, a := range e.Attempts {
		sep := "; "
		if i == 0 {
			sep = " (tried "
		}
		fmt.Fprintf(&b, "%s%s with %s: %v", sep, a.Transport, a.Body, a.Err)
	}
	if len(e.Attempts) > 0 {
		b.WriteString(")")
	}
	b.WriteString(": " + e.Hint)
	return b.String()
}

// Unwrap gives the attempts' errors.
func (e *NoTransportError) Unwrap() []error {
	var errs []error
	for _, a := range e.Attempts {
		errs = append(errs, a.Err)
	}
	return errs
}

// hint names the likely cause, by the web server's name.
func hint(software string) string {
	lower := strings.ToLower(software)
	switch {
	case strings.HasPrefix(lower, "nginx"):
		return "nginx holds one direction back: set fastcgi_request_buffering off and fastcgi_buffering off (docs/nginx.md)"
	case strings.HasPrefix(lower, "apache"):
		return "Apache lets split through everywhere, single nowhere, pulse with mod_proxy_fcgi alone (docs/apache.md)"
	case strings.HasPrefix(lower, "lighttpd"):
		return "lighttpd holds one direction back: set server.stream-request-body = 2 and server.stream-response-body = 2 (docs/lighttpd.md)"
	case software == "":
		return "the web server, or a proxy in between, holds one direction back"
	}
	return software + ", or a proxy in between, holds one direction back"
}

// maxProblem is how much is read of an answer that is not a session, in bytes.
const maxProblem = 64 << 10

// notASession makes an error of an answer other than the session that was asked
// for in the media type want.
func notASession(req *http.Request, resp *http.Response, want string) *HTTPError {
	e := &HTTPError{
		Method:   req.Method,
		URL:      req.URL.Redacted(),
		Status:   resp.StatusCode,
		Title:    http.StatusText(resp.StatusCode),
		Server:   resp.Header.Get("Server"),
		Location: resp.Header.Get("Location"),
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case media == "application/problem+json":
		var problem struct{ Title, Detail string }
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
		if err == nil && json.Unmarshal(body, &problem) == nil {
			if problem.Title != "" {
				e.Title = clean(problem.Title)
			}
			e.Detail = clean(problem.Detail)
		}
	case resp.StatusCode == http.StatusOK:
		e.Detail = fmt.Sprintf("expected a session (%s), got %s: something else answers at this URL, or on the way to it", want, orNothing(media))
	case e.Location != "":
		if to, err := req.URL.Parse(e.Location); err == nil {
			e.Location = to.Redacted()
		}
		e.Detail = "expected a session, got a redirection: use the URL " + clean(e.Location)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusProxyAuthRequired:
		e.Detail = "who you are has to be told: " + clean(resp.Header.Get("WWW-Authenticate")+resp.Header.Get("Proxy-Authenticate"))
	}
	return e
}

func orNothing(media string) string {
	if media == "" {
		return "no Content-Type"
	}
	return media
}

// clean makes one printable line of what a server said.
func clean(s string) string {
	const most = 500
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 1<<30 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at).Round(time.Second))
	}
	return 0
}
