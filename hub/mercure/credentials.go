package mercure

import (
	"net/http"
	"net/url"
	"strings"
)

// credentials are what a request brings to prove what it may do.
type credentials struct {
	token   string // "": none
	ambient bool   // a browser sent it by itself, whatever page asked it to
}

// credentialsOf finds the access token (section 6.1): in the Authorization header, else the query, else a cookie. An Authorization
// header of another scheme is the web server's.
func (h *Handler) credentialsOf(r *http.Request, query url.Values) (credentials, *refusal) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return credentials{}, malformed("Expected one Authorization header, got several.")
	}
	if len(headers) == 1 {
		scheme, token, _ := strings.Cut(headers[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			token = strings.TrimLeft(token, " ")
			if token == "" {
				return credentials{}, malformed("Expected a token behind Bearer in the Authorization header.")
			}
			return credentials{token: token}, nil
		}
	}
	names := []string{"access_token"}
	cookies := []string{h.o.Cookie}
	if !h.o.Strict {
		names = append(names, "authorization")
		cookies = append(cookies, legacyCookie)
	}
	for _, name := range names {
		if values := query[name]; len(values) > 1 {
			return credentials{}, malformed("Expected one " + name + " parameter, got several.")
		} else if len(values) == 1 && values[0] != "" {
			return credentials{token: values[0]}, nil
		}
	}
	for _, name := range cookies {
		if c, err := r.Cookie(name); err == nil && c.Value != "" {
			return credentials{c.Value, true}, nil
		}
	}
	return credentials{}, nil
}
