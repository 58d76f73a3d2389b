package cgi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
)

// FuzzEnviron serves requests of arbitrary environments: each gets one well-formed
// response header, and nothing panics.
func FuzzEnviron(f *testing.F) {
	f.Add("REQUEST_METHOD=POST\nSERVER_PROTOCOL=HTTP/1.1\nREQUEST_URI=/a?b\nHTTP_HOST=example.org\nCONTENT_LENGTH=3")
	f.Add("REQUEST_METHOD=GET\nSERVER_PROTOCOL=INCLUDED\nSCRIPT_NAME=/a\nPATH_INFO=/b\nQUERY_STRING=c\nHTTPS=on")
	f.Add("SERVER_PROTOCOL=\nREQUEST_METHOD=\n=\n\nX")
	f.Add("REQUEST_METHOD=PUT\nSERVER_PROTOCOL=HTTP/2.0\nREQUEST_URI=http://x?y\nHTTP_HOST=[::1\nREMOTE_PORT=-1\nCONTENT_LENGTH=-0")
	f.Add("REQUEST_METHOD=A\x00B\nSERVER_PROTOCOL=HTTP/1.1\nREQUEST_URI=%\nHTTP_=x\nHTTP_A\r_B=c\r\nd")
	in, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	defer in.Close()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(w, r.Body)
		if n != 0 {
			panic(http.ErrAbortHandler)
		}
		_ = err
		for k, v := range r.Header {
			w.Header()["X-"+k] = v
		}
	})
	f.Fuzz(func(t *testing.T, environ string) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(r)
			got <- string(b)
		}()
		out := &stream{file: w}
		ctx, cancel := context.WithCancelCause(t.Context())
		_ = serve(ctx, cancel, h, slog.New(slog.DiscardHandler), strings.Split(environ, "\n"), &stream{file: in}, out)
		cancel(nil)
		w.Close()
		head, _, ok := strings.Cut(<-got, "\r\n\r\n")
		if !ok || !strings.HasPrefix(head, "Status: ") || strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\n") {
			t.Errorf("header %q", head)
		}
	})
}
