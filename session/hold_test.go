package session

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestHold: when a response begins whose input comes like this.
func TestHold(t *testing.T) {
	type piece struct {
		after time.Duration
		bytes int
	}
	every := func(d time.Duration, bytes, n int) (l []piece) {
		for range n {
			l = append(l, piece{d, bytes})
		}
		return l
	}
	for name, tt := range map[string]struct {
		input []piece
		end   bool // of the input
		want  time.Duration
	}{
		"nothing":            {nil, false, calmSmall},
		"a line":             {[]piece{{time.Millisecond, 10}}, false, time.Millisecond + calmSmall},
		"a line and the end": {[]piece{{time.Millisecond, 10}}, true, time.Millisecond},
		"never calm, little": {every(10*time.Millisecond, 10, 200), false, holdSmall + 10*time.Millisecond},
		"a file":             {every(10*time.Millisecond, 16<<10, 250), false, 2500*time.Millisecond + calmLarge},
		"a file in jerks":    {append(every(0, 100<<10, 1), every(200*time.Millisecond, 100<<10, 20)...), false, 4*time.Second + calmLarge},
		"a large file":       {every(time.Millisecond, 16<<10, 1000), false, 513 * time.Millisecond},
		"without an end":     {append(every(0, 100<<10, 1), every(100*time.Millisecond, 16<<10, 200)...), false, holdLarge + 100*time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			rec := httptest.NewRecorder()
			h := newHold(&response{w: rec, rc: http.NewResponseController(rec), body: r}, r)
			start := time.Now()
			go func() {
				for _, p := range tt.input {
					time.Sleep(p.after)
					w.Write(make([]byte, p.bytes))
				}
				if tt.end {
					w.Close()
				}
			}()
			go io.CopyBuffer(struct{ io.Writer }{io.Discard}, h, make([]byte, 128<<10))
			<-h.begun
			took := time.Since(start)
			if took != tt.want {
				t.Errorf("%s: the response began after %v, want %v", name, took, tt.want)
			}
			if !rec.Flushed {
				t.Errorf("%s: the header did not go out", name)
			}
			synctest.Wait()
			r.Close()
			w.Close()
			time.Sleep(time.Minute)
		})
	}
}
