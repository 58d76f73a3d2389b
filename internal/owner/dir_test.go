package owner

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	uid := strconv.Itoa(os.Geteuid())
	for _, tt := range []struct{ configured, run, tmp, want string }{
		{"", "", "", "/tmp/tandem-" + uid},
		{"", "", "/var/tmp", "/var/tmp/tandem-" + uid},
		{"", "", "here", "/tmp/tandem-" + uid},
		{"/srv/state", "", "/var/tmp", "/srv/state"},
		{"/srv/state", "/run/tandem", "", "/run/tandem/owners"},
		{"", "/run/tandem:/run/other", "", "/run/tandem/owners"},
		{"", "run", "", "/tmp/tandem-" + uid},
	} {
		env := map[string]string{"RUNTIME_DIRECTORY": tt.run, "TMPDIR": tt.tmp}
		if d := Find(tt.configured, func(k string) string { return env[k] }); d.Path != tt.want || d.Source == "" {
			t.Errorf("%+v: got %+v", tt, d)
		}
	}
}

// A folder that somebody else may have a hand in is refused, and the error names
// the key.
func TestDir(t *testing.T) {
	foreign := "/usr" // root's
	if os.Geteuid() == 0 {
		foreign = stateDir(t)
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		make func(path string) error
		path string
		want string
	}{
		"made":          {want: ""},
		"there":         {make: func(p string) error { return os.Mkdir(p, 0o700) }, want: ""},
		"open":          {make: func(p string) error { os.Mkdir(p, 0o700); return os.Chmod(p, 0o755) }, want: "its mode is 0755, expected 0700"},
		"group":         {make: func(p string) error { os.Mkdir(p, 0o700); return os.Chmod(p, 0o710) }, want: "its mode is 0710"},
		"file":          {make: func(p string) error { return os.WriteFile(p, nil, 0o700) }, want: "expected a folder"},
		"link":          {make: func(p string) error { os.Mkdir(p+"2", 0o700); return os.Symlink(p+"2", p) }, want: "symbolic link"},
		"dangling link": {make: func(p string) error { return os.Symlink(p+"2", p) }, want: "symbolic link"},
		"no parent":     {path: "/no/such/folder", want: "there is no folder /no/such"},
		"another's":     {path: foreign, want: "it belongs to user id "},
		"too long":      {path: "/tmp/" + strings.Repeat("x", 81), want: "has 86 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Dir{tt.path, Key}
			if d.Path == "" {
				d.Path = stateDir(t)
			}
			if tt.make != nil {
				if err := tt.make(d.Path); err != nil {
					t.Fatal(err)
				}
			}
			err := d.Open()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "state_dir: "+d.Path+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, expected %q", err, tt.want)
			}
			o := newOwner(t, d.Path, echo)
			if _, _, err := o.Claim("key"); err == nil {
				t.Error("Claim goes there")
			}
			if o.Forward(NewName()) != nil {
				t.Error("Forward goes there")
			}
		})
	}
}

// The longest path that is allowed has room for the socket.
func TestLongDir(t *testing.T) {
	parent := filepath.Dir(stateDir(t))
	path := filepath.Join(parent, strings.Repeat("x", 85-len(parent)-1))
	claim(t, newOwner(t, path, echo), "key")
}

// Sockets in a folder that has been opened to others since are not trusted.
func TestDirOpened(t *testing.T) {
	dir := stateDir(t)
	a, b := newOwner(t, dir, echo), newOwner(t, dir, echo)
	claim(t, a, "")
	if b.Forward(a.Name) == nil {
		t.Fatal("not found")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if b.Forward(a.Name) != nil {
		t.Error("others may write to the folder")
	}
}

// A process that may be the only one goes on without the others.
func TestOptional(t *testing.T) {
	var log bytes.Buffer
	o := &Owner{Name: NewName(), Dir: Dir{"/no/such/folder", Key}, Optional: true, Log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		if owner, release := claim(t, o, "key"); owner != o.Name || release == nil {
			t.Errorf("got %q", owner)
		}
	}
	if n := strings.Count(log.String(), "state_dir: /no/such/folder"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if err := o.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A sweep leaves what lives, and what it doesn't know.
func TestSweep(t *testing.T) {
	dir := stateDir(t)
	a := newOwner(t, dir, echo)
	claim(t, a, "a's key")
	p := start(t, dir, "p's key")
	p.claim(t)
	p.kill()
	unborn, young, gone := "."+NewName(), "."+NewName(), claimName("x")
	for _, name := range []string{unborn, young, "README"} {
		os.WriteFile(filepath.Join(dir, name), nil, 0o600)
	}
	os.Chtimes(filepath.Join(dir, unborn), time.Time{}, time.Now().Add(-time.Hour))
	os.Symlink(NewName(), filepath.Join(dir, gone))
	os.Symlink("../../etc/passwd", filepath.Join(dir, claimName("y")))
	b := newOwner(t, dir, echo)
	claim(t, b, "")
	got := files(t, dir)
	for _, name := range []string{a.Name + ".sock", b.Name + ".sock", claimName("a's key"), young, "README"} {
		if !strings.Contains(got, name) {
			t.Errorf("%s was removed", name)
		}
	}
	if n := len(strings.Fields(got)); n != 5 {
		t.Errorf("left: %s", got)
	}
}

// In a folder with very many files a sweep is short, and several get there.
func TestSweepMany(t *testing.T) {
	dir := stateDir(t)
	a := newOwner(t, dir, echo)
	claim(t, a, "")
	for range 4 * maxSweep {
		os.Symlink(NewName(), filepath.Join(dir, claimName(NewName())))
	}
	a.sweep()
	if n := len(strings.Fields(files(t, dir))); n < 3*maxSweep || n > 3*maxSweep+2 {
		t.Errorf("%d files are left by one sweep", n)
	}
	for range 200 {
		a.sweep()
	}
	if got := files(t, dir); got != a.Name+".sock" {
		t.Errorf("left: %s", got)
	}
}
