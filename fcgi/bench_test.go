package fcgi

import (
	"bufio"
	"net"
	"net/http"
	stdfcgi "net/http/fcgi"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkPingPong sends a line each way through one open request: here, through a
// relay before that, and with net/http/fcgi alone.
func BenchmarkPingPong(b *testing.B) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1024)
		for {
			n, err := r.Body.Read(buf)
			if err != nil {
				return
			}
			_, _ = w.Write(buf[:n])
			w.(http.Flusher).Flush()
		}
	})
	for name, serve := range map[string]func(net.Listener){
		"tandem": func(l net.Listener) { _ = (&Server{Handler: h}).Serve(l) },
		"relay": func(l net.Listener) {
			back, err := net.Listen("unix", l.Addr().String()+"2")
			if err != nil {
				b.Error(err)
				return
			}
			defer back.Close()
			go (&Server{Handler: h}).Serve(back)
			_ = (&Server{Handler: &Relay{Socket: back.Addr().String()}}).Serve(l)
		},
		"std": func(l net.Listener) { _ = stdfcgi.Serve(l, h) },
	} {
		b.Run(name, func(b *testing.B) {
			l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go serve(l)
			nc, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			s := &speaker{nc: nc, br: bufio.NewReader(nc)}
			s.open(1, 0, post...)
			line := appendRecord(nil, typeStdin, 1, []byte("ping\n"))
			b.ReportAllocs()
			for b.Loop() {
				s.send(line)
				// The header is in the first record, or in one before it.
				for content := ""; !strings.HasSuffix(content, "ping\n"); {
					r, err := s.next()
					if err != nil || r.typ != typeStdout {
						b.Fatalf("%+v, %v", r, err)
					}
					content = r.content
				}
			}
		})
	}
}
