package main

import (
	"bufio"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A web server may send SIGTERM at any time, again and again: the program is stopped
// by its steps all the same, and not left behind.
func TestSIGTERMToCGI(t *testing.T) {
	for name, last := range map[string]string{"while the session runs": "", "after its end": "\x04\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := filepath.Join(t.TempDir(), "c.toml")
			writeFile(t, config, "stdin_grace = '200ms'\nterm_grace = '200ms'\ncommand = "+stubborn+"\n")
			cmd := tandem(t, []string{"GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=POST", "SERVER_PROTOCOL=HTTP/1.1",
				"SCRIPT_NAME=/cgi-bin/tandem", "CONTENT_TYPE=text/plain", "TANDEM_CONFIG=" + config})
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			if _, err := io.WriteString(stdin, "\n"); err != nil {
				t.Fatal(err)
			}
			child := 0
			for lines := bufio.NewScanner(stdout); child == 0; {
				if !lines.Scan() {
					t.Fatalf("expected the program's process id, got the end: %v", lines.Err())
				}
				child, _ = strconv.Atoi(strings.TrimSpace(lines.Text())) // not a header's line
			}
			defer syscall.Kill(child, syscall.SIGKILL)
			if _, err := io.WriteString(stdin, last); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				io.Copy(io.Discard, stdout)
				ended <- cmd.Wait()
			}()
			for tick := time.NewTicker(5 * time.Millisecond); ; {
				select {
				case <-tick.C:
					cmd.Process.Signal(syscall.SIGTERM)
					continue
				case err := <-ended:
					tick.Stop()
					if err != nil {
						t.Errorf("exit: %v", err)
					}
				}
				break
			}
			if !gone(child) {
				t.Error("the program is still there")
			}
		})
	}
}
