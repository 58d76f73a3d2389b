package session

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// problem is an answer to a request that does not become a session, as an RFC
// 9457 problem body.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`

	retryAfter int // seconds; 0: don't say
	allow      string
}

func problemf(status int, format string, args ...any) *problem {
	return &problem{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// write answers with p. The request's body is not read: the connection ends
// with the answer where the web server keeps to HTTP.
func (p *problem) write(w http.ResponseWriter) {
	p.Title = http.StatusText(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and a number
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n')) // an error here is the client's loss: it is gone
}
