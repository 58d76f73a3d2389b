package servertest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The stand-in is a program behind a web server that does what the test tells it,
// step by step, so that what comes through is the web server's doing. For each
// request it dials the control socket, says hello, and obeys lines:
//
//	read         read once of the body       -> got "TEXT" or got EOF or error "..."
//	write "TEXT" write and flush             -> wrote or error "..."
//	env NAME     a variable                  -> env "VALUE"
//	close        end the response, go on     -> closed (CGI alone)
//	end          return                      -> bye
//
// and says signal NAME when a signal comes.

func TestMain(m *testing.M) {
	// This program is also the stand-in in cgi-bin, and under mod_fcgid.
	if filepath.Base(os.Args[0]) == "tandem" {
		control := filepath.Join(filepath.Dir(os.Args[0]), "control.sock")
		if os.Getenv("GATEWAY_INTERFACE") != "" {
			cgiStandin(control)
		} else if err := fcgi.Serve(nil, fcgiStandin(control)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	Cleanup()
	os.Exit(code)
}

type standin struct {
	control net.Conn
	body    io.Reader
	write   func(string) error
	env     func(string) string
	say     sync.Mutex // a signal may come between
}

func (s *standin) tell(format string, args ...any) {
	s.say.Lock()
	defer s.say.Unlock()
	fmt.Fprintf(s.control, format+"\n", args...)
}

func (s *standin) serve(hello string) {
	s.tell("hello %s", hello)
	lines := bufio.NewScanner(s.control)
	buf := make([]byte, 1<<16)
	for lines.Scan() {
		command, argument, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "read":
			switch n, err := s.body.Read(buf); {
			case n > 0:
				s.tell("got %q", buf[:n])
			case errors.Is(err, io.EOF):
				s.tell("got EOF")
			default:
				s.tell("error %q", fmt.Sprint(err))
			}
		case "write":
			text, _ := strconv.Unquote(argument)
			if err := s.write(text); err != nil {
				s.tell("error %q", err.Error())
			} else {
				s.tell("wrote")
			}
		case "close":
			// Apache waits for the end of stderr, too, and mod_cgid gives one
			// socket for stdin and stdout.
			os.Stdin.Close()
			os.Stdout.Close()
			os.Stderr.Close()
			s.tell("closed")
		case "env":
			s.tell("env %q", s.env(argument))
		case "end":
			s.tell("bye")
			return
		}
	}
}

// fcgiStandin serves FastCGI requests.
func fcgiStandin(control string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.Dial("unix", control)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer conn.Close()
		w.Header().Set("Content-Type", "text/plain")
		s := &standin{
			control: conn,
			body:    r.Body,
			write: func(text string) error {
				_, err := io.WriteString(w, text)
				w.(http.Flusher).Flush()
				return err
			},
			env: func(name string) string {
				if header, ok := strings.CutPrefix(name, "HTTP_"); ok {
					return r.Header.Get(strings.ReplaceAll(header, "_", "-"))
				}
				if name == "REQUEST_URI" {
					return r.RequestURI
				}
				return fcgi.ProcessEnv(r)[name]
			},
		}
		s.serve(r.Method)
	})
}

// cgiStandin serves the one request of this process, without net/http/cgi: that
// gives no body to a request of unknown length.
func cgiStandin(control string) {
	conn, err := net.Dial("unix", control)
	if err != nil {
		fmt.Printf("Status: 502\r\n\r\n%v", err)
		return
	}
	head := "Content-Type: text/plain\r\n\r\n"
	s := &standin{
		control: conn,
		body:    os.Stdin,
		write: func(text string) error {
			_, err := io.WriteString(os.Stdout, head+text)
			head = ""
			return err
		},
		env: os.Getenv,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGPIPE)
	go func() {
		for sig := range signals {
			s.tell("signal %v", sig)
		}
	}()
	s.serve(os.Getenv("REQUEST_METHOD"))
}

// A director is the test's end of all control connections.
type director struct {
	apps chan *app
}

// An app is one request, as the program sees it.
type app struct {
	t       *testing.T
	conn    net.Conn
	hello   string
	replies chan string // closed when the program is gone
	signals chan string
}

// patience is how long a thing that must happen may take.
const patience = 10 * time.Second

// direct listens at path, for programs of any user.
func direct(t *testing.T, path string) *director {
	t.Helper()
	ln := listenUnix(t, path)
	d := &director{apps: make(chan *app, 100)}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go d.follow(conn)
		}
	}()
	return d
}

func (d *director) follow(conn net.Conn) {
	a := &app{conn: conn, replies: make(chan string, 100), signals: make(chan string, 100)}
	defer close(a.replies)
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "hello":
			a.hello = rest
			d.apps <- a
		case "signal":
			a.signals <- rest
		default:
			a.replies <- lines.Text()
		}
	}
}

// next waits for the program to be started for a request.
func (d *director) next(t *testing.T) *app {
	t.Helper()
	select {
	case a := <-d.apps:
		a.t = t
		t.Cleanup(func() { a.conn.Close() })
		return a
	case <-time.After(patience):
		t.Fatal("the program wasn't called")
		return nil
	}
}

func (a *app) do(command string) string {
	a.t.Helper()
	fmt.Fprintln(a.conn, command)
	return a.reply()
}

func (a *app) reply() string {
	a.t.Helper()
	select {
	case reply, ok := <-a.replies:
		if !ok {
			return "gone"
		}
		return reply
	case <-time.After(patience):
		a.t.Fatal("the program doesn't answer")
		return ""
	}
}

func (a *app) expect(command, want string) {
	a.t.Helper()
	if got := a.do(command); got != want {
		a.t.Fatalf("program: %s: got %s, expected %s", command, got, want)
	}
}

func (a *app) write(text string) { a.t.Helper(); a.expect(fmt.Sprintf("write %q", text), "wrote") }
func (a *app) read(want string)  { a.t.Helper(); a.expect("read", fmt.Sprintf("got %q", want)) }
func (a *app) end()              { a.t.Helper(); a.expect("end", "bye") }

func (a *app) env(name string) string {
	a.t.Helper()
	value, err := strconv.Unquote(strings.TrimPrefix(a.do("env "+name), "env "))
	if err != nil {
		a.t.Fatal(err)
	}
	return value
}

// signal waits for the web server to send the program a signal.
func (a *app) signal(want string) {
	a.t.Helper()
	select {
	case got := <-a.signals:
		if got != want {
			a.t.Fatalf("the program got signal %s, expected %s", got, want)
		}
	case <-time.After(patience):
		a.t.Fatalf("the program got no signal, expected %s", want)
	}
}

func listenUnix(t *testing.T, path string) net.Listener {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	return ln
}

// A stage is a web server with the stand-in behind all its interfaces.
type stage struct {
	*Server
	*director
}

func newStage(t *testing.T, kind Kind, c Config) *stage {
	t.Helper()
	dir, err := makeDir("stage")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket == "" {
		c.Socket = filepath.Join(dir, "fcgi.sock")
		go fcgi.Serve(listenUnix(t, c.Socket), fcgiStandin(filepath.Join(dir, "control.sock")))
	}
	if kind == Apache || kind == Lighttpd {
		c.Binary = self
	}
	server := Start(t, kind, c)
	d := direct(t, filepath.Join(dir, "control.sock"))
	// The program in cgi-bin looks for it beside itself.
	if err := os.Symlink(filepath.Join(dir, "control.sock"), filepath.Join(server.CGIDir, "control.sock")); err != nil {
		t.Fatal(err)
	}
	return &stage{server, d}
}
