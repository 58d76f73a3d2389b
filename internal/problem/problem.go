// Package problem writes the answers that are no sessions: RFC 9457 problem
// bodies.
package problem

import (
	"encoding/json"
	"net/http"
)

// Write answers with status. detail, for people, says what was expected, what
// came, and what to do. Headers such as Retry-After are set before.
func Write(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
	if err != nil {
		panic(err) // a number and strings
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an error here is the client's loss: it is gone
}
