package session

import (
	"io"
	"strings"
	"sync"
	"time"

	"tandem/internal/gateway"
	"tandem/session/frame"
)

// How long a hold lasts. Somebody who types sends little, and should not wait; a
// file that pours in is held for as long as that takes, within bounds: a program
// that can't write stops reading, and its input waits in LinesBuffer.
const (
	smallBurst = 64 << 10 // bytes: a third of what the socket takes

	calmSmall = 100 * time.Millisecond // the response begins after so long without input
	holdSmall = time.Second            // and at the latest after so long

	calmLarge = 300 * time.Millisecond // a loaded machine makes such pauses by itself
	holdLarge = 10 * time.Second
	holdBytes = 8 << 20 // and at the latest after so much
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
	calm  *time.Timer   // begins it
	start time.Time
	bytes int // of input so far
}

// needsHold tells whether nginx sends us what a client sends in bursts.
func needsHold(info *gateway.Info, in frame.Codec) bool {
	return info.Interface == gateway.FastCGI && strings.HasPrefix(info.Software, "nginx") && !in.Framed()
}

func newHold(r *response, body io.Reader) *hold {
	h := &hold{response: r, body: body, begun: make(chan struct{}), start: time.Now()}
	h.calm = time.AfterFunc(holdSmall, h.release)
	h.calm.Reset(calmSmall) // now that release, which may run at once, finds calm
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
		return n, err
	default:
	}
	h.bytes += n
	calm, most := calmSmall, holdSmall
	if h.bytes > smallBurst {
		calm, most = calmLarge, holdLarge
	}
	if err != nil || h.bytes > holdBytes || time.Since(h.start) > most {
		h.release()
	} else {
		h.calm.Reset(calm)
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
