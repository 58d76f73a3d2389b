package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	terminal "golang.org/x/term"

	"tandem/client"
	"tandem/session/frame"
)

// Exit statuses of connect beside those of the close codes (frame.Code.ExitStatus).
const (
	exitData        = 65 // EX_DATAERR
	exitUnavailable = 69 // EX_UNAVAILABLE
	exitTryAgain    = 75 // EX_TEMPFAIL
	exitPermission  = 77 // EX_NOPERM
)

// stopGrace is how long a session may take to end after a signal. Input that was
// not sent then is lost: who sends the signal wants the end.
const stopGrace = 2 * time.Second

type connectCmd struct {
	URL        string   `arg:"" help:"The endpoint, such as https://www.example.org/tandem. NAME:PASSWORD@ in it is as --user."`
	Transport  string   `help:"single, split, pulse or poll. Default: the best that works, which is remembered." placeholder:"NAME"`
	Codec      string   `help:"binary or json. Default: ${default}." default:"binary" placeholder:"NAME"`
	Header     []string `short:"H" sep:"none" help:"A header for the request, \"Name: value\". May be given again." placeholder:"LINE"`
	User       string   `help:"Log in with Basic authentication." placeholder:"NAME:PASSWORD"`
	Insecure   bool     `short:"k" help:"Take any certificate. For tests only: anybody can be in between."`
	CACert     string   `name:"cacert" type:"path" help:"Trust the certificate authorities in this PEM file, and no others." placeholder:"FILE"`
	HTTP1      bool     `name:"http1" help:"Don't use HTTP/2."`
	UnixSocket string   `type:"path" help:"Connect to this socket instead of the URL's host." placeholder:"FILE"`
	Verbose    bool     `short:"v" help:"Show frames, with seconds and direction, and when the transport is lost or changes, on stderr."`
	Quiet      bool     `short:"q" help:"Say nothing on stderr but errors."`
}

// Help is shown by tandem connect --help.
func (*connectCmd) Help() string {
	return `Each line of stdin is a text message, each message is a line on stdout (binary ones are written as they are). ` +
		`The end of stdin (Ctrl-D) is the end of input; messages are shown until the other end closes the session. ` +
		`Ctrl-C closes it, a second one doesn't wait.

Exit status: 0 normal end; 1 the program failed; 64 wrong usage; 65 bad data; 69 no session; 70 error at the other end; ` +
		`74 connection lost; 75 try again later; 77 not allowed.`
}

func (c *connectCmd) Run() error {
	options, err := c.options()
	if err != nil {
		return exitWith(exitUsage, err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	dialled := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(exitWith(signalStatus(s), fmt.Errorf("%v before the session was open", s)))
		case <-dialled:
		}
	}()
	conn, err := client.Dial(ctx, c.URL, options)
	close(dialled)
	if cause := context.Cause(ctx); cause != nil {
		if conn != nil {
			conn.CloseNow()
		}
		return cause
	}
	if err != nil {
		return c.dialError(err)
	}
	path := conn.Path()
	if path.Server != "" {
		path.Proto += ", " + path.Server
	}
	c.say("connected: %s, %s, session %.25s", path.Transport, path.Proto, conn.SessionID())
	return c.talk(conn, signals)
}

// talk passes messages until the session is over.
func (c *connectCmd) talk(conn *client.Conn, signals <-chan os.Signal) error {
	defer conn.CloseNow()
	output := make(chan error, 1)
	input := make(chan error, 1)
	go func() { output <- printMessages(conn, os.Stdout) }()
	go func() { input <- sendLines(conn, os.Stdin) }()
	var stopped chan struct{} // closed when a signal has had its effect
	for {
		select {
		case err := <-output:
			if stopped != nil {
				<-stopped // the session was over at once, the other end knows now
			}
			return c.closed(err)
		case err := <-input:
			input = nil
			if err != nil && conn.Err() == nil {
				conn.Close(frame.CodeGoingAway, "the client can't go on")
				return err
			}
		case s := <-signals:
			code := frame.CodeGoingAway
			if s == os.Interrupt {
				code = frame.CodeNormal
			}
			stopped = make(chan struct{})
			go func(again <-chan os.Signal) {
				defer close(stopped)
				stop(conn, code, again)
			}(signals)
			signals = nil
		}
	}
}

