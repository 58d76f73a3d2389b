package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/session/frame"
)

// Answers that are not a session are an HTTPError, after one attempt.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		want         HTTPError // Method and URL aside
	}{
		{"problem", "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nRetry-After: 7\r\nServer: s/1\r\nConnection: close\r\n\r\n" +
			`{"title":"Enough","status":429,"detail":"one\ntwo"}`,
			HTTPError{Status: 429, Title: "Enough", Detail: "one two", RetryAfter: 7 * time.Second, Server: "s/1"}},
		{"problem that isn't one", "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n<html>",
			HTTPError{Status: 403, Title: "Forbidden"}},
		{"endless problem", "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n" + strings.Repeat(" ", 200_000),
			HTTPError{Status: 403, Title: "Forbidden"}},
		{"redirection", "HTTP/1.1 301 Moved Permanently\r\nLocation: /elsewhere/\r\nContent-Length: 0\r\n\r\n",
			HTTPError{Status: 301, Title: "Moved Permanently", Location: "/elsewhere/"}},
		{"login", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
			HTTPError{Status: 401, Title: "Unauthorized", Detail: "who you are has to be told: Basic realm=\"x\""}},
		{"page", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nServer: portal\r\nConnection: close\r\n\r\n<html>",
			HTTPError{Status: 200, Title: "OK", Server: "portal", Detail: "expected a session (application/vnd.tandem), got text/html: something else answers at this URL, or on the way to it"}},
		{"other codec", "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n",
			HTTPError{Status: 200, Title: "OK", Detail: "expected a session (application/vnd.tandem), got application/x-ndjson: something else answers at this URL, or on the way to it"}},
		{"no type", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			HTTPError{Status: 200, Title: "OK", Detail: "expected a session (application/vnd.tandem), got no Content-Type: something else answers at this URL, or on the way to it"}},
	} {
		for _, transport := range []string{"", Single, Pulse} {
			t.Run(test.name+","+transport, func(t *testing.T) {
				posts := make(chan string, 10)
				url := fake(t, func(v *visit) {
					if v.refuseGET() {
						return
					}
					posts <- v.req.Method
					v.write(test.answer)
				})
				_, err := Dial(patient(t), url, &Options{Transport: transport, Proxy: noProxy})
				var got *HTTPError
				if !errors.As(err, &got) {
					t.Fatalf("expected an HTTPError, got %v", err)
				}
				want := test.want
				want.Method, want.URL = "POST", url
				if want.Location != "" {
					want.Location = strings.TrimSuffix(url, "/tandem") + want.Location
					want.Detail = "expected a session, got a redirection: use the URL " + want.Location
				}
				if *got != want {
					t.Errorf("expected %+v\ngot %+v", want, *got)
				}
				if n := len(posts); n != 1 {
					t.Errorf("%d requests were made", n)
				}
			})
		}
	}
}

// What is wrong with the endpoint shows when it is asked to describe itself.
func TestDescriptionRefused(t *testing.T) {
	for status, want := range map[string]string{
		"404 Not Found":           "404 Not Found",
		"307 Temporary Redirect":  "use the URL http://example.org/new",
		"503 Service Unavailable": "503",
	} {
		url := fake(t, func(v *visit) {
			v.write("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\nLocation: http://example.org/new\r\n\r\n")
		})
		_, err := Dial(patient(t), url, &Options{Proxy: noProxy})
		var got *HTTPError
		if !errors.As(err, &got) || got.Method != "GET" || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q, got %v", want, err)
		}
	}
}

func describeAs(v *visit, description string) bool {
	if v.req.Method != http.MethodGet {
		return false
	}
	v.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: Apache/2.4\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(description), description))
	return true
}

func TestOtherVersion(t *testing.T) {
	url := fake(t, func(v *visit) { describeAs(v, `{"version":2,"transports":["single"]}`) })
	if _, err := Dial(patient(t), url, &Options{Proxy: noProxy}); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v", err)
	}
}

// attempts records what a fake server is asked.
type attempts struct {
	mu   sync.Mutex
	list []string
}

