package servertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var build struct {
	once sync.Once
	path string
	err  error
}

// Binary is the path of the tandem program, built from the working tree once per
// test process. [Cleanup] removes it.
func Binary(t testing.TB) string {
	t.Helper()
	build.once.Do(func() { build.path, build.err = Build("") })
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// Build builds cmd/tandem of the repository at root (empty: found above the working
// directory) into a new folder that anybody may read, for web servers that run
// programs as another user.
func Build(root string) (string, error) {
	if root == "" {
		var err error
		if root, err = Root(); err != nil {
			return "", err
		}
	}
	dir, err := makeDir("bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "tandem")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/tandem")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as packages have it
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("servertest: go build ./cmd/tandem: %w\n%s", err, out)
	}
	return path, nil
}

// Cleanup removes what [Binary] built. A TestMain calls it after m.Run.
func Cleanup() {
	if build.path != "" {
		os.RemoveAll(filepath.Dir(build.path))
	}
}

// Tandem is a running "tandem serve".
type Tandem struct {
	*Process
	Socket string // path of the FastCGI socket
	HTTP   string // http://127.0.0.1:PORT
	Dir    string // also its working directory
	Config string // the configuration file
}

// tandemListeners comes first in a configuration that names no listener. Any user
// may connect: Apache's isn't ours when root runs the tests.
const tandemListeners = `http = "$HTTP"
[fastcgi]
listen = "unix:$SOCKET"
mode = "0666"
`

// Engine is the FastCGI engine that the tests are about, $TANDEM_ENGINE; empty: the
// default one.
func Engine() string { return os.Getenv("TANDEM_ENGINE") }

// WithEngine puts [Engine] into a configuration. [Serve] does that itself.
func WithEngine(toml string) string {
	engine := Engine()
	if engine == "" {
		return toml
	}
	const table = "[fastcgi]\n"
	line := fmt.Sprintf("engine = %q\n", engine)
	if before, after, ok := strings.Cut(toml, table); ok {
		return before + table + line + after
	}
	return toml + "\n" + table + line
}

// Serve says how to start "tandem serve".
type Serve struct {
	// TOML is the configuration. In it $SOCKET stands for a path, $HTTP for an
	// address on 127.0.0.1, $DIR for the temporary folder, $ROOT for the repository. A
	// text that has neither $SOCKET nor $HTTP gets both listeners put in front of
	// it, so it must start with a table.
	TOML string
	// Binary is tandem's path.
	Binary string
	// Port is the port of $HTTP; 0 takes a free one.
	Port int
	// Env is beside the environment of this process.
	Env []string
}

// StartTandem starts "tandem serve" with this TOML text (see [Serve]), waits until it
// listens, and ends it with the test, which fails if it doesn't end in time with
// status 0.
func StartTandem(t testing.TB, toml string) *Tandem {
	t.Helper()
	return StartServe(t, Serve{TOML: toml})
}

// StartServe is [StartTandem] with all options. The binary is [Binary] if none is named.
func StartServe(t testing.TB, s Serve) *Tandem {
	t.Helper()
	if s.Binary == "" {
		s.Binary = Binary(t)
	}
	td, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of tandem:\n%s", td.Log())
		}
		if err := td.Stop(); err != nil {
			t.Error(err)
		}
	})
	return td
}

// Run starts tandem and returns once it listens. The caller must Stop it. ctx
// bounds the start alone.
func (s Serve) Run(ctx context.Context) (*Tandem, error) {
	if !strings.Contains(s.TOML, "$SOCKET") && !strings.Contains(s.TOML, "$HTTP") {
		s.TOML = tandemListeners + s.TOML
	}
	for attempt := 1; ; attempt++ {
		td, err := s.run(ctx)
		var taken *portTakenError
		if errors.As(err, &taken) && s.Port == 0 && attempt < 5 {
			continue
		}
		return td, err
	}
}

func (s Serve) run(ctx context.Context) (_ *Tandem, err error) {
	td := &Tandem{}
	if td.Dir, err = makeDir("serve"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(td.Dir)
		}
	}()
	if s.Port == 0 {
		if s.Port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", s.Port)
	socket := filepath.Join(td.Dir, "tandem.sock")
	if strings.Contains(s.TOML, "$SOCKET") {
		td.Socket = socket
	}
	if strings.Contains(s.TOML, "$HTTP") {
		td.HTTP = "http://" + address
	}
	root := ""
	if strings.Contains(s.TOML, "$ROOT") {
		if root, err = Root(); err != nil {
			return nil, err
		}
	}
	toml := strings.NewReplacer("$SOCKET", socket, "$HTTP", address, "$DIR", td.Dir, "$ROOT", root).Replace(s.TOML)
	toml = WithEngine(toml)
	td.Config = filepath.Join(td.Dir, "tandem.toml")
	if err := os.WriteFile(td.Config, []byte(toml), 0o644); err != nil {
		return nil, err
	}
	td.Process, err = StartProcess(Command{
		Args:   []string{s.Binary, "serve", "-c", td.Config},
		Dir:    td.Dir,
		Env:    s.Env,
		Output: filepath.Join(td.Dir, "tandem.log"),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ready := func() error {
		if td.Socket != "" {
			if err := dial(ctx, "unix", td.Socket); err != nil {
				return err
			}
		}
		if td.HTTP != "" {
			return dial(ctx, "tcp", address)
		}
		return nil
	}
	if err := poll(ctx, td.Process, "tandem serve", ready); err != nil {
		td.Process.Stop()
		err = fmt.Errorf("%w; its log:\n%s\nits configuration:\n%s", err, td.Log(), toml)
		if strings.Contains(td.Log(), "address already in use") {
			err = &portTakenError{err}
		}
		return nil, err
	}
	return td, nil
}

func dial(ctx context.Context, network, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		conn.Close()
	}
	return err
}

// Stop ends tandem with SIGTERM and removes its folder. It is an error if it had to
// be killed, or ended with another status than 0.
func (td *Tandem) Stop() error {
	err := td.Process.Stop()
	if err == nil {
		err = td.Err()
	}
	if err != nil {
		err = fmt.Errorf("servertest: tandem serve: %w; its log:\n%s", err, td.Log())
	}
	return errors.Join(err, os.RemoveAll(td.Dir))
}
