package flow_test

import (
	"context"
	"testing"

	"tandem/session/flow"
	"tandem/session/frame"
)

// BenchmarkEcho sends messages of 64 bytes from one link to another and back, over
// pipes in memory: an operation is one message each way, and the work of both ends.
func BenchmarkEcho(b *testing.B) {
	for _, codec := range []frame.Codec{frame.Binary, frame.JSON} {
		b.Run(codec.Name(), func(b *testing.B) {
			here, there, wait := pair(codec, config(), config())
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				echo(ctx, there)
			}()
			m := frame.Message{Data: make([]byte, 64), Text: true}
			for i := range m.Data {
				m.Data[i] = 'x'
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := here.Send(ctx, m); err != nil {
					b.Fatal(err)
				}
				if _, err := here.Receive(ctx); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-done
			here.Fail(&frame.CloseError{Code: frame.CodeNormal})
			there.Fail(&frame.CloseError{Code: frame.CodeNormal})
			wait()
		})
	}
}

func echo(ctx context.Context, l *flow.Link) {
	for {
		m, err := l.Receive(ctx)
		if err != nil {
			return
		}
		if err := l.Send(ctx, m); err != nil {
			return
		}
	}
}