func (a *attempts) add(v *visit) string {
	length := fmt.Sprint(v.req.ContentLength)
	if v.req.ContentLength < 0 {
		length = "chunked"
	}
	name := v.req.Header.Get("Tandem-Transport") + " " + length
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, name)
	return name
}

// The ways are tried in order, each once, and the first that works is taken.
func TestLadder(t *testing.T) {
	const (
		tib, gib, mib = "single 1099511627776", "single 1073741824", "single 1048576"
		refuse        = "HTTP/1.1 %s\r\nServer: lighttpd/1.4\r\nContent-Length: 0\r\n\r\n"
	)
	tooLarge, length, gateway := "413 Content Too Large", "411 Length Required", "504 Gateway Timeout"
	hang, drop := "hang", "drop"
	for _, test := range []struct {
		name        string
		description string
		transport   string
		answers     map[string]string // to an attempt; others work
		want        []string
	}{
		{"first", "", "", nil, []string{tib}},
		{"limit of 1 GiB", "", "", map[string]string{tib: tooLarge}, []string{tib, gib}},
		{"limit of 1 MiB", "", Single, map[string]string{tib: tooLarge, gib: tooLarge}, []string{tib, gib, mib}},
		{"no length", "", Single, map[string]string{tib: tooLarge, gib: tooLarge, mib: tooLarge}, []string{tib, gib, mib, "single chunked"}},
		{"held back", "", "", map[string]string{tib: hang}, []string{tib, "single chunked"}},
		{"cut", "", "", map[string]string{tib: drop}, []string{tib, "single chunked"}},
		{"pulse with length", "", Pulse, map[string]string{"pulse chunked": length}, []string{"pulse chunked", "pulse 1099511627776"}},
		{"recommended", `{"version":1,"transports":["pulse","split"]}`, "", nil, []string{"pulse chunked"}},
		{"pulse is the last resort", `{"version":1,"transports":["single"]}`, "", map[string]string{tib: gateway, "single chunked": hang}, []string{tib, "single chunked", "pulse chunked"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var seen attempts
			url := fake(t, func(v *visit) {
				if v.req.Method == "GET" && test.description != "" {
					describeAs(v, test.description)
					return
				}
				if v.refuseGET() {
					return
				}
				switch answer := test.answers[seen.add(v)]; answer {
				case "":
					v.open()
					v.write(`{"type":"close","seq":0,"code":1000}` + "\n")
				case drop:
				case hang:
					io.Copy(io.Discard, v.body)
				default:
					v.write(fmt.Sprintf(refuse, answer))
				}
			})
			c := dialTest(t, url, &Options{Codec: "json", Transport: test.transport, OpenTimeout: 200 * time.Millisecond})
			receiveClose(t, c, frame.CodeNormal)
			if !slices.Equal(seen.list, test.want) {
				t.Errorf("expected %q, got %q", test.want, seen.list)
			}
		})
	}
}

// Where nothing works the error says what was tried and what may be the cause.
func TestNothingWorks(t *testing.T) {
	hang := func(v *visit) {
		if !describeAs(v, `{"version":1,"transports":["single"],"software":"nginx/1.22.1"}`) {
			io.Copy(io.Discard, v.body)
		}
	}
	for _, test := range []struct {
		name, transport string
		answer          func(*visit)
		attempts        int
		hint            string
	}{
		{"chosen", "", hang, 4, "fastcgi_buffering off"},
		{"given", Single, hang, 1, "fastcgi_buffering off"}, // once only: the program may have started
		{"ruled out", "", func(v *visit) {
			describeAs(v, `{"version":1,"transports":[],"software":"Apache/2.4 (Debian)"}`)
		}, 0, "mod_proxy_fcgi"},
		{"open without pong", "", func(v *visit) {
			if v.refuseGET() {
				return
			}
			v.write(jsonHead + jsonOpen)
			io.Copy(io.Discard, v.body)
		}, 6, "holds one direction back"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Dial(patient(t), fake(t, test.answer), &Options{Transport: test.transport, Proxy: noProxy, Codec: "json", OpenTimeout: 50 * time.Millisecond})
			var none *NoTransportError
			if !errors.As(err, &none) {
				t.Fatalf("expected a NoTransportError, got %v", err)
			}
			if len(none.Attempts) != test.attempts || !strings.Contains(err.Error(), test.hint) {
				t.Errorf("expected %d attempts and %q, got %v", test.attempts, test.hint, err)
			}
			if test.attempts > 0 && !errors.Is(err, errHeldBack) {
				t.Errorf("expected to find errHeldBack in %v", err)
			}
		})
	}
}

