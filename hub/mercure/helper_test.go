package mercure

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"tandem/fcgi"
	"tandem/hub"
	"tandem/hub/bustest"
	"tandem/internal/gateway"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(readerEnv); what != "" {
		if err := read(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	testURL    = "https://hub.example/.well-known/mercure"
	testSecret = "a secret of the tests, which is long enough"
	patience   = 20 * time.Second
)

var quiet = slog.New(slog.DiscardHandler)

// rig is a hub that can be reached.
type rig struct {
	t      testing.TB
	memory *bustest.Memory
	hub    *hub.Hub
	h      *Handler
	url    string // of the hub
}

// engines are the ways that requests reach a Handler in these tests: one that keeps a goroutine for each subscriber, and
// one that does not.
var engines = map[string]func(t testing.TB, h http.Handler) string{
	"net/http": func(t testing.TB, h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	},
	"fcgi, detached": func(t testing.TB, h http.Handler) string {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		s := &fcgi.Server{Handler: h, Detach: true, Log: quiet}
		served := make(chan error)
		go func() { served <- s.Serve(l) }()
		front := httptest.NewServer(&fcgi.Relay{Socket: socket, Log: quiet})
		t.Cleanup(func() {
			front.Close()
			s.Close()
			<-served
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		return front.URL
	},
}

// onEngines runs f with each.
func onEngines(t *testing.T, f func(t *testing.T, engine string)) {
	for name := range engines {
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

func newRig(t testing.TB, engine string, o Options, ho hub.Options) *rig {
	t.Helper()
	r := &rig{t: t, memory: new(bustest.Memory)}
	ho.Log, o.Log = quiet, quiet
	if o.URL == "" {
		o.URL = testURL
	}
	ho.Base = o.URL
	r.hub = hub.New(r.memory.Bus(), &ho)
	o.Hub = r.hub
	var err error
	if r.h, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.url = engines[engine](t, r.h) + hub.Reserved
	t.Cleanup(func() { // before the servers', which wait for open requests
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.hub.Close(ctx); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

// withKeys is a rig that takes tokens of the test's secret.
func withKeys(t testing.TB, engine string) *rig {
	return newRig(t, engine, Options{PublisherKeys: secretKeys(t), SubscriberKeys: secretKeys(t)}, hub.Options{Presence: true})
}

func secretKeys(t testing.TB) []Key {
	t.Helper()
	keys, err := ParseKeys([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// do sends a request; header fields come in pairs.
func (r *rig) do(method, path, body string, header ...string) *http.Response {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func text(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// post publishes a form of pairs with a token, if that isn't "".
func (r *rig) post(token string, pairs ...string) *http.Response {
	r.t.Helper()
	header := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	return r.do("POST", "", form(pairs...), header...)
}

// form keeps the order of pairs, and repeats names.
func form(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(pairs[i]) + "=" + url.QueryEscape(pairs[i+1]))
	}
	return b.String()
}

// update publishes through the hub.
func (r *rig) update(e hub.Event) string {
	r.t.Helper()
	if err := r.hub.Publish(context.Background(), &e); err != nil {
		r.t.Fatal(err)
	}
	return e.ID
}

// sub is an open subscription.
type sub struct {
	t      testing.TB
	resp   *http.Response
	blocks chan string // what comes, up to each empty line
}

// subscribe opens one, which has to be accepted.
func (r *rig) subscribe(query string, header ...string) *sub {
	r.t.Helper()
	resp := r.do("GET", "?"+query, "", header...)
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s: %s", query, resp.Status, text(r.t, resp))
	}
	s := &sub{r.t, resp, make(chan string, 10000)}
	go func() {
		defer close(s.blocks)
		var block strings.Builder
		for lines := bufio.NewReader(resp.Body); ; {
			line, err := lines.ReadString('\n')
			switch {
			case err != nil:
				return
			case line != "\n":
				block.WriteString(line)
			case block.String() == ":\n": // a heartbeat
				block.Reset()
			default:
				s.blocks <- block.String()
				block.Reset()
			}
		}
	}()
	return s
}

// want waits for blocks and compares them.
func (s *sub) want(blocks ...string) {
	s.t.Helper()
	for _, want := range blocks {
		select {
		case got, ok := <-s.blocks:
			if !ok {
				s.t.Fatalf("the stream ended, want %q", want)
			}
			if got != want {
				s.t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			s.t.Fatalf("nothing came, want %q", want)
		}
	}
}

// ended waits for the end.
func (s *sub) ended() {
	s.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case b, ok := <-s.blocks:
			if !ok {
				return
			}
			s.t.Errorf("got %q, want the end", b)
		case <-deadline:
			s.t.Fatal("it did not end")
		}
	}
}

// sign makes a token.
func sign(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for k, v := range header {
		if v == nil {
			delete(token.Header, k)
		} else {
			token.Header[k] = v
		}
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// access is a token of draft 08 with these authorization details.
func access(t testing.TB, details ...any) string {
	return sign(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"typ": "at+jwt"}, accessClaims(details...))
}

func accessClaims(details ...any) jwt.MapClaims {
	if details == nil {
		details = []any{}
	}
	return jwt.MapClaims{"aud": testURL, "exp": time.Now().Add(time.Hour).Unix(), "authorization_details": details}
}

// grant is an authorization detail.
func grant(action string, topics ...any) map[string]any {
	return map[string]any{"type": "mercure", "actions": []string{action}, "topics": topics}
}

func exact(topic string) map[string]any { return map[string]any{"match": topic} }
func pattern(p string) map[string]any   { return map[string]any{"match": p, "matchType": "URLPattern"} }

// claim is a token of drafts 05 to 07.
func claim(t testing.TB, mercure map[string]any, more ...map[string]any) string {
	c := jwt.MapClaims{"mercure": mercure}
	for _, m := range more {
		for k, v := range m {
			c[k] = v
		}
	}
	return sign(t, jwt.SigningMethodHS256, []byte(testSecret), nil, c)
}

// as has the web server have authenticated user.
func as(user string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := *gateway.Of(r)
		info.User = user
		h.ServeHTTP(w, r.WithContext(gateway.NewContext(r.Context(), &info)))
	})
}

// pair is a private key, and its public one as PEM.
type pair struct {
	method  jwt.SigningMethod
	private any
	pem     []byte
}

func newPairs(t testing.TB) map[string]pair {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]pair{
		"EdDSA": {jwt.SigningMethodEdDSA, ed, publicPEM(t, ed.Public())},
		"ES256": {jwt.SigningMethodES256, ec, publicPEM(t, ec.Public())},
		"RS256": {jwt.SigningMethodRS256, rs, publicPEM(t, rs.Public())},
	}
}

func publicPEM(t testing.TB, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
