package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/session/frame"
)

// code is the termination code that err carries, 0 for none.
func code(err error) frame.Code {
	var ce *frame.CloseError
	errors.As(err, &ce)
	if ce == nil {
		return 0
	}
	return ce.Code
}

func texts(ms []frame.Message) []string {
	var s []string
	for _, m := range ms {
		s = append(s, string(m.Data))
	}
	return s
}

func TestMessagesAreLinesBothWays(t *testing.T) {
	s := run(t, Options{Command: []string{"cat"}})
	for _, text := range []string{"a", "", " b\t", "carriage\r", "nul\x00", "grüße \u2028"} {
		s.say(text)
		s.hear(text)
	}
	s.send(frame.Message{Data: []byte("\xff\xfe")})
	if m := s.next(); m.Text || string(m.Data) != "\xff\xfe" {
		t.Errorf("bytes that are not UTF-8 came back as %q, text %t", m.Data, m.Text)
	}
	s.end()
	if err := s.wait(); err != nil {
		t.Errorf("exit status 0 gave %v", err)
	}
}

func TestEndOfInputLetsTheRestThrough(t *testing.T) {
	s := run(t, Options{Command: []string{"/usr/bin/bc"}})
	s.say("6*7")
	s.end()
	out, err := s.rest()
	if got := texts(out); err != nil || !slices.Equal(got, []string{"42"}) {
		t.Errorf("bc gave %q, %v", got, err)
	}
	s = run(t, roleOptions("eof"))
	s.hear("ready")
	s.say("four")
	s.end()
	s.hear("end after 5")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

func TestOneMiBMessage(t *testing.T) {
	for _, framing := range []Framing{FramingLines, FramingNetstring, FramingJSON} {
		s := run(t, Options{Command: []string{"cat"}, Framing: framing})
		big := strings.Repeat("0123456789abcde\x01", 1<<16)
		for range 3 {
			s.say(big)
			s.hear(big)
		}
		s.say("small")
		s.hear("small")
		s.end()
		if err := s.wait(); err != nil {
			t.Errorf("%s: %v", framing, err)
		}
	}
}

func TestFramingsCarryEverything(t *testing.T) {
	for _, framing := range []Framing{FramingNetstring, FramingJSON} {
		s := run(t, Options{Command: []string{"cat"}, Framing: framing})
		for _, m := range []frame.Message{
			frame.Text("two\nlines\n"), frame.Text(""), frame.Text(`"quoted" <&> \u0041`), frame.Text("\u2028😀"),
			{Data: []byte("\xff\n\x00")},
		} {
			s.send(m)
			if got := s.next(); got.Text != m.Text || !bytes.Equal(got.Data, m.Data) {
				t.Errorf("%s: %q (text %t) came back as %q (text %t)", framing, m.Data, m.Text, got.Data, got.Text)
			}
		}
		s.end()
		if err := s.wait(); err != nil {
			t.Errorf("%s: %v", framing, err)
		}
	}
	// Only json keeps a binary message that happens to be UTF-8 apart from text.
	s := run(t, Options{Command: []string{"cat"}, Framing: FramingJSON})
	s.send(frame.Message{Data: []byte("abc")})
	if m := s.next(); m.Text || string(m.Data) != "abc" {
		t.Errorf("binary came back as %q, text %t", m.Data, m.Text)
	}
}

func TestMessageThatDoesNotFitLines(t *testing.T) {
	for _, m := range []frame.Message{frame.Text("a\nb"), {Data: []byte("\xff\n")}} {
		o := roleOptions("eof")
		s := run(t, o)
		s.hear("ready")
		s.send(m)
		err := s.wait()
		if code(err) != frame.CodeUnsupported || !strings.Contains(err.Error(), `framing = "netstring"`) {
			t.Errorf("%q gave %v", m.Data, err)
		}
		select {
		case e := <-s.closed:
			if e.Code != frame.CodeUnsupported {
				t.Errorf("the session was closed with %v", e)
			}
		default:
			t.Error("the session was closed only when the program was gone")
		}
	}
}

func TestBadOutput(t *testing.T) {
	for _, tc := range []struct {
		framing Framing
		output  string
		code    frame.Code
		text    string
	}{
		{FramingNetstring, "hello\n", frame.CodeInternal, `framing = "netstring"`},
		{FramingNetstring, "3:abc,2:d", frame.CodeInternal, "ended inside"},
		{FramingJSON, "hello\n", frame.CodeInternal, `framing = "json"`},
		{FramingJSON, `{"data":"x"`, frame.CodeInternal, "not a JSON object"},
		{FramingLines, strings.Repeat("x", 101), frame.CodeTooBig, "max_message = 100 bytes"},
		{FramingNetstring, "101:", frame.CodeTooBig, "max_message = 100 bytes"},
		{FramingJSON, `{"data":"` + strings.Repeat("x", 101) + "\"}\n", frame.CodeTooBig, "max_message = 100 bytes"},
	} {
		o := roleOptions("print " + tc.output)
		o.Framing, o.MaxMessage = tc.framing, 100
		_, err := run(t, o).rest()
		if code(err) != tc.code || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), "exe: the program") {
			t.Errorf("%s %q gave %v", tc.framing, tc.output, err)
		}
	}
	// A program that crashed in the middle of a message crashed: its status says more.
	o := roleOptions("print-crash 10:abc")
	o.Framing = FramingNetstring
	if err := run(t, o).wait(); code(err) != frame.CodeProgramExited {
		t.Errorf("a crash inside a message gave %v", err)
	}
}

