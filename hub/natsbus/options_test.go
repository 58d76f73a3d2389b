package natsbus

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/hub"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

func TestBadOptions(t *testing.T) {
	t.Parallel()
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		o            Options
		option, want string
	}{
		{Options{Servers: []string{"localhost:4222"}}, "Servers", "expected a URL such as nats://"},
		{Options{Servers: []string{"http://u:secret@h"}}, "Servers", "http://u:xxxxx@h"},
		{Options{Name: "a.b"}, "Name", `"a.b"`},
		{Options{Replicas: 2}, "Replicas", "expected 1, 3 or 5"},
		{Options{MaxAge: time.Millisecond}, "MaxAge", "1s or more"},
		{Options{MaxEvents: -1}, "MaxEvents", "-1"},
		{Options{MaxBytes: -1}, "MaxBytes", "-1"},
		{Options{DuplicateWindow: time.Second}, "DuplicateWindow", "2m0s or more"},
		{Options{DuplicateWindow: time.Hour, MaxAge: time.Minute}, "DuplicateWindow", "no more than MaxAge"},
		{Options{Credentials: Credentials{User: "u", Token: "t"}}, "Credentials", "several"},
		{Options{Credentials: Credentials{Password: "p"}}, "Credentials", "without a user"},
		{Options{Credentials: Credentials{File: "/no/such"}}, "Credentials", "/no/such"},
		{Options{Credentials: Credentials{File: junk}}, "Credentials", junk},
		{Options{Credentials: Credentials{NKeyFile: junk}}, "Credentials", "an nkey's seed"},
		{Options{TLS: TLS{CAFile: "/no/such"}}, "TLS", "/no/such"},
		{Options{TLS: TLS{CAFile: junk}}, "TLS", "expected certificates in PEM"},
		{Options{TLS: TLS{CertFile: junk}}, "TLS", "one is missing"},
		{Options{TLS: TLS{CertFile: junk, KeyFile: junk}}, "TLS", "PEM"},
	} {
		b, err := New(tt.o)
		var oe *OptionError
		if !errors.As(err, &oe) || oe.Option != tt.option || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v; expected %q", tt.o, err, tt.want)
		}
		if b != nil {
			b.Close()
		}
	}
}

// checked is what Check says within a short time.
func checked(t *testing.T, o Options) error {
	t.Helper()
	b := open(t, o, time.Hour, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := b.Check(ctx)
	b.Close()
	return err
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()

	operator, _ := nkeys.CreateOperator()
	operatorKey, _ := operator.PublicKey()
	account, _ := nkeys.CreateAccount()
	accountKey, _ := account.PublicKey()
	system, _ := nkeys.CreateAccount()
	systemKey, _ := system.PublicKey()
	claims := jwt.NewAccountClaims(accountKey)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := claims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	systemJWT, _ := jwt.NewAccountClaims(systemKey).Encode(operator)
	userClaims := jwt.NewUserClaims(public)
	userJWT, err := userClaims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	if err != nil {
		t.Fatal(err)
	}
	byJWT := func(o *server.Options) {
		o.TrustedKeys = []string{operatorKey}
		o.SystemAccount = systemKey
		r := &server.MemAccResolver{}
		if err := errors.Join(r.Store(accountKey, accountJWT), r.Store(systemKey, systemJWT)); err != nil {
			t.Error(err)
		}
		o.AccountResolver = r
	}

	for name, tt := range map[string]struct {
		server    func(*server.Options)
		good, bad Credentials
	}{
		"password": {func(o *server.Options) { o.Username, o.Password = "u", "p" }, Credentials{User: "u", Password: "p"}, Credentials{User: "u", Password: "x"}},
		"token":    {func(o *server.Options) { o.Authorization = "secret" }, Credentials{Token: "secret"}, Credentials{Token: "x"}},
		"nkey":     {func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }, Credentials{NKeyFile: write("nkey", seed)}, Credentials{}},
		"creds":    {byJWT, Credentials{File: write("creds", creds)}, Credentials{NKeyFile: write("seed", seed)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, tt.server)
			o := Options{Servers: []string{n.url()}, Credentials: tt.good}
			if err := checked(t, o); err != nil {
				t.Error(err)
			}
			o.Credentials = tt.bad
			if err := checked(t, o); !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(strings.ToLower(err.Error()), "authorization violation") {
				t.Errorf("with the wrong ones: %v", err)
			}
		})
	}
}

