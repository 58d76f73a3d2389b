package program

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tandem/internal/nowait"
	"tandem/session/frame"
)

// A relay passes messages between s and c until c has exited and its output is
// through, or s has ended and c is stopped.
//
//	session ── React ───► input ──► stdin  ─┐
//	                                         child
//	session ◄── Send ──── output ◄── stdout ─┤
//	log, session ◄─────── output ◄── stderr ─┘
//
// Each arrow blocks where the next stage is full: nothing between session and child
// grows. An idle session has one goroutine, which waits for stdout; the others come
// when there is something for them: a message, the first of stderr, the exit, the end
// of the session.
type relay struct {
	app *App
	ctx context.Context // done when the session is over
	s   conn
	c   *child

	exited         chan struct{}
	stdout, stderr output
	readStderr     sync.Once
	outputs        sync.WaitGroup // until the two are read to their end
	tasks          sync.WaitGroup // until the exit is dealt with, and no step of stopping follows

	input     sync.Mutex // held while a message goes to stdin
	inputOver bool       // no more may
	deaf      bool       // the program reads no more

	keepStop     func() bool // unless stop is called already
	forgetStderr func()

	cut      *frame.CloseError                // the output's last message was not whole
	failure  atomic.Pointer[frame.CloseError] // why the relay itself has ended the session
	lastStep string                           // of stopping; read after tasks
}

// errOver is what the outputs get to know of the session's end.
var errOver = errors.New("program: the session is over")

// begin relays all but stdout from now on.
func (r *relay) begin() {
	r.outputs.Add(2)
	r.tasks.Add(2)
	r.keepStop = context.AfterFunc(r.ctx, func() {
		defer r.tasks.Done()
		r.stop()
	})
	r.forgetStderr = r.c.onStderr(r.startStderr)
	r.c.onExit(func() {
		defer r.tasks.Done()
		r.ended()
	})
	r.s.React(r.take)
}

// copyStdout relays stdout to its end.
func (r *relay) copyStdout() {
	r.stdout.copy(r.send)
	r.stdoutEnded()
	r.stdout.discard()
	r.outputs.Done()
}

// stdoutEnded looks at why that was.
func (r *relay) stdoutEnded() {
	var ce *frame.CloseError
	switch {
	case !errors.As(r.stdout.err, &ce): // the end of it or of the session
	case r.stdout.truncated:
		r.cut = r.app.named(ce)
	default:
		r.fail(r.app.named(ce))
	}
}

// finish waits for the program's end and reaps it. The result is the session's.
func (r *relay) finish() error {
	<-r.exited
	if r.keepStop() {
		r.tasks.Done()
	}
	r.tasks.Wait()
	success, status := r.c.reap()
	r.forgetStderr()
	r.outputs.Wait()
	r.input.Lock() // no message is on its way any more
	r.inputOver = true
	r.input.Unlock()

	r.log().Debug("program ended", "status", status, "stopped_by", r.lastStep)
	switch failure := r.failure.Load(); {
	case failure != nil:
		return failure
	case r.ctx.Err() != nil:
		return nil // the session ended first: nobody is left to tell the status to
	case !success:
		return &frame.CloseError{Code: frame.CodeProgramExited, Reason: status}
	case r.cut != nil:
		return r.cut
	}
	return nil
}

// log is made when there is something to log.
func (r *relay) log() *slog.Logger { return r.app.log(r.s).With("pid", r.c.process.Pid) }

// fail ends the session from here, for a message or an output that does not fit. The session is
// closed now, not by returning: that comes only when the program is gone, which can take the graces.
func (r *relay) fail(err *frame.CloseError) {
	if r.ctx.Err() != nil || !r.failure.CompareAndSwap(nil, err) {
		return
	}
	r.log().Warn("session closed by the program's relay", "code", uint16(err.Code), "reason", err.Reason)
	_ = r.s.Close(err.Code, err.Reason) // ends ctx; an error means that it is closed already
}

// stop is called when the session is over.
func (r *relay) stop() {
	if !isClosed(r.exited) {
		r.lastStep = stop(r.app.stopSteps(r.c, r.log()), r.exited)
	}
}

// ended is called when the program has exited. It returns when nothing is left of its
// process group.
func (r *relay) ended() {
	close(r.exited)
	r.c.stdin.Close() // wakes a write that nobody will read
	r.startStderr()
	r.stdout.wake()
	r.stderr.wake()
	r.awaitOutputs()
	r.c.signalGroup(syscall.SIGKILL) // what the program left behind
}

// awaitOutputs gives the processes that an exited program left behind until
// the output's end, at most drainTime, and no time where the session is over.
func (r *relay) awaitOutputs() {
	done := make(chan struct{})
	go func() { // ends with outputs, which run waits for
		r.outputs.Wait()
		close(done)
	}()
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-r.ctx.Done():
	}
}

func (r *relay) send(m frame.Message) error {
	if r.s.Send(r.ctx, m) != nil {
		return errOver
	}
	return nil
}

// startStderr reads stderr, from its first bytes or the exit on.
func (r *relay) startStderr() {
	r.readStderr.Do(func() {
		go func() {
			defer r.outputs.Done()
			r.stderr.copy(r.app.emitStderr(r)) // its decoder has no errors, Send's are stdout's to report
			r.stderr.discard()
		}()
	})
}

// take writes a message to stdin; an error is the end of the client's input, which
// closes stdin, or the session's. It returns false when it wants no more.
//
// Back-pressure: a program that doesn't read fills the pipe (64 KiB), then
// Write blocks here, no more messages are taken, and the client runs into its window.
func (r *relay) take(m frame.Message, err error) bool {
	r.input.Lock()
	defer r.input.Unlock()
	switch {
	case err == io.EOF:
		r.c.stdin.Close()
		return false
	case err != nil, r.inputOver: // ctx tells
		return false
	}
	buf := buffer()
	defer func() { giveBack(buf) }()
	var misfit *frame.CloseError
	if buf, misfit = r.app.framing.encode(buf[:0], m); misfit != nil {
		r.fail(misfit)
		return false
	}
	if r.deaf {
		return true
	}
	rest, failed := nowait.Write(r.c.rawStdin, buf)
	if failed == nil && len(rest) > 0 {
		r.s.WillBlock()
		_, failed = r.c.stdin.Write(rest)
	}
	switch {
	case failed == nil:
	case errors.Is(failed, syscall.EPIPE):
		// The program closed its stdin, or is about to be seen exited. It may
		// still have much to say; what the client says has no reader.
		r.log().Debug("program reads no more input; messages to it are dropped")
		r.deaf = true
	default:
		return false // closed
	}
	return true
}
