package natsbus

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
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

func TestMain(m *testing.M) {
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

// newCluster is three servers. JetStream wants to know all routes before it starts.
func newCluster(t testing.TB) []*node {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		ports = append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var nodes []*node
	for i, port := range ports {
		nodes = append(nodes, newNode(t, func(o *server.Options) {
			o.ServerName = fmt.Sprint("n", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
			o.Routes = slices.Delete(slices.Clone(routes), i, i+1)
		}))
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

func urls(nodes []*node) []string {
	var l []string
	for _, n := range nodes {
		l = append(l, n.url())
	}
	return l
}

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
	return slog.New(slog.NewTextHandler(&until1{t: t}, nil))
}

// until1 writes to a test's output while that runs: connections log later.
type until1 struct {
	t    testing.TB
	over atomic.Bool
	set  atomic.Bool
}

func (w *until1) Write(p []byte) (int, error) {
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
