package mercure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tandem/fcgi"
	"tandem/hub"
	"tandem/hub/bustest"
)

// BenchmarkDelivery publishes 100 bytes 20 times a second to subscribers over FastCGI, who read in
// another process. cpu-ns/delivery is what this process takes for each; bytes/idle its heap and stacks for each
// subscriber that waits. Give it -benchtime 100x.
func BenchmarkDelivery(b *testing.B) {
	for _, n := range []int{100, 1000, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkDelivery(b, n) })
	}
}

func benchmarkDelivery(b *testing.B, n int) {
	hb := hub.New(new(bustest.Memory).Bus(), &hub.Options{Log: quiet})
	h, err := New(Options{Hub: hb, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	s := &fcgi.Server{Handler: h, Detach: true, Log: quiet}
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	defer func() { s.Close(); <-served; hb.Close(context.Background()) }()

	before := inUse()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), readerEnv+"="+strconv.Itoa(n)+" "+l.Addr().String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { stdin.Close(); cmd.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		b.Fatalf("the reader says %q, %v", line, err)
	}
	eventually(b, "all are there", func() bool { return hb.Stats().Subscribers == n })
	idle := inUse() - before

	data := strings.Repeat("x", 100)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	start, delivered := cpu(b), hb.Stats().Delivered
	for b.Loop() {
		<-tick.C
		if err := hb.Publish(context.Background(), &hub.Event{Topic: "t", Data: data}); err != nil {
			b.Fatal(err)
		}
	}
	count := uint64(n * b.N)
	eventually(b, "all is delivered", func() bool { return hb.Stats().Delivered-delivered == count })
	used := cpu(b) - start
	b.ReportMetric(float64(used)/float64(count), "cpu-ns/delivery")
	b.ReportMetric(float64(idle)/float64(n), "bytes/idle")
	b.ReportMetric(0, "ns/op")
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const readerEnv = "TANDEM_TEST_READER"

// read is the other process: as many FastCGI requests as it is told, each on a connection of its own,
// until its stdin ends.
func read(what string) error {
	count, socket, _ := strings.Cut(what, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var request []byte
	record := func(typ byte, content []byte) {
		request = append(request, 1, typ, 0, 1)
		request = binary.BigEndian.AppendUint16(request, uint16(len(content)))
		request = append(append(request, 0, 0), content...)
	}
	record(1, []byte{0, 1, 0, 0, 0, 0, 0, 0})
	var params []byte
	for _, p := range [][2]string{{"REQUEST_METHOD", "GET"}, {"REQUEST_URI", hub.Reserved + "?match=t"}, {"SCRIPT_NAME", hub.Reserved}, {"QUERY_STRING", "match=t"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"HTTP_HOST", "hub.example"}, {"REMOTE_ADDR", "127.0.0.1"}, {"REMOTE_PORT", "1"}} {
		params = append(append(append(params, byte(len(p[0])), byte(len(p[1]))), p[0]...), p[1]...)
	}
	record(4, params)
	record(4, nil)
	record(5, nil)
	var open sync.WaitGroup
	for range n {
		nc, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		if _, err := nc.Write(request); err != nil {
			return err
		}
		open.Add(1)
		go func() {
			buf := make([]byte, 4096)
			got, err := nc.Read(buf)
			if err != nil || !bytes.Contains(buf[:got], []byte("text/event-stream")) {
				fmt.Fprintf(os.Stderr, "%v: %q\n", err, buf[:got])
				os.Exit(1)
			}
			open.Done()
			for err == nil {
				_, err = nc.Read(buf)
			}
		}()
	}
	open.Wait()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}