// stop closes the session, and soon drops it.
func stop(conn *client.Conn, code frame.Code, again <-chan os.Signal) {
	late := time.AfterFunc(stopGrace, conn.CloseNow)
	defer late.Stop()
	go func() {
		s := <-again
		os.Exit(signalStatus(s)) // whatever may hang: the user has asked twice
	}()
	conn.Close(code, "")
}

// closed is the command's result when receiving ended with err.
func (c *connectCmd) closed(err error) error {
	var over *frame.CloseError
	if !errors.As(err, &over) {
		return exitWith(exitIO, err)
	}
	text := fmt.Sprintf("closed: %d %s", uint16(over.Code), over.Code)
	if over.Reason != "" {
		text += ": " + over.Reason
	}
	if status := over.Code.ExitStatus(); status != 0 {
		return exitWith(status, errors.New(text))
	}
	c.say("%s", text)
	return nil
}

// printMessages writes what is received to w, and returns how the session ended.
func printMessages(conn *client.Conn, w io.Writer) error {
	ctx := context.Background()
	for {
		m, err := conn.Receive(ctx)
		if err == io.EOF { // nothing more to show, but the other end still listens
			<-conn.Done()
			return conn.Err()
		}
		if err != nil {
			return err
		}
		data := m.Data
		if m.Text {
			data = append(data, '\n')
		}
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("can't write messages: %w", err)
		}
	}
}

// sendLines sends each line of r, then the end of input. Send waits while the other
// end's window is full, so a fast r is read no faster than it takes.
func sendLines(conn *client.Conn, r io.Reader) error {
	ctx := context.Background()
	lines := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(lines)
		if len(line) > 0 || err == nil {
			if err := conn.Send(ctx, frame.Message{Data: line, Text: true}); err != nil {
				var bad *frame.CloseError
				if errors.As(err, &bad) && conn.Err() == nil {
					return exitWith(exitData, fmt.Errorf("line %d of the input: %s", number, bad.Reason))
				}
				return err
			}
		}
		switch {
		case err == io.EOF:
			return conn.CloseSend()
		case err != nil:
			return exitWith(exitData, fmt.Errorf("line %d of the input: %w", number, err))
		}
	}
}

// maxInputLine bounds a line of the input in memory, in bytes; the other end's limit
// is below it, usually.
const maxInputLine = 64 << 20

// readLine reads a line, without its LF. A last line without LF comes with
// io.EOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case err != bufio.ErrBufferFull:
			return line, err
		case len(line) > maxInputLine:
			return nil, fmt.Errorf("expected at most %d bytes", maxInputLine)
		}
	}
}

func (c *connectCmd) options() (*client.Options, error) {
	o := &client.Options{Transport: c.Transport, Codec: c.Codec, HTTP1: c.HTTP1, Header: make(http.Header)}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("--header: expected \"Name: value\", got %q", line)
		}
		o.Header.Add(name, strings.TrimSpace(value))
	}
	if c.User != "" {
		name, password, ok := strings.Cut(c.User, ":")
		if !ok {
			return nil, errors.New("--user: expected NAME:PASSWORD, got no colon")
		}
		r := http.Request{Header: o.Header}
		r.SetBasicAuth(name, password)
	}
	if c.Insecure || c.CACert != "" {
		o.TLS = &tls.Config{InsecureSkipVerify: c.Insecure}
	}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		o.TLS.RootCAs = x509.NewCertPool()
		if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: expected certificates in PEM format in %s, found none", c.CACert)
		}
	}
	if c.UnixSocket != "" {
		o.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.UnixSocket)
		}
	}
	if file := transportsFile(); file != "" {
		o.Memory = fileMemory(file)
	}
	o.Notify = c.tell
	if c.Verbose {
		o.Trace = traceTo(os.Stderr)
	}
	return o, nil
}

