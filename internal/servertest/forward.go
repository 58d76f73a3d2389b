package servertest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Proxy is for [http.Transport].Proxy: every request goes through this server, a
// forward proxy. An https URL makes it a tunnel (CONNECT).
func (s *Server) Proxy(*http.Request) (*url.URL, error) { return url.Parse(s.URL) }

// awaitForwarding asks an HTTP server of ours through the proxy, until it answers.
func (s *Server) awaitForwarding(ctx context.Context, answer string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	origin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, answer)
	})}
	defer origin.Close()
	go origin.Serve(ln)
	return s.awaitReady(ctx, "http://"+ln.Addr().String()+"/", s.Proxy, answer)
}
