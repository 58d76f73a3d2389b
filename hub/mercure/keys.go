package mercure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

const (
	minSecret = 32   // bytes (RFC 7518 section 3.2)
	minRSA    = 2048 // bits (section 3.3)
	maxKeys   = 32   // of one role: a signature may be tried with each
)

// Algorithms are those that keys can be for.
var Algorithms = []string{"EdDSA", "ES256", "RS256", "HS256"}

// A Key verifies the signatures of one algorithm: that is its own property, a token
// can't choose it.
type Key struct {
	ID  string // kid; "": for tokens of any
	Alg string // one of Algorithms
	key any
}

// ParseKeys reads keys: a JWK Set or JWK (RFC 7517), public keys or certificates as PEM, or else a secret for
// HS256, whose last line end doesn't count.
func ParseKeys(data []byte) ([]Key, error) {
	trimmed := bytes.TrimSpace(data)
	var keys []Key
	var err error
	switch {
	case bytes.HasPrefix(trimmed, []byte("{")):
		keys, err = parseJWKs(trimmed)
	case bytes.Contains(trimmed, []byte("-----BEGIN")):
		keys, err = parsePEM(trimmed)
	default:
		var k Key
		k, err = secret(bytes.TrimRight(data, "\r\n"))
		keys = []Key{k}
	}
	if err != nil {
		return nil, err
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("mercure: %d keys: expected %d at most", len(keys), maxKeys)
	}
	return keys, nil
}

func secret(b []byte) (Key, error) {
	if len(b) < minSecret {
		return Key{}, fmt.Errorf("mercure: a secret of %d bytes: HS256 needs %d or more, such as of: openssl rand -base64 48", len(b), minSecret)
	}
	return Key{Alg: "HS256", key: bytes.Clone(b)}, nil
}

func parsePEM(data []byte) (keys []Key, err error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		var pub any
		switch block.Type {
		case "PUBLIC KEY":
			pub, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			pub, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				pub = cert.PublicKey
			}
		default:
			err = errors.New("expected PUBLIC KEY or CERTIFICATE: private keys stay with those who issue tokens (openssl pkey -pubout)")
		}
		if err == nil {
			var k Key
			if k, err = publicKey(pub); err == nil {
				keys = append(keys, k)
				continue
			}
		}
		return nil, fmt.Errorf("mercure: PEM block %q: %w", block.Type, err)
	}
	if len(keys) == 0 {
		return nil, errors.New("mercure: PEM: expected a whole block, from -----BEGIN to -----END")
	}
	return keys, nil
}

// publicKey is the Key of a public key: its type says what algorithm it is for.
func publicKey(pub any) (Key, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return Key{Alg: "EdDSA", key: k}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return Key{}, fmt.Errorf("a key of curve %s: ES256 needs P-256", k.Curve.Params().Name)
		}
		return Key{Alg: "ES256", key: k}, nil
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return Key{}, fmt.Errorf("an RSA key of %d bits: expected %d or more", k.N.BitLen(), minRSA)
		}
		return Key{Alg: "RS256", key: k}, nil
	}
	return Key{}, fmt.Errorf("a key for none of %v", Algorithms)
}

// jwk is a JSON Web Key (RFC 7518 section 6).
type jwk struct {
	Kty string   `json:"kty"`
	Kid string   `json:"kid"`
	Alg string   `json:"alg"`
	Use string   `json:"use"`
	Ops []string `json:"key_ops"`
	Crv string   `json:"crv"`
	X   octets   `json:"x"`
	Y   octets   `json:"y"`
	N   octets   `json:"n"`
	E   octets   `json:"e"`
	K   octets   `json:"k"`
	D   octets   `json:"d"`
}

// octets are base64url.
type octets []byte

func (o *octets) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var err error
	*o, err = base64.RawURLEncoding.Strict().DecodeString(s)
	return err
}

// parseJWKs passes over keys that are for something else.
func parseJWKs(data []byte) ([]Key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("mercure: JWK Set: %w", err)
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{data}
	}
	var keys []Key
	for i, raw := range set.Keys {
		var j jwk
		if err := json.Unmarshal(raw, &j); err != nil {
			return nil, fmt.Errorf("mercure: JWK %d: %w", i, err)
		}
		if j.Use != "" && j.Use != "sig" || len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify") || j.Alg != "" && !slices.Contains(Algorithms, j.Alg) {
			continue
		}
		k, err := j.parse()
		if err != nil {
			return nil, fmt.Errorf("mercure: JWK %d (kid %.40q): %w", i, j.Kid, err)
		}
		if j.Alg != "" && j.Alg != k.Alg {
			return nil, fmt.Errorf("mercure: JWK %d (kid %.40q): its alg is %s, its type is for %s", i, j.Kid, j.Alg, k.Alg)
		}
		k.ID = j.Kid
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("mercure: JWK Set: none of its %d keys is for a signature of %v", len(set.Keys), Algorithms)
	}
	return keys, nil
}

func (j *jwk) parse() (Key, error) {
	if len(j.D) > 0 {
		return Key{}, errors.New("a private key: expected the public one; private keys stay with those who issue tokens")
	}
	switch {
	case j.Kty == "oct":
		return secret(j.K)
	case j.Kty == "OKP" && j.Crv == "Ed25519" && len(j.X) == ed25519.PublicKeySize:
		return publicKey(ed25519.PublicKey(j.X))
	case j.Kty == "EC" && j.Crv == "P-256" && len(j.X) == 32 && len(j.Y) == 32:
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, j.X, j.Y))
		if err != nil {
			return Key{}, err
		}
		return publicKey(k)
	case j.Kty == "RSA" && len(j.N) > 0 && len(j.E) > 0 && len(j.E) <= 4:
		return publicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(j.N), E: int(new(big.Int).SetBytes(j.E).Int64())})
	}
	return Key{}, fmt.Errorf("kty %q, crv %q: expected a whole key of oct, OKP Ed25519, EC P-256 or RSA", j.Kty, j.Crv)
}
