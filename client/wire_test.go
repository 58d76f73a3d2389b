package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"tandem/session/frame"
)

// Each frame leaves at once, however small, with the request's length declared or
// not: the fake server answers a message only once it is there, whole, and the
// next one is sent only after the answer.
func TestFramesLeaveAtOnce(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for _, through := range []string{"", "proxy"} {
			t.Run(fmt.Sprintf("chunked=%v%s", chunked, through), func(t *testing.T) {
				onlyLength(t, chunked)
				url := fake(t, func(v *visit) {
					if got := v.req.ContentLength; chunked && got != -1 || !chunked && got != 1<<40 {
						t.Errorf("Content-Length %d", got)
					}
					v.open()
					for range 3 {
						if f := v.message(); f != nil {
							v.write(fmt.Sprintf(`{"type":"message","seq":%d,"data":%q}`+"\n", f.Seq, f.Data))
						}
					}
					v.write(`{"type":"close","seq":3,"code":1000}` + "\n")
				})
				o := &Options{Transport: Single, Codec: "json"}
				seen := make(chan string, 1)
				if through != "" {
					o.Proxy = http.ProxyURL(proxy(t, seen))
				}
				c := dialTest(t, url, o)
				for _, text := range []string{"a", "", "ccc"} {
					send(t, c, text)
					receive(t, c, text)
				}
				receiveClose(t, c, frame.CodeNormal)
				if through != "" && <-seen != "POST" {
					t.Error("expected a POST to the proxy")
				}
			})
		}
	}
}

// onlyLength has Dial declare 1 TiB, or nothing.
func onlyLength(t *testing.T, chunked bool) {
	if chunked {
		old := lengths
		lengths = []int64{-1}
		t.Cleanup(func() { lengths = old })
	}
}

// The same over TLS: HTTP/1.1, HTTP/2, and with a proxy's CONNECT.
func TestFramesLeaveAtOnceTLS(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			for _, through := range []string{"", "proxy"} {
				t.Run(fmt.Sprintf("%s,chunked=%v%s", proto, chunked, through), func(t *testing.T) {
					onlyLength(t, chunked)
					srv := httptest.NewUnstartedServer(http.HandlerFunc(stepByStep))
					srv.EnableHTTP2 = true
					srv.StartTLS()
					defer srv.Close()
					o := &Options{Transport: Single, Codec: "json", HTTP1: proto == "HTTP/1.1",
						TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig}
					seen := make(chan string, 1)
					if through != "" {
						o.Proxy = http.ProxyURL(proxy(t, seen))
					}
					c := dialTest(t, srv.URL, o)
					for _, text := range []string{"a", "", "ccc"} {
						send(t, c, text)
						receive(t, c, text)
					}
					if got := c.Path().Proto; got != proto {
						t.Errorf("expected %s, got %s", proto, got)
					}
					if through != "" && <-seen != "CONNECT" {
						t.Error("expected a CONNECT to the proxy")
					}
					c.CloseNow()
				})
			}
		}
	}
}

// stepByStep echoes as a handler on net/http that knows nothing of sessions.
func stepByStep(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	io.WriteString(w, jsonOpen)
	rc.Flush()
	buf := make([]byte, 1<<10)
	dec := frame.JSON.NewDecoder()
	for have := 0; ; {
		n, err := r.Body.Read(buf[have:])
		if err != nil {
			return
		}
		for have += n; ; {
			var f frame.Frame
			n, err := dec.Decode(buf[:have], &f)
			if n == 0 || err != nil {
				break
			}
			if f.Type == frame.TypeMessage {
				fmt.Fprintf(w, `{"type":"message","seq":%d,"data":%q}`+"\n", f.Seq, f.Data)
				rc.Flush()
			}
			have = copy(buf, buf[n:have])
		}
	}
}

// What the request says, and that no option changes what the protocol needs.
func TestRequestHead(t *testing.T) {
	heads := make(chan *http.Request, 1)
	addr := fake(t, func(v *visit) {
		heads <- v.req
		v.open()
		v.write(`{"type":"close","seq":0,"code":1000}` + "\n")
	})
	u, _ := url.Parse(addr)
	u.User = url.UserPassword("me", "pa:ss")
	u.RawQuery = "room=1"
	u.Fragment = "never-sent"
	c := dialTest(t, u.String(), &Options{Transport: Single, Codec: "json", Header: http.Header{
		"X-Mine": {"1", "2"}, "Accept-Encoding": {"gzip"}, "Content-Type": {"text/html"}, "User-Agent": {"mine/1"}, "Host": {"other.example"}}})
	receiveClose(t, c, frame.CodeNormal)
	head := <-heads
	want := map[string]string{
		"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson", "Accept-Encoding": "identity",
		"Incremental": "?1", "Tandem-Transport": "single", "User-Agent": "mine/1", "X-Mine": "1,2",
		"Authorization": "Basic bWU6cGE6c3M=", "Expect": "",
	}
	for name, value := range want {
		if got := strings.Join(head.Header.Values(name), ","); got != value {
			t.Errorf("%s: expected %q, got %q", name, value, got)
		}
	}
	if head.RequestURI != "/tandem?room=1" || head.Method != "POST" || head.Host != "other.example" {
		t.Errorf("got %s %s for %s", head.Method, head.RequestURI, head.Host)
	}
}

// The certificate is verified.
func TestTLSVerified(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(stepByStep))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	for _, transport := range []string{"", Single} {
		_, err := Dial(patient(t), srv.URL, &Options{Transport: transport, Proxy: noProxy})
		var verify *tls.CertificateVerificationError
		var none *NoTransportError
		if !errors.As(err, &verify) || errors.As(err, &none) {
			t.Errorf("transport %q: expected a verification error, got %v", transport, err)
		}
	}
}

// The client needs no package of the server's but the wire.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		switch dep = strings.TrimSpace(dep); dep {
		case "", "tandem/client", "tandem/session/frame", "tandem/session/flow":
		default:
			t.Errorf("client must not depend on %s", dep)
		}
	}
}
