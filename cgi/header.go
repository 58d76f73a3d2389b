package cgi

import (
	"io"
	"net/http"
	"strconv"
)

// WriteHeader writes the header of a CGI response with the empty line behind it
// (RFC 3875 section 6.2), fields sorted, line breaks in values made spaces. Content-Type is
// made from the start of the body where h has none, in h too. The date is the web
// server's to add, and a field Status would be a second status: it is left out.
// FastCGI responses begin with it too.
func WriteHeader(w io.Writer, status int, h http.Header, start []byte) error {
	if _, ok := h["Content-Type"]; !ok && status != http.StatusNotModified && status != http.StatusNoContent {
		h.Set("Content-Type", http.DetectContentType(start))
	}
	if _, err := io.WriteString(w, "Status: "+strconv.Itoa(status)+" "+http.StatusText(status)+"\r\n"); err != nil {
		return err
	}
	if err := h.WriteSubset(w, statusField); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\r\n")
	return err
}

var statusField = map[string]bool{"Status": true}
