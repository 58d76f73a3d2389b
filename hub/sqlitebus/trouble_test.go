package sqlitebus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"golang.org/x/sys/unix"

	"tandem/hub"
)

// unavailable checks an error: its kind, and that it names the file and says what to do.
func unavailable(t testing.TB, what string, err error, path, want string) {
	t.Helper()
	if !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), ": "+path) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("%s: got %v, expected one with %q", what, err, want)
	}
}

// all tries every method.
func all(t testing.TB, b *Bus, path, want string) {
	t.Helper()
	unavailable(t, "Publish", b.Publish(context.Background(), &hub.Event{ID: "x", Topic: "t"}), path, want)
	_, err := b.Follow("t", func(*hub.Event, bool) {})
	unavailable(t, "Follow", err, path, want)
	_, err = b.History(context.Background(), hub.Query{Earliest: true}, func(*hub.Event) bool { return true })
	unavailable(t, "History", err, path, want)
	_, err = b.Presence(context.Background(), []hub.Change{{Member: hub.Member{Subscriber: "s"}}}, nil)
	unavailable(t, "Presence", err, path, want)
}

// A file that can't be used is an error of each call, and when it is put right the same Bus works.
func TestTrouble(t *testing.T) {
	good := newPath(t)
	g := New(good, nil)
	publish(t, g, "e", "t", strings.Repeat("x", 50_000))
	g.Close()
	database, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, content, 0o600) }
	}
	damaged := append([]byte(nil), database...)
	for i := 100; i < len(damaged); i++ {
		damaged[i] = byte(i * 7)
	}
	change := func(statement string) func(string) error {
		return func(path string) error {
			db, err := sqlite3.Open(path)
			if err != nil {
				return err
			}
			defer db.Close()
			return db.Exec(statement)
		}
	}
	for name, tt := range map[string]struct {
		spoil func(path string) error
		want  string
	}{
		"no folder":         {func(path string) error { return os.Remove(filepath.Dir(path)) }, "its folder isn't there"},
		"a folder":          {func(path string) error { return os.Mkdir(path, 0o700) }, "expected a file, this is a folder"},
		"text":              {write([]byte(strings.Repeat("This is no database.\n", 1000))), "it is no SQLite database"},
		"damaged":           {write(damaged), "it is damaged"},
		"cut":               {write(database[:len(database)/2]), "it is damaged"},
		"another program's": {change("CREATE TABLE t (a)"), "another program's database"},
		"an older version":  {change(fmt.Sprintf("PRAGMA application_id=%d; CREATE TABLE t (a)", application)), "its tables have version 0, expected 1"},
		"a newer version": {change(fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d; CREATE TABLE t (a)", application, version+1)),
			"was written by a newer version of Tandem"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d", "hub.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(path); err != nil {
				t.Fatal(err)
			}
			b := newBus(t, path, Options{})
			all(t, b, path, tt.want)
			for _, p := range []string{path, path + "-wal", path + "-shm"} {
				if err := os.RemoveAll(p); err != nil {
					t.Fatal(err)
				}
			}
			_ = os.Mkdir(filepath.Dir(path), 0o700)
			live := follow(t, b, "t")
			publish(t, b, "x", "t", "")
			if got := next(t, live); got != "x" {
				t.Errorf("got %q", got)
			}
			present := ""
			if _, err := b.Presence(t.Context(), nil, func(m hub.Member) bool { present += m.Subscriber; return true }); err != nil || present != "s" {
				t.Errorf("present: %q, %v: expected what couldn't be stored before", present, err)
			}
		})
	}
}

// A folder, and a file, that this user may not write to. (The child is another user where this one is root.)
func TestUnwritable(t *testing.T) {
	for _, there := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "hub.db")
		if there {
			b := New(path, nil)
			publish(t, b, "e", "t", "")
			b.Close()
			if err := os.Chmod(path, 0o444); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		p := start(t, path, "unwritable", "")
		got := p.line(t)
		p.end(t)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got, path) || !strings.Contains(got, "must belong to the user") || !strings.HasPrefix(got, "unavailable") {
			t.Errorf("there is a file: %v: got %q", there, got)
		}
	}
}