// certificates writes a CA and what it signed, and returns their files.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	make := func(name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, signer = template, k
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := x509.ParseCertificate(der)
		kder, _ := x509.MarshalPKCS8PrivateKey(k)
		os.WriteFile(filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
		os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}), 0o600)
		return c, k
	}
	c, k := make("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	make("leaf", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, c, k)
	return filepath.Join(dir, "ca.pem"), filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "leaf.key")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, cert, key := certificates(t)
	other, _, _ := certificates(t)
	serverTLS := TLS{CAFile: ca, CertFile: cert, KeyFile: key}
	n := newNode(t, func(o *server.Options) {
		c, err := serverTLS.config()
		if err != nil {
			t.Fatal(err)
		}
		c.ClientCAs, c.ClientAuth = c.RootCAs, tls.RequireAndVerifyClientCert
		o.TLSConfig, o.TLSTimeout = c, 5
	})
	plain := newNode(t, nil)
	for _, tt := range []struct {
		name   string
		tls    TLS
		server string
		want   string
	}{
		{"trusted", serverTLS, n.url(), ""},
		{"another's CA", TLS{CAFile: other, CertFile: cert, KeyFile: key}, n.url(), "signed by unknown authority"},
		{"no client certificate", TLS{CAFile: ca}, n.url(), "tls"},
		{"insecure", TLS{CertFile: cert, KeyFile: key, Insecure: true}, n.url(), ""},
		{"a server without", TLS{CAFile: ca}, plain.url(), "secure connection not available"},
		{"a URL that says so", TLS{}, strings.Replace(plain.url(), "nats:", "tls:", 1), "secure connection not available"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			o := Options{Servers: []string{tt.server}, TLS: tt.tls, Log: slog.New(slog.NewTextHandler(&log, nil))}
			err := checked(t, o)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, expected %q", err, tt.want)
			}
			if said := strings.Contains(log.String(), "any certificate of a server is trusted"); said != tt.tls.Insecure {
				t.Errorf("a warning: %t\n%s", said, log.String())
			}
		})
	}
}

// A password in clear is said.
func TestClear(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{"nats://192.0.2.1": true, "nats://127.0.0.1": false, "tls://192.0.2.1": false} {
		var log bytes.Buffer
		b := &Bus{o: Options{Servers: []string{url}, Credentials: Credentials{Token: "secret"}}, log: slog.New(slog.NewTextHandler(&log, nil))}
		b.warn(false)
		if got := strings.Contains(log.String(), "in clear"); got != want || strings.Contains(log.String(), "secret") {
			t.Errorf("%s: %s", url, log.String())
		}
	}
}

func TestNoJetStream(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(o *server.Options) { o.JetStream = false })
	err := checked(t, Options{Servers: []string{n.url()}})
	if !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(err.Error(), "jetstream {}") || !strings.Contains(err.Error(), n.url()) {
		t.Errorf("got %v", err)
	}
}

