package natse2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// node is a NATS server with JetStream, a process of its own.
type node struct {
	Name, Dir, IP     string
	Port, ClusterPort int
	Routes            []string // addresses of the others; JetStream wants to know all of them when it starts

	cmd   *exec.Cmd
	stdin io.Closer
}

func (n *node) options() *server.Options {
	o := &server.Options{
		ServerName: n.Name, Host: n.IP, Port: n.Port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: n.Dir, JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 4 << 30,
	}
	if len(n.Routes) > 0 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: n.IP, Port: n.ClusterPort}
	}
	for _, address := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: address})
	}
	return o
}

var addresses atomic.Uint32

// newIP is a loopback address of which nobody else in the machine makes use: a port there that the kernel chose stays free, while one of
// 127.0.0.1 may become a connection's before who was to listen there does.
func newIP() string {
	pid, n := os.Getpid(), addresses.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8%254, pid%256, n)
}

func freePort(t testing.TB, ip string) int {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func newNode(t testing.TB, name string) *node {
	ip := newIP()
	return &node{Name: name, Dir: t.TempDir(), IP: ip, Port: freePort(t, ip), ClusterPort: freePort(t, ip)}
}

func (n *node) url() string { return fmt.Sprintf("nats://%s:%d", n.IP, n.Port) }

func (n *node) start(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n.cmd = exec.Command(exe)
	n.cmd.Env = append(os.Environ(), nodeEnv+"="+string(text), "GORACE=atexit_sleep_ms=5")
	n.cmd.Stderr = os.Stderr
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.kill)
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	_ = n.stdin.Close()
}

// cluster is three nodes.
type cluster []*node

func newCluster(t testing.TB) cluster {
	t.Helper()
	c := make(cluster, 3)
	for i := range c {
		c[i] = newNode(t, fmt.Sprint("n", i))
	}
	for i, n := range c {
		for j, other := range c {
			if i != j {
				n.Routes = append(n.Routes, fmt.Sprintf("%s:%d", other.IP, other.ClusterPort))
			}
		}
	}
	for _, n := range c {
		n.start(t)
	}
	return c
}

// urls are those of all nodes; each host has another one first.
func (c cluster) urls(first int) []string {
	var l []string
	for i := range c {
		l = append(l, c[(first+i)%len(c)].url())
	}
	return l
}

// leader is the node that leads a hub's stream.
func (c cluster) leader(t testing.TB, hub string) *node {
	t.Helper()
	nc, err := nats.Connect(c[0].url() + "," + c[1].url() + "," + c[2].url())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), hub)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c, func(n *node) bool { return n.Name == s.CachedInfo().Cluster.Leader })
	if i < 0 {
		t.Fatalf("no leader among %+v", s.CachedInfo().Cluster)
	}
	return c[i]
}
