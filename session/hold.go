package session

import (
	"io"
	"strings"
	"sync"
	"time"

	"tandem/internal/gateway"
	"tandem/session/frame"
)

// Bounds of a hold.
const (
	calmAfter = 20 * time.Millisecond // without input the response may begin
	holdMost  = time.Second           // it begins anyway, for input that never pauses
)

// hold keeps a response from beginning while a burst of input comes. Behind
// nginx an upload that once finds the socket to us full stalls for good, if the
// response header has gone out (docs/servers.md trap 1). Codecs with acks never send
// that much; curl, which speaks lines, sends a file as fast as nginx takes it.
//
// It is a flow.Carrier on top of the response, and the body that input is read
// from.
type hold struct {
	*response
	body io.Reader

	begin sync.Once
	begun chan struct{} // closed when the response has begun
	calm  *time.Timer
	until time.Time
}

// needsHold tells whether nginx sends us what a client sends in bursts.
func needsHold(info *gateway.Info, in frame.Codec) bool {
	return info.Interface == gateway.FastCGI && strings.HasPrefix(info.Software, "nginx") && !in.Framed()
}

func newHold(r *response, body io.Reader) *hold {
	h := &hold{response: r, body: body, begun: make(chan struct{}), until: time.Now().Add(holdMost)}
	h.calm = time.AfterFunc(holdMost, h.release)
	h.calm.Reset(calmAfter) // now that release, which may run at once, finds calm
	return h
}

// release has the response begin: the header goes out. It returns when it has.
func (h *hold) release() {
	h.begin.Do(func() {
		h.calm.Stop()
		h.response.Flush() // an error shows again at the first Write
		close(h.begun)
	})
}

// Read reads input, and counts as none of it being calm.
func (h *hold) Read(p []byte) (int, error) {
	n, err := h.body.Read(p)
	select {
	case <-h.begun:
	default:
		if err != nil || time.Now().After(h.until) {
			h.release()
		} else {
			h.calm.Reset(calmAfter)
		}
	}
	return n, err
}

// Write waits until the response may begin.
func (h *hold) Write(p []byte) (int, error) {
	<-h.begun
	return h.response.Write(p)
}

// Abort begins what is to be cut.
func (h *hold) Abort() {
	h.response.Abort()
	go h.release()
}
