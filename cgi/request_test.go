package cgi

import (
	"testing"
)

func TestNewRequest(t *testing.T) {
	base := map[string]string{"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "a.example"}
	for _, tt := range []struct {
		name   string
		vars   map[string]string
		url    string
		length int64
	}{
		{"origin form", map[string]string{"REQUEST_URI": "/a/b?c=d", "CONTENT_LENGTH": "7"}, "http://a.example/a/b?c=d", 7},
		{"no REQUEST_URI", map[string]string{"SCRIPT_NAME": "/s", "PATH_INFO": "/p", "QUERY_STRING": "q"}, "http://a.example/s/p?q", -1},
		{"absolute form", map[string]string{"REQUEST_URI": "http://evil.example/x?y"}, "http://a.example/x?y", -1},
		{"absolute form, query only", map[string]string{"REQUEST_URI": "http://evil.example?y"}, "http://a.example/?y", -1},
		{"absolute form, host only", map[string]string{"REQUEST_URI": "http://evil.example"}, "http://a.example/", -1},
		{"TLS", map[string]string{"REQUEST_URI": "/", "HTTPS": "on"}, "https://a.example/", -1},
		{"GET", map[string]string{"REQUEST_URI": "/", "REQUEST_METHOD": "GET", "CONTENT_LENGTH": "5"}, "http://a.example/", 0},
		{"1 TiB", map[string]string{"REQUEST_URI": "/", "CONTENT_LENGTH": "1099511627776"}, "http://a.example/", -1},
		{"1 byte less", map[string]string{"REQUEST_URI": "/", "CONTENT_LENGTH": "1099511627775"}, "http://a.example/", 1<<40 - 1},
		{"HTTP/2 in short", map[string]string{"REQUEST_URI": "/", "SERVER_PROTOCOL": "HTTP/2"}, "http://a.example/", -1},
		{"negative", map[string]string{"REQUEST_URI": "/", "CONTENT_LENGTH": "-5"}, "http://a.example/", -1},
	} {
		vars := make(map[string]string)
		for k, v := range base {
			vars[k] = v
		}
		for k, v := range tt.vars {
			vars[k] = v
		}
		r, err := NewRequest(vars)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if r.URL.String() != tt.url || r.ContentLength != tt.length {
			t.Errorf("%s: %s, length %d, want %s, %d", tt.name, r.URL, r.ContentLength, tt.url, tt.length)
		}
	}
}