func TestLineWithoutEnd(t *testing.T) {
	o := roleOptions("huge-line")
	s := run(t, Options{Command: o.Command, Env: o.Env, StdinGrace: -1})
	if err := s.wait(); code(err) != frame.CodeTooBig || !strings.Contains(err.Error(), "max_message = 1048576 bytes") {
		t.Error(err)
	}
}

func TestUnterminatedLastLineIsAMessage(t *testing.T) {
	s := run(t, roleOptions("print a\nb"))
	s.hear("a")
	s.hear("b")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

func TestExitStatus(t *testing.T) {
	for role, reason := range map[string]string{"exit 3": "exit status 3", "kill": "signal: killed"} {
		err := run(t, roleOptions(role)).wait()
		if code(err) != frame.CodeProgramExited || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s gave %v", role, err)
		}
	}
	if err := run(t, roleOptions("exit 0")).wait(); err != nil {
		t.Errorf("exit 0 gave %v", err)
	}
}

func TestAllOutputOfAProgramThatExits(t *testing.T) {
	s := run(t, roleOptions("count 20000"))
	out, err := s.rest()
	if err != nil || len(out) != 20000 || string(out[19999].Data) != "19999" {
		t.Errorf("%d messages, %v", len(out), err)
	}
}

// A client that reads slowly after the program's exit loses nothing, though the
// reading of what strays might write is bounded.
func TestSlowClientGetsAllAfterExit(t *testing.T) {
	s := run(t, roleOptions("count 1000")) // below a pipe's 64 KiB: the program exits
	s.hear("0")
	<-time.After(drainTime + drainTime/2) // the passing of this time is what is tested
	out, err := s.rest()
	if err != nil || len(out) != 999 {
		t.Errorf("%d messages, %v", len(out), err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("DAEMON_SECRET", "s")
	t.Setenv("PASSED", "p")
	t.Setenv("HTTP_PROXY", "http://evil")
	t.Setenv("LD_LIBRARY_PATH_TEST", "l")
	o := roleOptions("environ")
	o.Env = append(o.Env, "ADMIN=a=b", "SERVER_NAME=fixed")
	o.PassEnv = []string{"PASSED", "NOT_SET"}
	app := newApp(t, o)
	s := serve(t, app, &peer{
		user: "ada", addr: "192.0.2.1",
		header: http.Header{
			"Cookie": {"a=1", "b=2"}, "X-Many": {"1", "2"}, "Proxy": {"http://evil"}, "proxy": {"http://evil"}, "PROXY": {"http://evil"},
			"Authorization": {"Basic x"}, "Proxy-Authorization": {"Basic x"}, "X_Under": {"1"}, "Bad Name": {"1"}, "": {"1"},
			"Content-Length": {"5"}, "Content-Type": {"text/plain"}, "Nul": {"a\x00b"}, "X-Shell": {"() { :; }; x"},
		},
		vars: map[string]string{
			"REQUEST_METHOD": "POST", "QUERY_STRING": "a=b", "SERVER_NAME": "example.org", "REMOTE_USER": "eve", "CONTENT_LENGTH": "1099511627776",
			"LD_PRELOAD": "/tmp/evil.so", "BASH_ENV": "/tmp/evil", "PATH": "/tmp", "HTTP_PROXY": "http://evil", "IFS": "x", "TANDEM_SESSION": "x",
			"PERL5OPT": "x", "REMOTE_ADDR": "192.0.2.1",
		},
	})
	out, err := s.rest()
	if err != nil {
		t.Fatal(err)
	}
	got := texts(out)
	want := []string{
		"ADMIN=a=b", "GORACE=atexit_sleep_ms=0", "HTTP_COOKIE=a=1; b=2", "HTTP_X_MANY=1, 2", "HTTP_X_SHELL=() { :; }; x", "LANG=C.UTF-8", "PASSED=p",
		"PATH=" + Path, "QUERY_STRING=a=b", "REMOTE_ADDR=192.0.2.1", "REMOTE_USER=ada", "REQUEST_METHOD=POST",
		"SERVER_NAME=fixed", "TANDEM_SESSION=owner.random", roleVariable + "=environ",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Without a user there is no REMOTE_USER, whatever the variables say.
func TestGuestHasNoRemoteUser(t *testing.T) {
	s := serve(t, newApp(t, roleOptions("environ")), &peer{vars: map[string]string{"REMOTE_USER": "root"}})
	out, err := s.rest()
	if err != nil || len(out) == 0 || strings.Contains(strings.Join(texts(out), "\n"), "REMOTE_USER") {
		t.Errorf("%q, %v", texts(out), err)
	}
}

func TestFilesAndGroup(t *testing.T) {
	out, err := run(t, roleOptions("files")).rest()
	want := []string{"0 pipe nonblocking false", "1 pipe nonblocking false", "2 pipe nonblocking false"}
	if err != nil || !slices.Equal(texts(out), want) {
		t.Errorf("the program's files are %q, %v; expected %q", texts(out), err, want)
	}
	out, err = run(t, roleOptions("group")).rest()
	var pid, group int
	if _, e := fmt.Sscan(string(out[0].Data), &pid, &group); e != nil || err != nil || pid != group || group == unix.Getpgrp() {
		t.Errorf("pid and group: %q, %v", texts(out), err)
	}
	o := roleOptions("dir")
	o.Dir = t.TempDir()
	out, _ = run(t, o).rest()
	if dir, _ := filepath.EvalSymlinks(o.Dir); string(out[0].Data) != dir {
		t.Errorf("started in %q, not in %q", out[0].Data, dir)
	}
}

func TestArgumentsMeetNoShell(t *testing.T) {
	s := run(t, Options{Command: []string{"printf", "%s\\n", "$HOME; `id` *", "a  b"}})
	s.hear("$HOME; `id` *")
	s.hear("a  b")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

func TestCantStart(t *testing.T) {
	dir := t.TempDir()
	o := Options{Command: []string{filepath.Join(dir, "prog")}}
	for name, content := range map[string]string{"interpreter": "#!/no/such/interpreter\n", "format": "not a program"} {
		if err := os.WriteFile(o.Command[0], []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		s := run(t, o)
		err := s.wait()
		if code(err) != frame.CodeInternal || strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "can't be started") {
			t.Errorf("%s: the client gets %v", name, err)
		}
		path, advice := s.log.values("program can't be started", "path"), s.log.values("program can't be started", "do")
		if len(path) != 1 || path[0] != o.Command[0] || len(advice) != 1 || !strings.Contains(advice[0], "interpreter") {
			t.Errorf("%s: the log has path %q, do %q", name, path, advice)
		}
		if err := os.Remove(o.Command[0]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	l := NewLimiter(3, 2)
	cat := Options{Command: []string{"cat"}, Limiter: l}
	one, two := newApp(t, cat), newApp(t, cat) // two endpoints, one limit
	ada := &peer{user: "ada", addr: "192.0.2.1"}
	sessions := []*testSession{serve(t, one, ada), serve(t, two, ada)}
	for _, s := range sessions {
		s.say("x") // it runs
		s.hear("x")
	}
	if err := serve(t, one, ada).wait(); code(err) != frame.CodeOverloaded || !strings.Contains(err.Error(), "limits.children_per_user") {
		t.Errorf("the user's third child: %v", err)
	}
	// Of whom no user is known, the address counts.
	guest := serve(t, one, &peer{addr: "192.0.2.1"})
	guest.say("x")
	guest.hear("x")
	if err := serve(t, two, &peer{addr: "192.0.2.2"}).wait(); code(err) != frame.CodeOverloaded || !strings.Contains(err.Error(), "limits.children;") {
		t.Errorf("the fourth child: %v", err)
	}
	if n := l.Children(); n != 3 {
		t.Errorf("%d children count, expected 3", n)
	}
	for _, s := range append(sessions, guest) {
		s.end()
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	}
	if n := l.Children(); n != 0 || len(l.users) != 0 {
		t.Errorf("%d children, users %v count after the end", n, l.users)
	}
}

// A child that is being stopped holds its place.
func TestStoppingChildCounts(t *testing.T) {
	o := roleOptions("stubborn")
	o.StdinGrace, o.TermGrace = -1, time.Second
	o.Limiter = NewLimiter(1, 0)
	app := newApp(t, o)
	s := serve(t, app, &peer{})
	s.next()
	s.cancel(nil)
	if err := serve(t, app, &peer{}).wait(); code(err) != frame.CodeOverloaded {
		t.Errorf("while the first is being stopped: %v", err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if n := o.Limiter.Children(); n != 0 {
		t.Errorf("%d children count", n)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	app := newApp(t, Options{Command: []string{"cat"}})
	var wg sync.WaitGroup
	for i := range 40 {
		s := serve(t, app, &peer{})
		wg.Go(func() {
			for j := range 50 {
				text := fmt.Sprint(i, j)
				if !s.trySend(frame.Text(text)) {
					t.Errorf("session %d does not take messages", i)
					return
				}
				select {
				case m := <-s.out:
					if string(m.Data) != text {
						t.Errorf("session %d got %q, expected %q", i, m.Data, text)
					}
				case <-time.After(patience):
					t.Errorf("session %d got no answer", i)
					return
				}
			}
			if i%2 == 0 {
				s.end()
			} else {
				s.cancel(nil)
			}
			<-s.done
			if s.err != nil {
				t.Errorf("session %d: %v", i, s.err)
			}
		})
	}
	wg.Wait()
}

func (s *testSession) trySend(m frame.Message) bool {
	select {
	case s.in <- m:
		return true
	case <-s.done:
	case <-time.After(patience):
	}
	return false
}

func TestOverBeforeItBegan(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := &testSession{log: &logRecorder{}}
	if err := newApp(t, roleOptions("stubborn")).serve(ctx, s, &peer{}); err != nil || len(s.log.records) != 0 {
		t.Errorf("%v, %d log records", err, len(s.log.records))
	}
}
