package natsbus

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// The test binary is also a server that can be killed: with TANDEM_NATS_NODE, its options in JSON, it
// runs until its stdin ends.
func TestMain(m *testing.M) {
	if text := os.Getenv("TANDEM_NATS_NODE"); text != "" {
		var o clusterNode
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		s, err := server.NewServer(o.options())
		if err != nil {
			panic(err)
		}
		s.Start()
		io.Copy(io.Discard, os.Stdin)
		s.Shutdown()
		return
	}
	goleak.VerifyTestMain(m,
		// The server's own, which outlive its Shutdown.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*Server).startOCSPMonitoring"))
}

// node is one NATS server, which can be stopped and started again at the same address.
type node struct {
	opts *server.Options
	s    *server.Server
}

func (n *node) start(t testing.TB) {
	t.Helper()
	opts := n.opts.Clone()
	opts.StoreDir = n.opts.StoreDir
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("TANDEM_NATS_LOG") != "" {
		s.ConfigureLogger()
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("a server doesn't start")
	}
	n.s = s
	// From now on at the same address.
	n.opts.Port = s.Addr().(*net.TCPAddr).Port
}

func (n *node) stop() {
	if n.s != nil {
		n.s.Shutdown()
		n.s.WaitForShutdown()
		n.s = nil
	}
}

func (n *node) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port) }

func newNode(t testing.TB, change func(*server.Options)) *node {
	t.Helper()
	n := &node{opts: &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), NoSystemAccount: false,
		NoLog: os.Getenv("TANDEM_NATS_LOG") == "", JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 4 << 30,
	}}
	if change != nil {
		change(n.opts)
	}
	n.start(t)
	t.Cleanup(n.stop)
	return n
}

// freePort is one that the kernel chose, free again.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// clusterNode is a server of three. JetStream wants to know all routes before it starts.
type clusterNode struct {
	Name, Dir         string
	Port, ClusterPort int
	Routes            []int // ports of the others
}

func (n *clusterNode) options() *server.Options {
	o := &server.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: n.Port, NoSigs: true, NoLog: os.Getenv("TANDEM_NATS_LOG") == "",
		JetStream: true, StoreDir: n.Dir, JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 4 << 30,
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: n.ClusterPort},
	}
	for _, port := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	return o
}

func threeNodes(t testing.TB) []*clusterNode {
	t.Helper()
	var all []*clusterNode
	var ports []int
	for i := range 3 {
		port := freePort(t)
		ports = append(ports, port)
		all = append(all, &clusterNode{Name: fmt.Sprint("n", i), Dir: t.TempDir(), Port: freePort(t), ClusterPort: port})
	}
	for i, n := range all {
		n.Routes = slices.Delete(slices.Clone(ports), i, i+1)
	}
	return all
}

// newCluster is three servers in this process.
func newCluster(t testing.TB) []*node {
	t.Helper()
	var nodes []*node
	for _, o := range threeNodes(t) {
		nodes = append(nodes, newNode(t, func(mine *server.Options) { *mine = *o.options() }))
	}
	until(t, "the cluster has a leader", func() bool {
		for _, n := range nodes {
			if n.s.JetStreamIsLeader() {
				return len(n.s.JetStreamClusterPeers()) == 3
			}
		}
		return false
	})
	return nodes
}

// child is a server that is a process of its own.
type child struct {
	opts  *clusterNode
	cmd   *exec.Cmd
	stdin io.Closer
}

func (c *child) start(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(c.opts)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(exe)
	c.cmd.Env = append(os.Environ(), "TANDEM_NATS_NODE="+string(text), "GORACE=atexit_sleep_ms=5")
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
}

// kill ends it as kill -9 does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

func (c *child) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", c.opts.Port) }

// until polls what the servers don't tell of.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

var names atomic.Int64

// newName is a hub that no other test has.
func newName() string { return fmt.Sprintf("hub%d", names.Add(1)) }

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&testWriter{t: t}, nil))
}

// testWriter writes to a test's output while that runs: connections log later.
type testWriter struct {
	t    testing.TB
	over atomic.Bool
	set  atomic.Bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	if !w.set.Swap(true) {
		w.t.Cleanup(func() { w.over.Store(true) })
	}
	if !w.over.Load() {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}

// open makes a Bus that the test's end closes.
func open(t testing.TB, o Options, lookEach, interval time.Duration) *Bus {
	t.Helper()
	if o.Log == nil {
		o.Log = testLog(t)
	}
	b, err := newBus(o, lookEach, interval)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}
