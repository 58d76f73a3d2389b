// Package natse2e holds the tests of a hub on several hosts: each host is a "tandem serve" with a state of its own, and three
// NATS servers, processes as well, join them. What is killed is killed with SIGKILL.
package natse2e

import (
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"tandem/internal/servertest"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// The test binary is also a NATS server: with TANDEM_NATS_NODE, its options in JSON, it runs until its stdin ends.
func TestMain(m *testing.M) {
	if text := os.Getenv(nodeEnv); text != "" {
		serveNode(text)
		return
	}
	code := m.Run()
	servertest.Cleanup()
	os.Exit(code)
}

const nodeEnv = "TANDEM_NATS_NODE"

func serveNode(text string) {
	var n node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		panic(err)
	}
	s, err := server.NewServer(n.options())
	if err != nil {
		panic(err)
	}
	s.Start()
	io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
}

// until polls what nobody tells of.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}
