package mercure

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const maxToken = 16 << 10 // bytes

// claims are those of an access token that matter here.
type claims struct {
	jwt.RegisteredClaims
	Details json.RawMessage `json:"authorization_details"`
	// Mercure is of earlier drafts, and so is the longer name of it.
	Mercure    json.RawMessage `json:"mercure"`
	Namespaced json.RawMessage `json:"https://mercure.rocks/"`
}

// verify returns what a token grants (section 6.3). Its errors are for the log: a client isn't told what is wrong with
// a token.
func (h *Handler) verify(token string, keys []Key) (*grants, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("a token of %d bytes: expected %d at most", len(token), maxToken)
	}
	var c claims
	parsed, err := jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()).ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		return candidates(t, keys)
	})
	if err != nil {
		return nil, err
	}
	if err := h.checkTimes(&c); err != nil {
		return nil, err
	}
	if len(h.o.Issuers) > 0 && !slices.Contains(h.o.Issuers, c.Issuer) {
		return nil, fmt.Errorf("iss: expected one of %q, got %.100q", h.o.Issuers, c.Issuer)
	}
	if legacy := c.legacy(); legacy != nil && !h.o.Strict {
		if len(c.Audience) > 0 && !slices.Contains(c.Audience, h.o.URL) {
			return nil, fmt.Errorf("aud: expected %q or none, got %.200q", h.o.URL, c.Audience)
		}
		return h.legacyGrants(&c, legacy)
	}
	typ, _ := parsed.Header["typ"].(string)
	if t := strings.ToLower(typ); t != "at+jwt" && t != "application/at+jwt" {
		return nil, fmt.Errorf("typ: expected at+jwt, got %.40q", typ)
	}
	if c.ExpiresAt == nil {
		return nil, errors.New("no exp: a token must expire")
	}
	if !slices.Contains(c.Audience, h.o.URL) {
		return nil, fmt.Errorf("aud: expected %q, got %.200q", h.o.URL, c.Audience)
	}
	return h.detailedGrants(&c)
}

// candidates are the keys that may have signed t. The algorithm is the keys'; the token only names
// which of them are meant.
func candidates(t *jwt.Token, keys []Key) (any, error) {
	if _, critical := t.Header["crit"]; critical {
		return nil, errors.New("crit: no extension is understood here")
	}
	kid, named := t.Header["kid"].(string)
	if _, there := t.Header["kid"]; there && !named {
		return nil, errors.New("kid: expected a string")
	}
	var set jwt.VerificationKeySet
	for _, k := range keys {
		if k.Alg == t.Method.Alg() && (k.ID == "" || !named || k.ID == kid) {
			set.Keys = append(set.Keys, k.key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("no key for alg %.20q, kid %.40q", t.Method.Alg(), kid)
	}
	return set, nil
}

func (h *Handler) checkTimes(c *claims) error {
	now := time.Now()
	switch {
	case c.ExpiresAt != nil && !now.Before(c.ExpiresAt.Time):
		return fmt.Errorf("expired at %v", c.ExpiresAt)
	case c.NotBefore != nil && now.Add(h.o.Leeway).Before(c.NotBefore.Time):
		return fmt.Errorf("not valid before %v (nbf)", c.NotBefore)
	case c.IssuedAt != nil && now.Add(h.o.Leeway).Before(c.IssuedAt.Time):
		return fmt.Errorf("issued at %v (iat), which is to come: compare the clocks", c.IssuedAt)
	}
	return nil
}

// legacy is the claim of earlier drafts, where it is all that the token has.
func (c *claims) legacy() json.RawMessage {
	if c.Details != nil {
		return nil
	}
	for _, claim := range []json.RawMessage{c.Namespaced, c.Mercure} {
		if claim != nil && string(claim) != "null" {
			return claim
		}
	}
	return nil
}