func publishUnwritable(path, _ string) error {
	if os.Geteuid() == 0 {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	b := New(path, nil)
	err := b.Publish(context.Background(), &hub.Event{ID: "x", Topic: "t"})
	if errors.Is(err, hub.ErrUnavailable) {
		fmt.Print("unavailable: ")
	}
	fmt.Println(err)
	return b.Close()
}

// An empty file is a new one.
func TestEmptyFile(t *testing.T) {
	path := newPath(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	publish(t, newBus(t, path, Options{}), "e", "t", "")
}

// Any name of a file does.
func TestOddPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory&c#d%41é'.db")
	publish(t, newBus(t, path, Options{}), "e", "t", "")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if events, _ := history(t, newBus(t, path, Options{}), hub.Query{Earliest: true}); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
}

// The folder of the sockets must be this user's alone.
func TestDir(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(dir string) error
		dir  string
		want string
	}{
		"open":     {func(d string) error { os.Mkdir(d, 0o700); return os.Chmod(d, 0o755) }, "", "its mode is 0755, expected 0700"},
		"a file":   {func(d string) error { return os.WriteFile(d, nil, 0o700) }, "", "expected a folder, this is none"},
		"a link":   {func(d string) error { return os.Symlink("/tmp", d) }, "", "expected a folder, this is none"},
		"too long": {nil, "/tmp/" + strings.Repeat("x", 100), "its path has 105 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tt.dir
			if dir == "" {
				dir = filepath.Join(t.TempDir(), "wake")
				if err := tt.make(dir); err != nil {
					t.Fatal(err)
				}
			}
			path := newPath(t)
			b := newBus(t, path, Options{Dir: dir})
			_, err := b.Follow("t", func(*hub.Event, bool) {})
			unavailable(t, "Follow", err, dir, tt.want)
			publish(t, b, "e", "t", "") // needs none
		})
	}
}

// While another program has the file locked, publishing ends with an error in time, reading goes on.
func TestLocked(t *testing.T) {
	path := newPath(t)
	b := newBus(t, path, Options{patience: 50 * time.Millisecond})
	live := follow(t, b, "t")
	publish(t, b, "a", "t", "")
	if _, err := b.Presence(t.Context(), []hub.Change{{Member: hub.Member{Subscriber: "s", Match: "1"}}}, nil); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	unavailable(t, "Publish", b.Publish(t.Context(), &hub.Event{ID: "b", Topic: "t"}), path, "another program keeps it locked")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := b.Publish(ctx, &hub.Event{ID: "c", Topic: "t"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, expected the context's end", err)
	}
	if events, _ := history(t, b, hub.Query{Earliest: true}); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
	_, err = b.Presence(t.Context(), []hub.Change{{Member: hub.Member{Subscriber: "s", Match: "2"}}}, nil)
	unavailable(t, "Presence", err, path, "another program keeps it locked")
	if err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	present := ""
	if _, err := b.Presence(t.Context(), nil, func(m hub.Member) bool { present += m.Subscriber; return true }); err != nil || present != "ss" {
		t.Errorf("present: %q, %v: expected what couldn't be stored before", present, err)
	}
	for _, id := range []string{"c", "d"} { // c may have been stored
		publish(t, b, id, "t", "")
	}
	for _, id := range []string{"a", "c", "d"} {
		if got := next(t, live); got != id {
			t.Errorf("got %q, expected %q", got, id)
		}
	}
}

// A full disk (SQLite is told that the file may not grow): publishing fails, who follows and reads goes on, and all is well
// when there is room.
func TestFull(t *testing.T) {
	path := newPath(t)
	b := newBus(t, path, Options{pragma: "PRAGMA max_page_count=40"})
	live := follow(t, b, "t")
	stored := 0
	var err error
	for ; stored < 1000; stored++ {
		if err = b.Publish(t.Context(), &hub.Event{ID: fmt.Sprint(stored), Topic: "t", Data: strings.Repeat("x", 1000)}); err != nil {
			break
		}
	}
	unavailable(t, "Publish", err, path, "the disk is full: make room")
	if _, err := b.Presence(t.Context(), nil, nil); err != nil {
		t.Errorf("Presence: %v", err)
	}
	if events, span := history(t, b, hub.Query{Earliest: true}); len(events) != stored || !span.Complete || stored < 10 {
		t.Errorf("%d events of %d, %+v", len(events), stored, span)
	}
	// Small ones may still have room; nothing that was acknowledged is lost.
	other := newBus(t, path, Options{})
	publish(t, other, "room", "t", strings.Repeat("x", 10_000))
	for i := range stored {
		if got := next(t, live); got != fmt.Sprint(i) {
			t.Fatalf("got %q, expected %d", got, i)
		}
	}
	if got := next(t, live); got != "room" {
		t.Errorf("got %q", got)
	}
	intact(t, path)
}

// A disk without room is told from a broken one.
func TestNoSpace(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		_, got := logFile{refusing{err: &fs.PathError{Op: "write", Err: err}}}.WriteAt(nil, 0)
		if code(got) != sqlite3.FULL {
			t.Errorf("%v: got %v", err, got)
		}
	}
	if _, got := (logFile{refusing{err: syscall.EIO}}).WriteAt(nil, 0); got != syscall.EIO {
		t.Errorf("got %v", got)
	}
}

type refusing struct {
	vfs.File
	err error
}

func (f refusing) WriteAt([]byte, int64) (int, error) { return 0, f.err }

// The system refuses to write more: a limit of this process's file sizes. When it is lifted the same Bus works.
func TestLimited(t *testing.T) {
	path := newPath(t)
	p := start(t, path, "limited", "")
	if got := p.line(t); got != "ok" {
		t.Error(got)
	}
	p.end(t)
	intact(t, path)
}

