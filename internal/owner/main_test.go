package owner

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// The test binary is also another process of the same state dir: with
// TANDEM_OWNER_TEST it claims the key that it is told and says who has it, then
// lives until its stdin ends.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TANDEM_OWNER_TEST"); dir != "" {
		os.Exit(child(dir, os.Getenv("TANDEM_OWNER_KEY")))
	}
	goleak.VerifyTestMain(m)
}

func child(dir, key string) int {
	o := &Owner{Name: NewName(), Dir: Dir{dir, Key}, Handler: http.HandlerFunc(echo)}
	in := bufio.NewReader(os.Stdin)
	in.ReadString('\n') // the start, for all at a time
	owner, release, err := o.Claim(key)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(o.Name, owner, release != nil)
	io.Copy(io.Discard, in)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// echo answers what it reads, at once.
func echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	rc.Flush()
	buf := make([]byte, 1<<10)
	for {
		n, err := r.Body.Read(buf)
		w.Write(buf[:n])
		rc.Flush()
		if err != nil {
			return
		}
	}
}

// process is a child.
type process struct {
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	stdout   *bufio.Reader
	name     string
	owner    string
	released bool // Claim gave a release
}

func start(t *testing.T, dir, key string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), "TANDEM_OWNER_TEST="+dir, "TANDEM_OWNER_KEY="+key, "GORACE=atexit_sleep_ms=5")
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

// claim has the child claim its key.
func (p *process) claim(t *testing.T) {
	t.Helper()
	io.WriteString(p.stdin, "\n")
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("the child has ended: %v", err)
	}
	if _, err := fmt.Sscan(line, &p.name, &p.owner, &p.released); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}

// kill ends the child as kill -9 does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// end lets the child end in order.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
}

// stateDir is the path of a state dir that isn't there yet. t.TempDir's can be too long.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "owner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// newOwner is an owner in this process that ends with the test.
func newOwner(t *testing.T, dir string, h http.HandlerFunc) *Owner {
	t.Helper()
	o := &Owner{Name: NewName(), Dir: Dir{dir, Key}, Handler: h, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := o.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return o
}

// claim is Claim that must not fail.
func claim(t *testing.T, o *Owner, key string) (string, func()) {
	t.Helper()
	owner, release, err := o.Claim(key)
	if err != nil {
		t.Fatal(err)
	}
	return owner, release
}

// files are the names in dir, with spaces between them.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var l []string
	for _, e := range entries {
		l = append(l, e.Name())
	}
	return strings.Join(l, " ")
}
