// Minimal is what the benchmarks compare Tandem's start as a CGI program with: an
// echo of lines on net/http/cgi.
package main

import (
	"bufio"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
)

func main() {
	if err := cgi.Serve(http.HandlerFunc(echo)); err != nil {
		log.Fatal(err)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		if _, err := io.WriteString(w, lines.Text()+"\n"); err != nil {
			return
		}
	}
}