func publishLimited(path, _ string) error {
	signal.Ignore(syscall.SIGXFSZ)
	b := New(path, nil)
	var full unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 512 << 10, Max: full.Max}); err != nil {
		return err
	}
	stored, failed := 0, 0
	for n := range 200 {
		err := b.Publish(context.Background(), &hub.Event{ID: fmt.Sprint(n), Topic: "t", Data: strings.Repeat("x", 8000)})
		switch {
		case err == nil:
			stored++
		case !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "the disk"):
			return err
		default:
			failed++
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	if stored < 10 || failed < 10 {
		return fmt.Errorf("%d were stored, %d failed", stored, failed)
	}
	if err := b.Publish(context.Background(), &hub.Event{ID: "room", Topic: "t"}); err != nil {
		return err
	}
	n := 0
	if _, err := b.History(context.Background(), hub.Query{Earliest: true}, func(*hub.Event) bool { n++; return true }); err != nil || n != stored+1 {
		return fmt.Errorf("%d events are there of %d, %v", n, stored+1, err)
	}
	fmt.Println("ok")
	return b.Close()
}

// A file that is put away while processes have it open is made anew, nothing is published into the old one, and followers are told of a gap.
func TestReplaced(t *testing.T) {
	path := newPath(t)
	a, b := newBus(t, path, Options{}), newBus(t, path, Options{})
	live := follow(t, a, "t")
	publish(t, b, "old", "t", "")
	if got := next(t, live); got != "old" {
		t.Fatal(got)
	}
	before, _ := history(t, a, hub.Query{Earliest: true})
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, path+".old"+suffix); err != nil {
			t.Fatal(err)
		}
	}
	e := publish(t, b, "new", "t", "")
	publish(t, a, "new 2", "t", "")
	for _, want := range []string{"gap", "new", "new 2"} {
		if got := next(t, live); got != want {
			t.Fatalf("got %q, expected %q", got, want)
		}
	}
	if e.Seq <= before[0].Seq {
		t.Errorf("Seq %d behind %d", e.Seq, before[0].Seq)
	}
	if events, _ := history(t, newBus(t, path, Options{}), hub.Query{Earliest: true}); len(events) != 2 {
		t.Errorf("the new file has %d events", len(events))
	}
	if events, _ := history(t, newBus(t, path+".old", Options{}), hub.Query{Earliest: true}); len(events) != 1 {
		t.Errorf("the old file has %d events", len(events))
	}
}

// Followers of a file whose earlier state is brought back are told of a gap, and of what is published from then on.
func TestRestored(t *testing.T) {
	path := newPath(t)
	b := newBus(t, path, Options{})
	publish(t, b, "a", "t", "")
	b.Close()
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = newBus(t, path, Options{})
	live := follow(t, b, "t")
	for _, id := range []string{"b", "c", "d"} {
		publish(t, b, id, "t", "")
		if got := next(t, live); got != id {
			t.Fatal(got)
		}
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, path+".old"+suffix); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	b.tail.look()
	if got := next(t, live); got != "gap" {
		t.Errorf("got %q, expected a gap", got)
	}
	publish(t, b, "e", "t", "")
	if got := next(t, live); got != "e" {
		t.Errorf("got %q", got)
	}
}

func TestTooLarge(t *testing.T) {
	b := newBus(t, newPath(t), Options{MaxBytes: 10_000})
	if err := b.Publish(t.Context(), &hub.Event{ID: "x", Topic: "t", Data: strings.Repeat("x", 10_000)}); !errors.Is(err, hub.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	publish(t, b, "y", "t", strings.Repeat("x", 9_000))
}

// What SQLite makes beside the file is for this user alone too, whatever the umask, and so is what it makes again.
func TestPrivate(t *testing.T) {
	path := newPath(t)
	for range 2 {
		p := start(t, path, "open", "")
		if got := p.line(t); got != "ready" {
			t.Fatal(got)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v: others could read it", path+suffix, info.Mode())
			}
		}
		p.end(t)
		if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the last process left its log: %v", err)
		}
	}
}

func publishOpen(path, _ string) error {
	syscall.Umask(0)
	b := New(path, nil)
	if err := b.Publish(context.Background(), &hub.Event{ID: "x", Topic: "t"}); err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return b.Close()
}

// A connection that has used up its memory is an error, and the next one works. (Publish refuses such events.)
func TestMemory(t *testing.T) {
	b := newBus(t, newPath(t), Options{MaxBytes: -1})
	publish(t, b, "a", "t", "")
	j := &job{event: hub.Event{ID: "b", Topic: "t", Data: strings.Repeat("x", 300<<20)}, done: make(chan error, 1)}
	unavailable(t, "300 MB", b.write(t.Context(), j), b.path, "there is no memory")
	if err := b.Publish(t.Context(), &hub.Event{ID: "c", Topic: "t", Data: strings.Repeat("x", maxEvent)}); !errors.Is(err, hub.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	publish(t, b, "d", "t", strings.Repeat("x", maxEvent-1000))
	if events, span := history(t, b, hub.Query{Earliest: true}); len(events) != 2 || !span.Complete {
		t.Errorf("%d events, %+v", len(events), span)
	}
}
