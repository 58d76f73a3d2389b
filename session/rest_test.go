package session

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRestOfBodyIsNoRequest: what a client sends in a body that nobody reads any more
// is never taken for a request of its own.
func TestRestOfBodyIsNoRequest(t *testing.T) {
	const hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"chunked":           "Transfer-Encoding: chunked\r\n\r\n2\r\n\x04\n\r\n",
		"short length":      "Content-Length: 100\r\n\r\n\x04\n",
		"long length":       "Content-Length: 1099511627776\r\n\r\n\x04\n",
		"refused":           "Content-Type: image/png\r\nContent-Length: 100\r\n\r\n",
		"refused, chunked":  "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n",
		"names a session":   "Tandem-Session: gone\r\nContent-Length: 100\r\n\r\n",
		"from another site": "Origin: http://elsewhere.example\r\nContent-Length: 100\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(NewHandler(Echo, nil))
			defer srv.Close()
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\n"+request)
			answer := make([]byte, 64<<10)
			n, err := c.Read(answer)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, hidden) // may meet a connection that is closed already
			rest, err := io.ReadAll(c)
			if got := string(answer[:n]) + string(rest); strings.Count(got, "HTTP/1.1 ") != 1 {
				t.Errorf("expected one answer, got %q, %v", got, err)
			}
		})
	}
}
