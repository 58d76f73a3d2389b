package cgi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"tandem/internal/gateway"
	"tandem/internal/problem"
)

// Causes of the request's cancelled context, beside SignalError.
var (
	// ErrReaderGone: the web server closed the other end of stdout.
	ErrReaderGone = errors.New("cgi: the web server has closed stdout's other end")
	// ErrWrite: a write to stdout failed; it wraps the reason as well.
	ErrWrite = errors.New("cgi: write to stdout failed")
)

const (
	// finishTimeout is how long a web server may take for what is left of a response
	// once its handler has returned.
	finishTimeout = 30 * time.Second
	// lostTimeout is the same for a request that was cancelled: lighttpd may still be
	// there to read it after its SIGTERM.
	lostTimeout = time.Second / 2
)

// SignalError is the cause when the web server, or somebody else, sent a signal.
type SignalError struct{ Signal os.Signal }

func (e *SignalError) Error() string { return "cgi: received signal: " + e.Signal.String() }

// Options are all optional; nil is none.
type Options struct {
	// Log gets panics and bad environments; nil: slog.Default(), which writes to stderr,
	// which web servers put in their error log.
	Log *slog.Logger
}

// IsCGI says whether a web server started this process for one request.
func IsCGI() bool { return os.Getenv("GATEWAY_INTERFACE") != "" }

// Serve answers the request of this CGI process with h and returns as soon as h
// has and what it wrote is out; what is left of the body stays unread, but for a few bytes
// (see drain). The error is nil
// whatever h did; it says that there is no request in the environment (which was
// answered with status 400 and logged) or that stdin or stdout can't be used.
//
// Signals cancel the request's context from the return of the first Write or Flush that
// sends something at the latest; before, one may still end the process.
func Serve(h http.Handler, o *Options) error {
	if o == nil {
		o = &Options{}
	}
	log := o.Log
	if log == nil {
		log = slog.Default()
	}
	in, err := openStream(os.Stdin)
	if err != nil {
		return fmt.Errorf("cgi: stdin: %w", err)
	}
	defer in.restore()
	out, err := openStream(os.Stdout)
	if err != nil {
		return fmt.Errorf("cgi: stdout: %w", err)
	}
	defer out.restore()

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	caught, stop := onSignal(cancel)
	defer stop()
	out.caught = caught
	defer watchReader(out.file, cancel)()
	return serve(ctx, cancel, h, log, os.Environ(), in, out)
}

// serve is Serve without the process around it.
func serve(ctx context.Context, cancel context.CancelCauseFunc, h http.Handler, log *slog.Logger, environ []string, in, out *stream) error {
	w := newResponse(out, cancel)
	vars := metaVariables(environ)
	r, err := NewRequest(vars)
	if err != nil {
		err = fmt.Errorf("cgi: not a CGI request: %w", err)
		log.Error(err.Error())
		problem.Write(w, http.StatusBadRequest, "The web server's CGI variables don't make a request: "+errors.Unwrap(err).Error()+".")
		_ = w.finish(finishTimeout)
		return err
	}
	b := newBody(r, in)
	r.Body, w.body = b, b
	if b.in == nil || b.left == 0 {
		r.Body = http.NoBody
	}
	r = r.WithContext(gateway.NewContext(ctx, gateway.FromVars(gateway.CGI, vars)))
	if h == nil {
		h = http.DefaultServeMux
	}
	run(h, w, r, log)
	// A lost client is the end of the request, not an error of this process.
	timeout := finishTimeout
	if ctx.Err() != nil {
		timeout = lostTimeout
	}
	_ = w.finish(timeout)
	if ctx.Err() == nil {
		b.drain()
	}
	return nil
}

// run contains panics: 500 where nothing was sent, else the response ends.
func run(h http.Handler, w *response, r *http.Request, log *slog.Logger) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v != http.ErrAbortHandler {
			log.Error("cgi: panic in the handler", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
		}
		w.fail()
	}()
	h.ServeHTTP(w, r)
}

// onSignal cancels with the first signal that ends a CGI process. SIGPIPE is only
// taken note of, so that a write reports EPIPE; it isn't ignored, since child
// processes would inherit that.
//
// To catch signals the runtime starts a thread, and waits for it once for each: that takes
// longer than all else until the response begins, so it is done meanwhile.
func onSignal(cancel context.CancelCauseFunc) (caught <-chan struct{}, stop func()) {
	begun, done := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 8)
	go func() {
		defer close(done)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
		close(begun)
		for s := range signals {
			if s != syscall.SIGPIPE {
				cancel(&SignalError{Signal: s})
			}
		}
	}()
	return begun, func() {
		<-begun
		signal.Stop(signals) // sends no more
		close(signals)
		<-done
	}
}

// metaVariables picks the variables of the request from the environment: those of
// RFC 3875 section 4.1 and what web servers add, not those of the process (PATH, LD_…).
func metaVariables(environ []string) map[string]string {
	vars := make(map[string]string)
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && isMetaVariable(k) {
			vars[k] = v
		}
	}
	return vars
}

func isMetaVariable(name string) bool {
	switch name {
	case "DOCUMENT_ROOT", "DOCUMENT_URI", "GATEWAY_INTERFACE", "HTTPS", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING", "UNIQUE_ID", "TANDEM_ENDPOINT":
		return true
	}
	for _, prefix := range [...]string{
		"AUTH_", "CONTENT_", "CONTEXT_", "HTTP_", "REDIRECT_", "REMOTE_", "REQUEST_", "SCRIPT_", "SERVER_", "SSL_",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
