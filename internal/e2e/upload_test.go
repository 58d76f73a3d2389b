package e2e_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tandem/client"
	"tandem/internal/servertest"
	"tandem/session/frame"
)

// TestUploadToALateReader is nginx's stall (docs/servers.md trap 1): everything is
// sent at once, the program first sleeps for two seconds, all must arrive.
func TestUploadToALateReader(t *testing.T) {
	td := servertest.StartTandem(t, endpoints)
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})

	t.Run("client, 50 MB", func(t *testing.T) {
		t.Parallel()
		r := route{name: "nginx", base: nginx.FastCGI()}
		c := r.dial(t, "/late", nil)
		ctx := within(t, 60*time.Second)
		const messages, size = 500, 100_000
		line := strings.Repeat("x", size-1)
		for range messages {
			if err := c.Send(ctx, frame.Text(line)); err != nil {
				t.Fatal(err)
			}
		}
		c.CloseSend()
		m, err := c.Receive(ctx)
		if want := fmt.Sprint(messages * size); err != nil || strings.TrimSpace(string(m.Data)) != want {
			t.Errorf("the program counted %q bytes, %v; want %s", m.Data, err, want)
		}
	})

	t.Run("curl, 4 MB", func(t *testing.T) {
		t.Parallel()
		for _, body := range []string{strings.Repeat(strings.Repeat("x", 99)+"\n", 40_000), strings.Repeat(strings.Repeat("x", 19)+"\n", 200_000)} {
			cmd := exec.Command("curl", "-sSN", "--max-time", "30", "-T-", nginx.FastCGI()+"/late")
			cmd.Stdin = strings.NewReader(body)
			out, err := cmd.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != "4000000" {
				t.Errorf("the program counted %q bytes, %v", got, err)
			}
		}
	})

	// A client that ignores its window is told so: 1008, not a stall.
	t.Run("window ignored", func(t *testing.T) {
		t.Parallel()
		c := startCurl(t, "-T-", "-H", "Content-Type: application/x-ndjson", nginx.FastCGI()+"/deaf")
		go func() {
			fmt.Fprintln(c.in, `{"type":"open","version":1,"window":65536,"messages":64}`)
			line := strings.Repeat("x", 16<<10)
			for seq := 1; ; seq++ {
				if _, err := fmt.Fprintf(c.in, `{"type":"message","seq":%d,"data":"%s"}`+"\n", seq, line); err != nil {
					return // the test is over, and curl with it
				}
			}
		}()
		for {
			l, err := c.out.ReadString('\n')
			if err != nil {
				t.Fatalf("the response ended without a close frame: %v", err)
			}
			if strings.Contains(l, `"type":"close"`) {
				if !strings.Contains(l, `"code":1008`) || !strings.Contains(l, "window overrun") {
					t.Errorf("the client was told %s", l)
				}
				return
			}
		}
	})
}

// TestDeafProgram: a program that doesn't read holds its own client back, in
// bounded memory, and nobody else.
func TestDeafProgram(t *testing.T) {
	td := servertest.StartTandem(t, endpoints)
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: td.Socket})
	r := route{name: "nginx", base: nginx.FastCGI()}
	deaf := r.dial(t, "/deaf", nil)
	ctx := within(t, 2*time.Second)
	sent := 0
	for ; ; sent++ {
		if err := deaf.Send(ctx, frame.Text(strings.Repeat("x", 1000))); err != nil {
			break
		}
	}
	if sent > 1000 {
		t.Errorf("%d messages of 1000 bytes went to a program that reads none", sent)
	}
	other := r.dial(t, "", func(o *client.Options) { o.Codec = "json" })
	other.Send(t.Context(), frame.Text("hi"))
	if m, err := other.Receive(within(t, 10*time.Second)); err != nil || string(m.Data) != "hi" {
		t.Errorf("another session got %q, %v", m.Data, err)
	}
}
