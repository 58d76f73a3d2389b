package flow_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"tandem/session/flow"
	"tandem/session/frame"
)

// A lateContext ends with the session, as an app's does, just when a method has found
// that it has to wait.
type lateContext struct {
	context.Context
	end func()
}

func (c lateContext) Done() <-chan struct{} {
	c.end()
	return c.Context.Done()
}

// TestContextThatEndsWithTheSession: who waits learns how the session ended, whatever
// has ended beside it, and gets what came before.
func TestContextThatEndsWithTheSession(t *testing.T) {
	for range 20 { // of what is ready at once select takes any
		synctest.Test(t, func(t *testing.T) {
			ended := func(words string) (*flow.Link, context.Context) {
				ctx, cancel := context.WithCancel(t.Context())
				cfg := config()
				cfg.Terminated = func(*frame.CloseError) { cancel() }
				l := flow.New(cfg)
				at := l.Attach(&output{}, frame.JSON, flow.Streaming, open(cfg))
				r, w := io.Pipe()
				go func() {
					at.Feed(r, frame.JSON, ignore)
					at.Detach()
				}()
				io.WriteString(w, `{"type":"open","version":1,"window":65536,"messages":64}`+"\n")
				return l, lateContext{ctx, func() {
					if ctx.Err() == nil {
						io.WriteString(w, words+`{"type":"close","code":1001}`+"\n")
						w.Close()
						<-ctx.Done()
					}
				}}
			}
			l, ctx := ended(messageLine(1, "last words"))
			if m, err := l.Receive(ctx); err != nil || string(m.Data) != "last words" {
				t.Errorf("Receive gives %q, %v", m.Data, err)
			}
			_, err := l.Receive(ctx)
			wantCode(t, err, frame.CodeGoingAway)

			l, ctx = ended("")
			wantCode(t, l.Send(ctx, frame.Text(strings.Repeat("x", 2*flow.InitialWindow))), frame.CodeGoingAway)

			l, ctx = ended("")
			_, err = l.Ping(ctx)
			wantCode(t, err, frame.CodeGoingAway)
		})
	}
}
