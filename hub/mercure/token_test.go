package mercure

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tandem/hub"
)

// verifier is a Handler that only verifies.
func verifier(t testing.TB, o Options) *Handler {
	t.Helper()
	o.Hub, o.URL, o.Log = hub.New(nil, nil), testURL, quiet
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestAlgorithms: each kind of key verifies the tokens of its algorithm.
func TestAlgorithms(t *testing.T) {
	h := verifier(t, Options{})
	pairs := newPairs(t)
	for alg, p := range pairs {
		keys, err := ParseKeys(p.pem)
		if err != nil {
			t.Fatal(err)
		}
		if keys[0].Alg != alg {
			t.Errorf("%s: the key is for %s", alg, keys[0].Alg)
		}
		token := sign(t, p.method, p.private, map[string]any{"typ": "at+jwt"}, accessClaims(grant("publish", exact("t"))))
		g, err := h.verify(token, keys)
		if err != nil || !g.mayPublish("t") || g.mayPublish("u") || g.mayRead("t") {
			t.Errorf("%s: %+v, %v", alg, g, err)
		}
		for other, q := range pairs {
			if other == alg {
				continue
			}
			keys, err := ParseKeys(q.pem)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.verify(token, keys); err == nil {
				t.Errorf("a token of %s passes a key for %s", alg, other)
			}
		}
	}
}

// TestAttacks6_3: tokens that must be refused.
func TestAttacks6_3(t *testing.T) {
	pairs := newPairs(t)
	rs, ed := pairs["RS256"], pairs["EdDSA"]
	var keys []Key
	for _, data := range [][]byte{rs.pem, ed.pem, []byte(testSecret)} {
		k, err := ParseKeys(data)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k...)
	}
	keys[0].ID, keys[1].ID, keys[2].ID = "rsa", "ed", "secret"
	all := grant("publish", exact("*"))
	with := func(claim string, v any) jwt.MapClaims {
		c := accessClaims(all)
		if v == nil {
			delete(c, claim)
		} else {
			c[claim] = v
		}
		return c
	}
	at := map[string]any{"typ": "at+jwt"}
	hs := func(header map[string]any, c jwt.MapClaims) string {
		return sign(t, jwt.SigningMethodHS256, []byte(testSecret), header, c)
	}
	now := time.Now().Unix()
	good := hs(at, accessClaims(all))
	part := strings.Split(good, ".")
	plain := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + part[1] + "."
	}
	h := verifier(t, Options{})
	for name, token := range map[string]string{
		"good":              good,
		"good, long typ":    hs(map[string]any{"typ": "application/at+jwt"}, accessClaims(all)),
		"good, kid":         hs(map[string]any{"typ": "at+jwt", "kid": "secret"}, accessClaims(all)),
		"good, aud a list":  hs(at, with("aud", []string{"https://other.example", testURL})),
		"good, nbf leeway":  hs(at, with("nbf", now+5)),
		"good, another key": sign(t, ed.method, ed.private, at, accessClaims(all)),
	} {
		if g, err := h.verify(token, keys); err != nil || !g.mayPublish("t") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, token := range map[string]string{
		"alg none":                     plain(`{"alg":"none","typ":"at+jwt"}`),
		"alg None":                     plain(`{"alg":"None","typ":"at+jwt"}`),
		"no alg":                       plain(`{"typ":"at+jwt"}`),
		"alg none, signed":             plain(`{"alg":"none","typ":"at+jwt"}`) + part[2],
		"an alg of no key":             sign(t, jwt.SigningMethodHS512, []byte(testSecret), at, accessClaims(all)),
		"another alg of the RSA key":   sign(t, jwt.SigningMethodPS256, rs.private, at, accessClaims(all)),
		"HS256 with the public key":    sign(t, jwt.SigningMethodHS256, rs.pem, at, accessClaims(all)),
		"the same, with its kid":       sign(t, jwt.SigningMethodHS256, rs.pem, map[string]any{"typ": "at+jwt", "kid": "rsa"}, accessClaims(all)),
		"the raw Ed25519 key as HS256": sign(t, jwt.SigningMethodHS256, []byte(ed.private.(ed25519.PrivateKey).Public().(ed25519.PublicKey)), at, accessClaims(all)),
		"an empty secret":              sign(t, jwt.SigningMethodHS256, []byte{}, at, accessClaims(all)),
		"another secret":               sign(t, jwt.SigningMethodHS256, []byte(testSecret+"x"), at, accessClaims(all)),
		"the kid of another key":       hs(map[string]any{"typ": "at+jwt", "kid": "rsa"}, accessClaims(all)),
		"an unknown kid":               hs(map[string]any{"typ": "at+jwt", "kid": "../../dev/null"}, accessClaims(all)),
		"a kid that is no string":      hs(map[string]any{"typ": "at+jwt", "kid": 1}, accessClaims(all)),
		"a key in the header":          hs(map[string]any{"typ": "at+jwt", "kid": "x", "jwk": map[string]string{"kty": "oct", "k": "AAAA"}}, accessClaims(all)),
		"critical extensions":          hs(map[string]any{"typ": "at+jwt", "crit": []string{"exp"}}, accessClaims(all)),
		"typ JWT":                      hs(map[string]any{"typ": "JWT"}, accessClaims(all)),
		"no typ":                       hs(map[string]any{"typ": nil}, accessClaims(all)),
		"an ID token":                  hs(map[string]any{"typ": "JWT"}, jwt.MapClaims{"aud": testURL, "exp": now + 60, "sub": "x", "nonce": "n"}),
		"expired":                      hs(at, with("exp", now-1)),
		"expired just now":             hs(at, with("exp", now)),
		"no exp":                       hs(at, with("exp", nil)),
		"exp beyond numbers":           hs(at, with("exp", 1e300)),
		"nbf":                          hs(at, with("nbf", now+60)),
		"iat to come":                  hs(at, with("iat", now+60)),
		"no aud":                       hs(at, with("aud", nil)),
		"another aud":                  hs(at, with("aud", "https://other.example/.well-known/mercure")),
		"an aud that begins alike":     hs(at, with("aud", testURL+"/x")),
		"a payload that was changed":   part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"`+testURL+`"}`)) + "." + part[2],
		"a signature cut short":        good[:len(good)-4],
		"no signature":                 part[0] + "." + part[1] + ".",
		"two parts":                    part[0] + "." + part[1],
		"five parts (encrypted)":       good + ".x.y",
		"spaces":                       " " + good,
		"huge":                         good + strings.Repeat("A", maxToken),
		"huge header":                  strings.Repeat("A", maxToken+1),
		"huge, though signed":          hs(at, with("x", strings.Repeat("a", maxToken))),
		"only dots":                    strings.Repeat(".", 1000),
	} {
		if g, err := h.verify(token, keys); err == nil {
			t.Errorf("%s: passes, and grants %+v", name, g)
		}
	}
}

// TestPayload6_8: the first detail that has the subscription's matcher, or matches it as if it were a topic.
func TestPayload6_8(t *testing.T) {
	detail := func(payload string, topics ...any) map[string]any {
		d := grant("subscribe", topics...)
		if payload != "" {
			d["payload"] = map[string]string{"is": payload}
		}
		return d
	}
	h := verifier(t, Options{})
	g, err := h.verify(access(t,
		detail("exact", exact("https://example.com/a")),
		detail("own", pattern("https://example.com/:id(\\d+)")),
		detail("", exact("none")),
		detail("pattern", pattern("https://example.com/:x")),
		detail("rest", exact("*"))), secretKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ typ, pattern, want string }{
		{hub.Exact, "https://example.com/a", `{"is":"exact"}`},
		{hub.URLPattern, "https://example.com/:id(\\d+)", `{"is":"own"}`},
		{hub.Exact, "https://example.com/7", `{"is":"own"}`},
		{hub.Exact, "none", ""},
		{hub.URLPattern, "https://example.com/:x", `{"is":"pattern"}`},
		{hub.Exact, "*", `{"is":"rest"}`},
	} {
		m, err := hub.ParseMatcher(tt.typ, tt.pattern, testURL)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.payload(m); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.typ, tt.pattern, got, tt.want)
		}
	}
	g, err = h.verify(claim(t, map[string]any{"subscribe": []any{"a", map[string]any{"match": "b", "payload": map[string]int{"x": 1}}}, "payload": map[string]int{"all": 1}}), secretKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{"a": `{"all":1}`, "b": `{"x":1}`} {
		m, err := hub.ParseMatcher(hub.Exact, topic, testURL)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.payload(m); got != want {
			t.Errorf("earlier drafts: %s: %q, want %q", topic, got, want)
		}
	}
}

// TestIssuers6_3: with authorization servers, only theirs.
func TestIssuers6_3(t *testing.T) {
	h := verifier(t, Options{Issuers: []string{"https://as.example"}})
	for issuer, ok := range map[string]bool{"https://as.example": true, "https://as.example/": false, "": false} {
		c := accessClaims(grant("publish", exact("*")))
		c["iss"] = issuer
		_, err := h.verify(sign(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"typ": "at+jwt"}, c), secretKeys(t))
		if ok != (err == nil) {
			t.Errorf("iss %q: %v", issuer, err)
		}
	}
}

// TestRoles6_3: a key is for its role.
func TestRoles6_3(t *testing.T) {
	const other = "another secret, of the subscribers alone"
	subscribers, err := ParseKeys([]byte(other))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, "net/http", Options{PublisherKeys: secretKeys(t), SubscriberKeys: subscribers}, hub.Options{})
	token := sign(t, jwt.SigningMethodHS256, []byte(other), map[string]any{"typ": "at+jwt"}, accessClaims(map[string]any{"type": "mercure", "actions": []string{"publish", "subscribe"}, "topics": []any{exact("*")}}))
	if resp := r.post(token, "topic", "t"); resp.StatusCode != 401 {
		t.Errorf("a subscriber's key publishes: %s", resp.Status)
	}
	if resp := r.do("GET", "?match=t", "", "Authorization", "Bearer "+access(t, grant("subscribe", exact("*")))); resp.StatusCode != 401 {
		t.Errorf("a publisher's key subscribes: %s", resp.Status)
	}
	r.subscribe("match=t", "Authorization", "Bearer "+token)
}

func TestStrict(t *testing.T) {
	r := newRig(t, "net/http", Options{PublisherKeys: secretKeys(t), SubscriberKeys: secretKeys(t), Strict: true}, hub.Options{})
	legacy := claim(t, map[string]any{"publish": []string{"*"}, "subscribe": []string{"*"}})
	if resp := r.post(legacy, "topic", "t"); resp.StatusCode != 401 {
		t.Errorf("a mercure claim: %s", resp.Status)
	}
	if resp := r.do("GET", "?topic=t", ""); resp.StatusCode != 400 {
		t.Errorf("topic: %s", resp.Status)
	}
	s := r.subscribe("match=t&Last-Event-ID=x&authorization=x.y.z", "Cookie", legacyCookie+"=x.y.z")
	if got := s.resp.Header.Get("Last-Event-ID"); got != "" {
		t.Errorf("Last-Event-ID: %q", got)
	}
}

func TestParseKeys(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	pairs := newPairs(t)
	ec := pairs["ES256"].private.(*ecdsa.PrivateKey)
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	rs := pairs["RS256"].private.(*rsa.PrivateKey)
	ed := pairs["EdDSA"].private.(ed25519.PrivateKey).Public().(ed25519.PublicKey)
	set := func(keys ...map[string]any) []byte {
		b, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	jwks := []map[string]any{
		{"kty": "OKP", "crv": "Ed25519", "x": b64(ed), "kid": "a", "use": "sig", "alg": "EdDSA"},
		{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]), "kid": "b", "key_ops": []string{"verify"}},
		{"kty": "RSA", "n": b64(rs.N.Bytes()), "e": b64([]byte{1, 0, 1}), "kid": "c"},
		{"kty": "oct", "k": b64([]byte(testSecret)), "alg": "HS256"},
	}
	other := []map[string]any{{"kty": "RSA", "use": "enc"}, {"kty": "oct", "alg": "A256KW"}}
	keys, err := ParseKeys(set(append(jwks, other...)...))
	if err != nil {
		t.Fatal(err)
	}
	var algs []string
	h := verifier(t, Options{})
	for _, k := range keys {
		algs = append(algs, k.Alg+" "+k.ID)
		if p, ok := pairs[k.Alg]; ok {
			if _, err := h.verify(sign(t, p.method, p.private, map[string]any{"typ": "at+jwt", "kid": k.ID}, accessClaims()), keys); err != nil {
				t.Errorf("%s: %v", k.Alg, err)
			}
		}
	}
	if want := []string{"EdDSA a", "ES256 b", "RS256 c", "HS256 "}; !slices.Equal(algs, want) {
		t.Errorf("got %v, want %v", algs, want)
	}
	if k, err := ParseKeys([]byte(testSecret + "\r\n")); err != nil || string(k[0].key.([]byte)) != testSecret {
		t.Errorf("a secret with a line end: %v", err)
	}
	if k, err := ParseKeys(append(pairs["EdDSA"].pem, pairs["ES256"].pem...)); err != nil || len(k) != 2 {
		t.Errorf("two PEM blocks: %v, %v", k, err)
	}

	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	offCurve := map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(make([]byte, 32))}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"short secret":        {[]byte("!ChangeMe!"), "32 or more"},
		"nothing":             {nil, "32 or more"},
		"private PEM":         {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "pubout"},
		"half a PEM block":    {pairs["EdDSA"].pem[:40], "whole block"},
		"PEM of rubbish":      {[]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "PUBLIC KEY"},
		"small RSA":           {publicPEM(t, small.Public()), "1024 bits"},
		"another curve":       {publicPEM(t, p384.Public()), "P-256"},
		"no JSON":             {[]byte("{"), "JWK"},
		"private JWK":         {set(map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(ed), "d": b64(ed)}), "private key"},
		"not on its curve":    {set(offCurve), "JWK 0"},
		"not base64url":       {set(map[string]any{"kty": "oct", "k": "=+/"}), "JWK 0"},
		"a short oct":         {set(map[string]any{"kty": "oct", "k": "AAAA"}), "32 or more"},
		"alg of another type": {set(map[string]any{"kty": "oct", "k": b64([]byte(testSecret)), "alg": "RS256"}), "its alg is RS256"},
		"none that fits":      {set(other...), "none of its 2 keys"},
		"too many":            {set(slices.Repeat(jwks[3:], maxKeys+1)...), "32 at most"},
	} {
		if _, err := ParseKeys(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestNewErrors(t *testing.T) {
	b := hub.New(nil, nil)
	for want, o := range map[string]Options{
		"no Hub":            {},
		"url: expected the": {Hub: b, PublisherKeys: secretKeys(t)},
		"nobody could":      {Hub: b, RequireToken: true},
		"url: expected an":  {Hub: b, URL: "/.well-known/mercure"},
		"got \"ftp":         {Hub: b, URL: "ftp://example.com/"},
		"got \"https://a?b": {Hub: b, URL: "https://a?b"},
		"origins":           {Hub: b, Origins: []string{"example.com"}},
		"https://a/":        {Hub: b, Origins: []string{"https://a/"}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}
