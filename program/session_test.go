package program

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tandem/session"
)

// endpoint serves an App of o over HTTP, as sessions.
func endpoint(t *testing.T, o Options) string {
	t.Helper()
	h := session.NewHandler(newApp(t, o), nil)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

func post(t *testing.T, url, contentType, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// The App in a real session: a finite body, as from printf into curl.
func TestServeSession(t *testing.T) {
	if got := post(t, endpoint(t, Options{Command: []string{"bc", "-q"}}), "text/plain", "6*7\n"); got != "42\n" {
		t.Errorf("bc answered %q", got)
	}
	if got := post(t, endpoint(t, Options{Command: []string{"cat"}}), "text/plain", "a\n\nb\r\nlast"); got != "a\n\nb\r\nlast\n" {
		t.Errorf("cat answered %q", got)
	}
	if got := post(t, endpoint(t, roleOptions("print bytes \xff\n")), "text/plain", ""); got != "bytes \xff\n" {
		t.Errorf("output that is not UTF-8 came as %q", got)
	}
	got := post(t, endpoint(t, roleOptions("environ")), "text/plain", "")
	for _, want := range []string{"REQUEST_METHOD=POST\n", "GATEWAY_INTERFACE=CGI/1.1\n", "REMOTE_ADDR=127.0.0.1\n", "TANDEM_SESSION="} {
		if !strings.Contains(got, want) {
			t.Errorf("the environment has no %q:\n%s", want, got)
		}
	}
	got = post(t, endpoint(t, roleOptions("exit 3")), "application/x-ndjson", `{"type":"open","version":1,"window":65536,"messages":64}`+"\n"+`{"type":"end","seq":0}`+"\n")
	if !strings.Contains(got, `"code":4000`) || !strings.Contains(got, "exit status 3") {
		t.Errorf("exit status 3 is told as %s", got)
	}
}
