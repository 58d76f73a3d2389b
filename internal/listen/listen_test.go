package listen

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMain lets the test binary stand in for a process started with a listening
// socket as file descriptor 0.
func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_TEST_STDIN") == "" {
		os.Exit(m.Run())
	}
	before := IsStdin()
	l, err := Stdin()
	if err != nil {
		os.Stdout.WriteString("error: " + err.Error())
		os.Exit(1)
	}
	if l == nil {
		os.Stdout.WriteString("none " + strconv.FormatBool(before))
		os.Exit(0)
	}
	c, err := l.Accept()
	if err != nil {
		os.Stdout.WriteString("error: " + err.Error())
		os.Exit(1)
	}
	c.Write([]byte("accepted, still there: " + strconv.FormatBool(IsStdin())))
	c.Close()
	os.Exit(0)
}

func listenAt(t *testing.T, address string, o Options) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestUnixModeAndUnlink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	group := strconv.Itoa(os.Getegid())
	l := listenAt(t, "unix:"+path, Options{Mode: 0o620, Group: group})
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o620 {
		t.Fatalf("%v, %v; expected mode 0620 whatever the umask", info.Mode(), err)
	}
	if l.Addr().String() != path || l.Addr().Network() != "unix" {
		t.Errorf("address %v", l.Addr())
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestUnixTakesOverLeftover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)

	if _, err := Listen(t.Context(), "unix:"+path, Options{Mode: 0o600}); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v while another listener is served, expected ErrInUse", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the other's socket: %v", err)
	}
	old.Close()
	l := listenAt(t, "unix:"+path, Options{Mode: 0o600})

	// A successor that took the path must keep its socket when we close.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	listenAt(t, "unix:"+path, Options{Mode: 0o600})
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("closing removed the successor's socket: %v", err)
	}
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := listenAt(t, "127.0.0.1:0", Options{}).Addr().String()
	for name, tt := range map[string]struct {
		address string
		o       Options
		want    string
	}{
		"a file":          {"unix:" + file, Options{}, "a file is there"},
		"a folder":        {"unix:" + dir, Options{}, "a folder is there"},
		"no folder":       {"unix:" + dir + "/none/s", Options{}, "no folder " + dir + "/none"},
		"not below":       {"unix:" + file + "/s", Options{}, "no folder"},
		"long":            {"unix:" + dir + "/" + strings.Repeat("x", 108), Options{}, "must be shorter than 108"},
		"abstract":        {"unix:@x", Options{}, "no permissions"},
		"no group":        {"unix:" + dir + "/s", Options{Table: "fastcgi", Group: "no-such-group"}, "set group in [fastcgi]"},
		"public":          {"192.0.2.1:0", Options{Table: "http"}, "set public = true in [http]"},
		"everywhere":      {"0.0.0.0:0", Options{Table: "http"}, "set public = true in [http]"},
		"for all to read": {"0.0.0.0:0", Options{Table: "metrics", Risk: "read it"}, "whoever reaches it can read it; listen on 127.0.0.1"},
		"everywhere6":     {"[::]:0", Options{Table: "http"}, "set public = true in [http]"},
		"no port":         {"localhost", Options{}, `"unix:/path"`},
		"in use":          {used, Options{}, ErrInUse.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Listen(t.Context(), tt.address, tt.o)
			if err == nil {
				l.Close()
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), "listen: "+tt.address) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, expected the address and %q", err, tt.want)
			}
		})
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestTCPStaysOnLoopback(t *testing.T) {
	for _, address := range []string{":0", "localhost:0", "127.0.0.1:0"} {
		l := listenAt(t, address, Options{})
		if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
			t.Errorf("%s listens on %v", address, ip)
		}
	}
	l := listenAt(t, ":0", Options{Public: true})
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsUnspecified() {
		t.Errorf("public: listens on %v", ip)
	}
}

func TestStdin(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(stdin *os.File) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), "LISTEN_TEST_STDIN=1", "GORACE=atexit_sleep_ms=5")
		cmd.Stdin = stdin
		cmd.Stderr = os.Stderr
		return cmd
	}
	path := filepath.Join(t.TempDir(), "s")
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	tl := listenAt(t, "127.0.0.1:0", Options{}).(*net.TCPListener)
	uf, err1 := ul.File()
	tf, err2 := tl.File()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer uf.Close()
	defer tf.Close()
	for _, tt := range []struct {
		f    *os.File
		addr net.Addr
	}{{uf, ul.Addr()}, {tf, tl.Addr()}} {
		cmd := start(tt.f)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial(tt.addr.Network(), tt.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		c.Close()
		if got := string(buf[:n]); got != "accepted, still there: false" {
			t.Errorf("%v: got %q", tt.addr, got)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if out, err := start(null).Output(); err != nil || string(out) != "none false" {
		t.Errorf("/dev/null: %q, %v", out, err)
	}
}

func TestUnixNoPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(t.Context(), "unix:"+filepath.Join(dir, "s"), Options{})
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "may not write to "+dir) {
		t.Errorf("got %v", err)
	}
}