// A session whose response ends or breaks without a close frame is lost, however
// complete HTTP calls the response.
func TestEndWithoutClose(t *testing.T) {
	for name, head := range map[string]string{
		"by the connection": jsonHead,
		"chunked":           "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
		"cut":               "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			url := fake(t, func(v *visit) {
				text := jsonOpen + `{"type":"message","seq":1,"data":"last"}` + "\n"
				if name == "chunked" {
					text = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text)
				}
				v.frame()
				v.write(head + text)
			})
			c := dialTest(t, url, &Options{Transport: Single, Codec: "json"})
			receive(t, c, "last")
			over := receiveClose(t, c, frame.CodeHeartbeat)
			if !strings.Contains(over.Reason, "without a close frame") {
				t.Errorf("reason %q", over.Reason)
			}
			if err := c.Close(frame.CodeNormal, ""); err == nil {
				t.Error("Close of a lost session returned nil")
			}
		})
	}
}

// The server's end frame is the end of what it sends; the response's end after it
// is still no close.
func TestServerEnds(t *testing.T) {
	url := fake(t, func(v *visit) {
		v.open()
		v.write(`{"type":"end","seq":0}` + "\n")
		v.message()
	})
	c := dialTest(t, url, &Options{Transport: Single, Codec: "json"})
	if _, err := c.Receive(patient(t)); err != io.EOF {
		t.Fatalf("expected io.EOF, got %v", err)
	}
	send(t, c, "x")
	<-c.Done()
	var over *frame.CloseError
	if err := c.Err(); !errors.As(err, &over) || over.Code != frame.CodeHeartbeat {
		t.Fatalf("expected close 4001, got %v", err)
	}
}

// What is not the protocol ends the session, with a code that says so.
func TestGarbage(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		code frame.Code
	}{
		"not JSON":        {"\x16\x03\x01\n", frame.CodeProtocol},
		"message first":   {`{"type":"message","seq":1,"data":"x"}` + "\n", frame.CodeProtocol},
		"other version":   {strings.Replace(jsonOpen, `"version":1`, `"version":9`, 1), frame.CodeProtocol},
		"no window":       {strings.Replace(jsonOpen, `"window":65536`, `"window":1`, 1), frame.CodeProtocol},
		"opened twice":    {jsonOpen + jsonOpen, frame.CodeProtocol},
		"a gap":           {jsonOpen + `{"type":"message","seq":2,"data":"x"}` + "\n", frame.CodeProtocol},
		"ack of nothing":  {jsonOpen + `{"type":"ack","received":5,"window":65536,"messages":64}` + "\n", frame.CodeProtocol},
		"detach":          {jsonOpen + `{"type":"detach","code":4004}` + "\n", frame.CodeHeartbeat},
		"endless frame":   {strings.Repeat("x", 300_000), frame.CodeTooBig},
		"window overrun":  {jsonOpen + strings.Repeat("\n", 10) + overrun(), frame.CodePolicy},
		"close at once":   {jsonOpen + `{"type":"close","seq":0,"code":1013,"reason":"full","retry_ms":5}` + "\n", frame.CodeOverloaded},
		"unknown, closed": {jsonOpen + `{"type":"later"}` + "\n" + `{"type":"close","seq":0,"code":1000}` + "\n", frame.CodeNormal},
	} {
		t.Run(name, func(t *testing.T) {
			url := fake(t, func(v *visit) {
				v.write(jsonHead + test.text)
				io.Copy(io.Discard, v.body)
			})
			c, err := Dial(patient(t), url, &Options{Transport: Single, Codec: "json", Proxy: noProxy})
			if c != nil {
				defer c.CloseNow()
				<-c.Done() // receiving would make room in the window
				for err == nil {
					_, err = c.Receive(patient(t))
				}
			}
			var over *frame.CloseError
			if !errors.As(err, &over) || over.Code != test.code {
				t.Errorf("expected close %d, got %v", test.code, err)
			}
		})
	}
}

