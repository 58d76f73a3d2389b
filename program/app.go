package program

import (
	"context"
	"log/slog"
	"path/filepath"

	"tandem/session"
	"tandem/session/frame"
)

// App starts one child for each session. It is safe for concurrent use.
type App struct {
	opt     Options
	path    string   // the program's absolute path
	name    string   // what clients may know of it: the last element of Command[0]
	passed  []string // what PassEnv brought
	framing framing
}

// New checks o and makes an App of it. The error is an *OptionError that names
// the key.
func New(o Options) (*App, error) {
	o, path, err := o.complete()
	if err != nil {
		return nil, err
	}
	return &App{
		opt: o, path: path, name: filepath.Base(path),
		passed: passedEnv(o.PassEnv), framing: newFraming(o.Framing),
	}, nil
}

// conn is what the relay needs of a session; *session.Session has it.
type conn interface {
	ID() string
	Log() *slog.Logger
	React(func(frame.Message, error) bool)
	WillBlock()
	Send(context.Context, frame.Message) error
	Close(code frame.Code, reason string) error
	ForgetRequest()
}

// Serve runs one child for s (session.App). It returns when s is to end: nil
// for exit status 0, or where s ended first; a *session.CloseError otherwise.
func (a *App) Serve(ctx context.Context, s *session.Session) error {
	p := s.Peer()
	return a.serve(ctx, s, &peer{user: p.User, addr: p.Addr, header: p.Header, vars: p.Vars})
}

// serve runs one child for s, and returns when it is gone: no process, no
// goroutine and no place in the limits is left.
func (a *App) serve(ctx context.Context, s conn, p *peer) error {
	if ctx.Err() != nil {
		return nil // over before it began
	}
	release, err := a.opt.Limiter.admit(p.key())
	if err != nil {
		return err
	}
	defer release()
	r, err := a.begin(ctx, s, p)
	if err != nil {
		return err
	}
	defer r.c.close()
	r.copyStdout() // in a small frame: this is where an idle session waits, on a stack of 2 KiB
	return r.finish()
}

// begin starts the child and its relay, in a goroutine of its own: the stack that it takes
// goes with it, and that of the one that stays with the session remains small.
func (a *App) begin(ctx context.Context, s conn, p *peer) (r *relay, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, e := a.start(s, p)
		if e != nil {
			err = e
			return
		}
		r = &relay{app: a, ctx: ctx, s: s, c: c, exited: make(chan struct{})}
		r.stdout = output{pipe: c.stdout, dec: a.framing.decoder(int(a.opt.MaxMessage)), exited: r.exited}
		r.stderr = output{pipe: c.stderr, dec: &stderrDecoder{}, exited: r.exited}
		r.begin()
	}()
	<-done
	return r, err
}

func (a *App) start(s conn, p *peer) (*child, error) {
	c, err := start(a.path, a.opt.Command, a.opt.Dir, environ(s.ID(), p, a.passed, a.opt.Env))
	s.ForgetRequest()
	if err != nil {
		// The log gets all; the client nothing of the server's paths.
		a.log(s).Error("program can't be started", "command", a.opt.Command, "path", a.path, "dir", a.opt.Dir,
			"error", err, "do", startAdvice(err))
		return nil, frame.Errorf(frame.CodeInternal, "the program of this endpoint can't be started; the server's log says why")
	}
	a.log(s).Debug("program started", "command", a.opt.Command, "pid", c.process.Pid)
	return c, nil
}

func (a *App) log(s conn) *slog.Logger { return s.Log().With("program", a.name) }

// named says in e which program it is about.
func (a *App) named(e *frame.CloseError) *frame.CloseError {
	return &frame.CloseError{Code: e.Code, Reason: a.name + ": " + e.Reason}
}
