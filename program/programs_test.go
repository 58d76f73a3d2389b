package program

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/session/frame"
)

// The programs of docs/programs.md, with their real interpreters. An interpreter that
// is missing is a failure: a test that was not run has shown nothing.

const programs = "../testdata/programs/"

// chats are the commands of the chat program, and the Debian package that the
// interpreter comes with.
var chats = []struct{ file, interpreter, install string }{
	{"chat.sh", "sh", "dash"},
	{"chat.awk", "awk", "mawk"},
	{"chat.py", "python3", "python3"},
	{"chat.php", "php", "php-cli"},
	{"chat.pl", "perl", "perl"},
	{"chat.rb", "ruby", "ruby"},
	{"chat.js", "node", "nodejs"},
}

func testProgram(t *testing.T, file string) string {
	t.Helper()
	path, err := filepath.Abs(programs + file)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func interpreter(t *testing.T, name, install string) {
	t.Helper()
	if _, err := findCommand([]string{name}); err != nil {
		t.Fatalf("%v\nOn Debian: apt-get install %s", err, install)
	}
}

func TestChatInEachLanguage(t *testing.T) {
	for _, c := range chats {
		t.Run(c.file, func(t *testing.T) {
			interpreter(t, c.interpreter, c.install)
			testChat(t, testProgram(t, c.file))
		})
	}
	// Whichever of them awk is.
	t.Run("mawk", func(t *testing.T) {
		interpreter(t, "mawk", "mawk")
		testChat(t, "mawk", "-W", "interactive", "-f", testProgram(t, "chat.awk"))
	})
	t.Run("gawk", func(t *testing.T) {
		interpreter(t, "gawk", "gawk")
		testChat(t, "gawk", "-f", testProgram(t, "chat.awk"))
	})
	t.Run("chat-go", func(t *testing.T) {
		binary := filepath.Join(t.TempDir(), "chat")
		if out, err := exec.Command("go", "build", "-o", binary, programs+"chat-go/main.go").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		testChat(t, binary)
	})
}

func testChat(t *testing.T, command ...string) {
	app := newApp(t, Options{Command: command, StdinGrace: time.Minute})
	ada, guest := &peer{user: "Ada"}, &peer{}

	// It speaks first, and answers each line before the next is sent.
	s := serve(t, app, ada)
	s.hear("Hello, Ada. Say something; /quit ends.")
	lines := []string{"one", "", "  blanks at both ends\t ", `back\slash \n %s`, `"quotes' $HOME`, "carriage\rreturn\r", "grüße\u2028😀", "/quit now"}
	for i, line := range lines {
		s.say(line)
		s.hear(fmt.Sprintf("%d: %s", i+1, line))
	}
	// A burst comes back whole and in order, while the input is still open.
	go func() {
		for range 500 {
			if !s.trySend(frame.Text("x")) {
				return
			}
		}
	}()
	for i := range 500 {
		s.hear(fmt.Sprintf("%d: x", len(lines)+i+1))
	}
	s.say("/quit")
	s.hear(fmt.Sprintf("Bye, Ada, after %d.", len(lines)+500))
	if err := s.wait(); err != nil {
		t.Errorf("/quit: %v", err)
	}

	s = serve(t, app, guest)
	s.hear("Hello, guest. Say something; /quit ends.")
	long := strings.Repeat("long line ", 20000)
	s.say(long)
	s.hear("1: " + long)
	s.end()
	s.hear("Bye, guest, after 1.")
	if err := s.wait(); err != nil {
		t.Errorf("end of input: %v", err)
	}

	s = serve(t, app, guest)
	s.next()
	if last := s.stopped(); last != "close stdin" {
		t.Errorf("the session's end needed %q", last)
	}
}

// What docs/programs.md advises for commands that can't be changed.
func TestUnbufferedCommands(t *testing.T) {
	for _, tc := range []struct {
		command []string
		install string
		say     string
		hear    string
	}{
		{[]string{"bc", "-q"}, "bc", "6*7", "42"},
		{[]string{"cat"}, "coreutils", "abc", "abc"},
		{[]string{"sed", "-u", "s/a/b/"}, "sed", "abc", "bbc"},
		{[]string{"grep", "--line-buffered", "b"}, "grep", "abc", "abc"},
		{[]string{"stdbuf", "-oL", "tr", "a-z", "A-Z"}, "coreutils", "abc", "ABC"},
		{[]string{"stdbuf", "-oL", "cut", "-c2"}, "coreutils", "abc", "b"},
		{[]string{"python3", "-u", "-c", "import sys\nfor line in sys.stdin: print(line.upper(), end='')"}, "python3", "abc", "ABC"},
		{[]string{"perl", "-ne", "BEGIN { $| = 1 } print uc"}, "perl", "abc", "ABC"},
		{[]string{"mawk", "-W", "interactive", "{ print toupper($0) }"}, "mawk", "abc", "ABC"},
		{[]string{"gawk", "{ print toupper($0); fflush() }"}, "gawk", "abc", "ABC"},
	} {
		t.Run(tc.command[0], func(t *testing.T) {
			interpreter(t, tc.command[0], tc.install)
			s := run(t, Options{Command: tc.command})
			for range 2 {
				s.say(tc.say)
				s.hear(tc.hear)
			}
			s.end()
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFramingPrograms(t *testing.T) {
	interpreter(t, "python3", "python3")
	for file, framing := range map[string]Framing{"upper-netstring.py": FramingNetstring, "upper-json.py": FramingJSON} {
		s := run(t, Options{Command: []string{testProgram(t, file)}, Framing: framing})
		for _, m := range []frame.Message{frame.Text("two\nlines"), frame.Text(""), {Data: []byte("\xff\nabc\x00")}} {
			s.send(m)
			if got := s.next(); got.Text != m.Text || !bytes.Equal(got.Data, bytes.ToUpper(m.Data)) && !bytes.Equal(got.Data, []byte("\xff\nABC\x00")) {
				t.Errorf("%s: %q (text %t) came back as %q (text %t)", file, m.Data, m.Text, got.Data, got.Text)
			}
		}
		s.end()
		if err := s.wait(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// The clock's two directions are independent: it speaks unasked, and echoes at once.
func TestClock(t *testing.T) {
	clock := Options{Command: []string{testProgram(t, "clock")}, StdinGrace: time.Minute}
	timeOfDay := regexp.MustCompile(`^\d\d:\d\d:\d\d$`)
	s := run(t, clock)
	s.say("first")
	s.hear("first")
	for range 2 {
		if m := s.next(); !timeOfDay.Match(m.Data) {
			t.Errorf("expected a time, got %q", m.Data)
		}
	}
	begin := time.Now()
	big := strings.Repeat("x", 300000)
	for _, line := range []string{"a", "", "b\r", big} {
		s.say(line)
		m := s.next()
		if timeOfDay.Match(m.Data) {
			m = s.next()
		}
		if string(m.Data) != line {
			t.Errorf("got %.40q, expected %.40q", m.Data, line)
		}
	}
	if d := time.Since(begin); d > 4*time.Second { // waiting for each tick would take that
		t.Errorf("four echoes took %v", d)
	}
	s.end()
	out, err := s.rest()
	if got := texts(out); err != nil || len(slices.DeleteFunc(got, timeOfDay.MatchString)) > 0 {
		t.Errorf("%q, %v", got, err)
	}

	s = run(t, clock)
	s.say("x")
	s.hear("x")
	if last := s.stopped(); last != "close stdin" {
		t.Errorf("the session's end needed %q", last)
	}
}

// docs/programs.md shows these two whole, and links to the others.
func TestDocumentedProgramsAreTheTestedOnes(t *testing.T) {
	doc, err := os.ReadFile("../docs/programs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chats {
		if c.file == "chat.sh" || c.file == "chat.py" {
			program, err := os.ReadFile(programs + c.file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(doc, program) {
				t.Errorf("%s in docs/programs.md is not testdata/programs/%s: copy it there", c.file, c.file)
			}
		} else if !bytes.Contains(doc, []byte("(../testdata/programs/"+c.file+")")) {
			t.Errorf("docs/programs.md does not link to %s", c.file)
		}
	}
}