// overrun is more messages than DefaultMessages.
func overrun() string {
	var b strings.Builder
	for i := range DefaultMessages + 1 {
		fmt.Fprintf(&b, `{"type":"message","seq":%d,"data":""}`+"\n", i+1)
	}
	return b.String()
}

// A web server that keeps its connections, Apache to a proxy, ends a response
// only after the request's body: a chunked one ends with the session.
func TestChunkedBodyEnds(t *testing.T) {
	ended := make(chan bool, 1)
	url := fake(t, func(v *visit) {
		v.open()
		for {
			f := v.frame()
			if f != nil && f.Type == frame.TypeClose {
				v.write(`{"type":"close","seq":0,"code":1000}` + "\n")
				_, err := io.Copy(io.Discard, v.in)
				ended <- err == nil
			}
			if f == nil || f.Type == frame.TypeClose {
				return
			}
		}
	})
	c := dialTest(t, url, &Options{Transport: Pulse, Codec: "json"})
	if err := c.Close(frame.CodeNormal, ""); err != nil {
		t.Error(err)
	}
	if !<-ended {
		t.Error("the body was cut")
	}
}

func TestNoConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, transport := range []string{"", Single} {
		_, err := Dial(patient(t), "http://"+ln.Addr().String(), &Options{Transport: transport, Proxy: noProxy})
		var op *net.OpError
		var none *NoTransportError
		if !errors.As(err, &op) || errors.As(err, &none) {
			t.Errorf("transport %q: expected the dial error, got %v", transport, err)
		}
	}
}

func TestDialHonoursContext(t *testing.T) {
	for _, transport := range []string{"", Single} {
		ctx, cancel := context.WithCancel(context.Background())
		url := fake(t, func(v *visit) {
			if v.refuseGET() {
				return
			}
			cancel()
			io.Copy(io.Discard, v.body)
		})
		if _, err := Dial(ctx, url, &Options{Transport: transport, Proxy: noProxy}); !errors.Is(err, context.Canceled) {
			t.Errorf("transport %q: expected context.Canceled, got %v", transport, err)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, url := range []string{"", "example.org/tandem", "ws://example.org", "http://", "http://[::1", "https://u:secret@"} {
		_, err := Dial(patient(t), url, nil)
		var usage *UsageError
		if !errors.As(err, &usage) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", url, err)
		}
	}
	for _, o := range []Options{{Transport: "carrier pigeon"}, {Codec: "lines"}, {Window: 1000}} {
		_, err := Dial(patient(t), "http://127.0.0.1:1/", &o)
		var usage *UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%+v: got %v", o, err)
		}
	}
}

// A length that is used up ends the session with an error that says so, and
// nothing is written beyond it.
func TestDeclaredLengthUsedUp(t *testing.T) {
	old := lengths
	lengths = []int64{5000}
	defer func() { lengths = old }()
	counted := make(chan int64, 1)
	url := fake(t, func(v *visit) {
		v.write(jsonHead + jsonOpen)
		n, _ := io.Copy(io.Discard, v.req.Body)
		counted <- n
	})
	c := dialTest(t, url, &Options{Transport: Single, Codec: "json"})
	var err error
	for err == nil {
		err = c.Send(patient(t), frame.Text(strings.Repeat("x", 900)))
	}
	var over *frame.CloseError
	if !errors.As(err, &over) || over.Code != frame.CodeHeartbeat || !strings.Contains(over.Reason, "the 5000 bytes") {
		t.Errorf("got %v", err)
	}
	if n := <-counted; n > 5000 || n < 3500 {
		t.Errorf("the server read %d bytes", n)
	}
}
