package sqlitebus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tandem/hub"
)

// limit is how long a test waits for what must come.
const limit = 30 * time.Second

// The test binary is also another process of the same hub: with TANDEM_HUB_TEST, the file's path, it does what
// TANDEM_HUB_ROLE says.
func TestMain(m *testing.M) {
	if path := os.Getenv("TANDEM_HUB_TEST"); path != "" {
		if err := roles[os.Getenv("TANDEM_HUB_ROLE")](path, os.Getenv("TANDEM_HUB_ARG")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func(path, arg string) error{
	"publish":    publishAcknowledged,
	"both":       publishAndFollow,
	"once":       publishOnce,
	"member":     beMember,
	"limited":    publishLimited,
	"unwritable": publishUnwritable,
	"open":       publishOpen,
}

// publishAcknowledged has 4 goroutines publish until the process is killed. The IDs of those that are stored go to stdout.
func publishAcknowledged(path, arg string) error {
	b := New(path, nil)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 1_000_000 {
				e := &hub.Event{ID: fmt.Sprintf("%s-%d-%d", arg, g, n), Topic: "t", Data: strings.Repeat("x", n%300)}
				if err := b.Publish(context.Background(), e); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				os.Stdout.WriteString(e.ID + "\n")
			}
		})
	}
	wg.Wait()
	return b.Close()
}

// publishAndFollow follows everything, says so, publishes 100 events when stdin says so, and lists all events that it was
// told of, until stdin ends.
func publishAndFollow(path, arg string) error {
	b := New(path, &Options{poll: time.Hour})
	out := bufio.NewWriter(os.Stdout)
	_, err := b.Follow(hub.Everything, func(e *hub.Event, lost bool) {
		if lost {
			fmt.Fprintln(out, "lost")
		} else {
			fmt.Fprintln(out, e.Seq, e.ID)
		}
		out.Flush()
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	for n := range 100 {
		if err := b.Publish(context.Background(), &hub.Event{ID: fmt.Sprintf("%s-%d", arg, n), Topic: fmt.Sprint("t", n%3)}); err != nil {
			return err
		}
	}
	io.Copy(io.Discard, in)
	return b.Close()
}

// publishOnce is what a CGI program does. It says how long it took.
func publishOnce(path, arg string) error {
	began := time.Now()
	b := New(path, nil)
	if err := b.Publish(context.Background(), &hub.Event{ID: arg, Topic: "t", Data: "data"}); err != nil {
		return err
	}
	published := time.Since(began)
	err := b.Close()
	fmt.Println(published.Microseconds(), time.Since(began).Microseconds())
	return err
}

func beMember(path, arg string) error {
	b := New(path, nil)
	if _, err := b.Presence(context.Background(), []hub.Change{{Member: hub.Member{Subscriber: arg, MatchType: "Exact", Match: "t"}}}, nil); err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return b.Close()
}

// process is a child.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

func start(t testing.TB, path, role, arg string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), "TANDEM_HUB_TEST="+path, "TANDEM_HUB_ROLE="+role, "TANDEM_HUB_ARG="+arg, "GORACE=atexit_sleep_ms=5")
	p.cmd.Stderr = t.Output()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends the child as kill -9 does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// line reads a line of the child's output.
func (p *process) line(t testing.TB) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("the child has ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// end lets the child end in order.
func (p *process) end(t testing.TB) {
	t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
}

// newBus is a Bus that ends with the test.
func newBus(t testing.TB, path string, opts Options) *Bus {
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	b := New(path, &opts)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "hub.db") }

func publish(t testing.TB, b *Bus, id, topic, data string) *hub.Event {
	t.Helper()
	e := &hub.Event{ID: id, Topic: topic, Data: data}
	if err := b.Publish(context.Background(), e); err != nil {
		t.Fatalf("Publish: %v", err)
	}
	return e
}

func history(t testing.TB, b *Bus, q hub.Query) ([]*hub.Event, hub.Span) {
	t.Helper()
	var events []*hub.Event
	span, err := b.History(context.Background(), q, func(e *hub.Event) bool {
		events = append(events, e)
		return true
	})
	if err != nil {
		t.Fatalf("History: %v", err)
	}
	return events, span
}

// follow sends what a follower is told; nil is a gap.
func follow(t testing.TB, b *Bus, topic string) <-chan *hub.Event {
	t.Helper()
	c := make(chan *hub.Event, 10_000)
	stop, err := b.Follow(topic, func(e *hub.Event, lost bool) {
		if lost {
			c <- nil
		}
		if e != nil {
			c <- e
		}
	})
	if err != nil {
		t.Fatalf("Follow: %v", err)
	}
	t.Cleanup(stop)
	return c
}

// next is what the follower is told next, "gap" for a gap.
func next(t testing.TB, c <-chan *hub.Event) string {
	t.Helper()
	select {
	case e := <-c:
		if e == nil {
			return "gap"
		}
		return e.ID
	case <-time.After(limit):
		t.Fatal("the follower is told nothing")
		return ""
	}
}
