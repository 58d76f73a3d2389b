// Bare is what the benchmarks compare Tandem's rates with: an echo of lines on
// net/http/fcgi, without frames, windows, limits or heartbeats. It flushes each line;
// under a path that ends in /together, only once no more input waits.
package main

import (
	"bufio"
	"log"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: bare SOCKET")
	}
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(fcgi.Serve(l, http.HandlerFunc(echo)))
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	flusher := w.(http.Flusher)
	together := strings.HasSuffix(r.URL.Path, "/together")
	in := bufio.NewReader(r.Body)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := w.Write(line); err != nil {
			return
		}
		if !together || in.Buffered() == 0 {
			flusher.Flush()
		}
	}
}
