package program

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"tandem/session/frame"
)

// A failure is why the relay itself ends the session: a message or an output
// that does not fit. As a context's cause it is told from the session's own end.
type failure struct{ *frame.CloseError }

// relay passes messages between s and c until c has exited and its output is
// through, or s has ended and c is stopped. It reaps c.
//
//	session ── Receive ──► input ──► stdin  ─┐
//	                                         child
//	session ◄── Send ──── output ◄── stdout ─┤
//	log, session ◄─────── output ◄── stderr ─┘
//
// Each arrow is one goroutine that blocks where the next stage is full: nothing
// between session and child grows.
func (a *App) relay(ctx context.Context, s conn, c *child, log *slog.Logger) error {
	defer func() {
		c.stdin.Close()
		c.stdout.Close()
		c.stderr.Close()
	}()
	// over ends when the session has ended or the relay failed, inputOver also
	// when there is no program any more that input could go to.
	over, end := context.WithCancelCause(ctx)
	defer end(nil)
	inputOver, endInput := context.WithCancel(over)
	defer endInput()

	// fail ends the session from here. The session is closed now, not by
	// returning: that comes only when the program is gone, which can take the graces.
	fail := func(err *frame.CloseError) {
		if over.Err() != nil {
			return
		}
		log.Warn("session closed by the program's relay", "code", uint16(err.Code), "reason", err.Reason)
		end(failure{err})
		_ = s.Close(err.Code, err.Reason) // an error means that it is closed already
	}

	stdout := &output{pipe: c.stdout, dec: a.framing.decoder(int(a.opt.MaxMessage)), exited: c.exited}
	stderr := &output{pipe: c.stderr, dec: &stderrDecoder{}, exited: c.exited}
	var cut *frame.CloseError // the output's last message was not whole; read after outputs
	var input, outputs sync.WaitGroup
	input.Go(func() {
		if err := a.input(inputOver, s, c.stdin, log); err != nil {
			fail(err)
		}
	})
	outputs.Go(func() {
		truncated, err := stdout.copy(func(m frame.Message) error { return s.Send(over, m) })
		var ce *frame.CloseError
		switch {
		case !errors.As(err, &ce): // the end, or ctx's error
		case truncated:
			cut = a.named(ce)
		default:
			fail(a.named(ce))
		}
		stdout.discard()
	})
	outputs.Go(func() {
		_, _ = stderr.copy(emitStderr(over, a.opt.Stderr, s, log)) // its decoder has no errors, Send's are stdout's to report
		stderr.discard()
	})

	lastStep := ""
	select {
	case <-c.exited:
	case <-over.Done():
		lastStep = stop(a.stopSteps(c, log), c.exited)
	}
	endInput()
	c.stdin.Close() // wakes a write that nobody will read
	stdout.wake()
	stderr.wake()
	awaitOutputs(over, &outputs)
	c.signalGroup(syscall.SIGKILL) // what the program left behind
	success, status := c.reap()
	outputs.Wait()
	input.Wait()

	log.Debug("program ended", "status", status, "stopped_by", lastStep)
	var failed failure
	switch {
	case errors.As(context.Cause(over), &failed):
		return failed.CloseError
	case ctx.Err() != nil:
		return nil // the session ended first: nobody is left to tell the status to
	case !success:
		return &frame.CloseError{Code: frame.CodeProgramExited, Reason: status}
	case cut != nil:
		return cut
	}
	return nil
}

// awaitOutputs gives the processes that an exited program left behind until
// the output's end, at most drainTime, and no time where the session is over.
func awaitOutputs(over context.Context, outputs *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { // ends with outputs, which relay waits for
		outputs.Wait()
		close(done)
	}()
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-over.Done():
	}
}

// input writes each message to stdin until the end of the client's input,
// which closes stdin, or the session's. It returns an error where a message
// doesn't fit the framing.
//
// Back-pressure: a program that doesn't read fills the pipe (64 KiB), then
// Write blocks here, Receive is not called, and the client runs into its window.
func (a *App) input(ctx context.Context, s conn, stdin *os.File, log *slog.Logger) *frame.CloseError {
	var buf []byte
	deaf := false
	for {
		m, err := s.Receive(ctx)
		if err != nil {
			if err == io.EOF {
				stdin.Close()
			}
			return nil // any other error: ctx tells
		}
		var misfit *frame.CloseError
		if buf, misfit = a.framing.encode(buf[:0], m); misfit != nil {
			return misfit
		}
		if deaf {
			continue
		}
		switch _, err := stdin.Write(buf); {
		case err == nil:
		case errors.Is(err, syscall.EPIPE):
			// The program closed its stdin, or is about to be seen exited. It may
			// still have much to say; what the client says has no reader.
			log.Debug("program reads no more input; messages to it are dropped")
			deaf = true
		default:
			return nil // closed by relay
		}
		if cap(buf) > keepBuffer {
			buf = nil
		}
	}
}