// dialError gives a failed Dial its exit status, and a hint.
func (c *connectCmd) dialError(err error) error {
	text := strings.TrimPrefix(err.Error(), "client: ")
	status := exitUnavailable
	var answer *client.HTTPError
	var none *client.NoTransportError
	var over *frame.CloseError
	var wrong *client.UsageError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &wrong):
		status = exitUsage
	case errors.As(err, &none):
		text += "; tandem doctor " + none.URL + " finds out more"
	case errors.As(err, &answer):
		switch answer.Status {
		case http.StatusUnauthorized:
			status, text = exitPermission, text+": see --user and --header"
		case http.StatusForbidden, http.StatusProxyAuthRequired:
			status = exitPermission
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			status = exitTryAgain
		}
		if answer.Detail == "" { // not Tandem's own
			text += "; tandem doctor " + answer.URL + " finds out more"
		}
	case errors.As(err, &over):
		return c.closed(over)
	case errors.Is(err, syscall.ECONNREFUSED):
		text += ": nothing listens there, see whether the server runs"
	case errors.As(err, &unknown):
		text += ": name its authority with --cacert"
	case errors.As(err, &record):
		text += ": that port doesn't speak TLS, use http://"
	}
	return exitWith(status, errors.New(text))
}

// tell says what becomes of the transport.
func (c *connectCmd) tell(e client.Event) {
	if !c.Verbose {
		return
	}
	switch e.Kind {
	case client.Lost:
		c.say("transport lost: %s: %v", e.Path.Transport, e.Err)
	case client.Resumed:
		c.say("resumed: %s, %s", e.Path.Transport, e.Path.Proto)
	}
}

// say tells a person what goes on. In a pipe nobody wants to know.
func (c *connectCmd) say(format string, args ...any) {
	if !c.Quiet && (c.Verbose || terminal.IsTerminal(int(os.Stderr.Fd()))) {
		fmt.Fprintf(os.Stderr, "tandem: "+format+"\n", args...)
	}
}

// traceTo shows frames: seconds since the start, direction, what it is.
func traceTo(w io.Writer) func(bool, *frame.Frame) {
	var mu sync.Mutex
	start := time.Now()
	return func(sent bool, f *frame.Frame) {
		arrow := '<'
		if sent {
			arrow = '>'
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "%9.4f %c %s\n", time.Since(start).Seconds(), arrow, showFrame(f))
	}
}

// showFrame shows a frame in one line, with the start of its data.
func showFrame(f *frame.Frame) string {
	switch f.Type {
	case frame.TypeOpen:
		text := fmt.Sprintf("open version %d, transport %s, heartbeat %d ms, window %d bytes in %d messages", f.Version, f.Transport, f.Heartbeat, f.Window, f.Messages)
		if f.MaxMessage > 0 {
			text += fmt.Sprintf(", max_message %d", f.MaxMessage)
		}
		if f.Session != "" {
			text += fmt.Sprintf(", session %.25s", f.Session) // enough for the server's log; all of it is a secret
		}
		if f.Hold {
			text += ", wait for start"
		}
		return text
	case frame.TypeDetach:
		return fmt.Sprintf("detach: %d %v", uint16(f.Code), f.Code)
	case frame.TypeMessage:
		const most = 60
		kind, rest := "binary", ""
		if f.Text {
			kind = "text"
		}
		if f.More {
			kind += ", more follows"
		}
		data := f.Data
		if len(data) > most {
			data, rest = data[:most], "…"
		}
		return fmt.Sprintf("message %d, %s, %d bytes: %q%s", f.Seq, kind, len(f.Data), data, rest)
	case frame.TypeAck:
		return fmt.Sprintf("ack %d, window %d bytes in %d messages", f.Received, f.Window, f.Messages)
	case frame.TypePing, frame.TypePong:
		return fmt.Sprintf("%v %d", f.Type, f.Nonce)
	case frame.TypeEnd:
		return fmt.Sprintf("end after message %d", f.Seq)
	case frame.TypeClose:
		return fmt.Sprintf("close after message %d: %d %v %s", f.Seq, uint16(f.Code), f.Code, f.Reason)
	}
	return f.Type.String()
}

func signalStatus(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}