// A stream that is there gets the options' bounds; one that isn't the hub's stays as it is.
func TestStream(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	o := Options{Servers: []string{n.url()}, Name: newName()}
	if err := checked(t, o); err != nil {
		t.Fatal(err)
	}
	o.MaxAge, o.MaxEvents, o.MaxBytes = time.Hour, 1000, 1<<20
	b := open(t, o, time.Hour, time.Hour)
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := b.js.Stream(t.Context(), o.Name)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxAge != o.MaxAge || c.MaxMsgs != o.MaxEvents || c.MaxBytes != o.MaxBytes || c.Duplicates != hub.DuplicateWindow {
		t.Errorf("got %+v", c)
	}
	o.Memory = true
	if err := checked(t, o); err == nil || !strings.Contains(err.Error(), "option Memory") {
		t.Errorf("another storage: %v", err)
	}
	o.Memory, o.Replicas = false, 3
	if err := checked(t, o); !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("replicas on one server: %v", err)
	}
	name := newName()
	if _, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{"other.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := checked(t, Options{Servers: []string{n.url()}, Name: name}); err == nil || !strings.Contains(err.Error(), "choose another Name") {
		t.Errorf("another's stream: %v", err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, topic := range []string{"", "%", "a", "A", "*", ">", ".", "..", "a.b", "a b", "a%2Eb", "https://example.com/books/{id}", "ü", "€", "$JS",
		strings.Repeat("x", maxToken), strings.Repeat("x", maxToken+1), strings.Repeat(".", 2048), strings.Repeat(".", 2047) + "*", "\x7f", "日本"} {
		tok := token(topic)
		if strings.ContainsAny(tok, ".*> $\x7f") || tok == "" || len(tok) > maxToken+2 {
			t.Errorf("%q is %q", topic, tok)
		}
		if other, ok := seen[tok]; ok {
			t.Errorf("%q and %q are both %q", topic, other, tok)
		}
		seen[tok] = topic
	}
}

// Topics that look like patterns are only themselves, however long.
func TestTopics(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	b := open(t, Options{Servers: []string{n.url()}, Name: newName()}, time.Hour, time.Hour)
	topics := []string{"a", "a.b", "a.*", "a.>", ">", "a b", strings.Repeat("€", 683), strings.Repeat(".", 2048)}
	for i, topic := range topics {
		h := follow(t, b, topic)
		defer func() { h.wants(t, 0, fmt.Sprint(i)) }()
	}
	for i, topic := range topics {
		publish(t, b, topic, fmt.Sprint(i))
	}
	for i, topic := range topics {
		if got, _ := history(t, b, hub.Query{Topics: []string{topic}, Earliest: true}); idsOf(got) != fmt.Sprint(i) || got[0].Topic != topic {
			t.Errorf("%q: history %s", topic, idsOf(got))
		}
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(o *server.Options) { o.MaxPayload = 4096 })
	b := open(t, Options{Servers: []string{n.url()}, Name: newName()}, time.Hour, time.Hour)
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := b.Publish(t.Context(), &hub.Event{ID: "1", Topic: "a", Data: strings.Repeat("x", 4096)})
	if !errors.Is(err, hub.ErrTooLarge) || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("got %v", err)
	}
}

// An ID is found however long ago it was, by a process that has seen nothing, and what isn't stored is not found.
func TestFindID(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	o := Options{Servers: []string{n.url()}, Name: newName(), MaxEvents: 3000}
	b := open(t, o, time.Hour, time.Hour)
	ids := numbers(1, 4000)
	for i, id := range ids {
		m, err := b.encode(&hub.Event{ID: id, Topic: fmt.Sprint(i % 50), Data: "x"})
		if err == nil {
			err = b.Check(t.Context())
		}
		if err == nil {
			_, err = b.js.PublishMsgAsync(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	<-b.js.PublishAsyncComplete()
	fresh := open(t, o, time.Hour, time.Hour)
	for _, tt := range []struct {
		after string
		rest  []string
		whole bool
	}{
		{"3999", ids[3999:], true},
		{"3000", ids[3000:], true},
		{"1001", ids[1001:], true},
		{"1000", ids[1000:], false},
		{"nothing", ids[1000:], false},
		{"4000", nil, true},
	} {
		got, span := history(t, fresh, hub.Query{After: tt.after, Earliest: true})
		if idsOf(got) != strings.Join(tt.rest, " ") || span.Complete != tt.whole || span.LastID != "4000" {
			t.Errorf("behind %s: %d events, %+v; expected %d", tt.after, len(got), span, len(tt.rest))
		}
	}
	// A few topics are merged, many are picked out.
	for _, k := range []int{3, 40} {
		var topics []string
		want := 0
		for i := range k {
			topics = append(topics, fmt.Sprint(i))
		}
		for i := 1000; i < 4000; i++ {
			if i%50 < k {
				want++
			}
		}
		got, _ := history(t, fresh, hub.Query{Topics: topics, Earliest: true})
		if len(got) != want {
			t.Errorf("%d topics: %d events, expected %d", k, len(got), want)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Seq <= got[i-1].Seq {
				t.Fatalf("Seq %d behind %d", got[i].Seq, got[i-1].Seq)
			}
		}
	}
}
