package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/fcgi"
	"tandem/session"
	"tandem/session/frame"
)

// chaotic is an app that does something else each time, and always obeys its ctx.
var chaotic = session.AppFunc(func(ctx context.Context, s *session.Session) error {
	switch rand.IntN(9) {
	case 0:
		return nil
	case 1:
		return frame.Errorf(frame.CodeProgramExited, "exit status 1")
	case 2:
		return errors.New("failed")
	case 3:
		panic("chaos")
	case 4:
		go s.Close(frame.CodeNormal, "closed")
		<-ctx.Done()
		return nil
	case 5:
		s.CloseNow()
		return nil
	case 6: // floods, from several goroutines
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for s.Send(ctx, frame.Message{Data: make([]byte, rand.IntN(40000))}) == nil {
				}
			})
		}
		wg.Wait()
		return ctx.Err()
	case 7:
		for range rand.IntN(20) {
			if _, err := s.Receive(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	return session.Echo.Serve(ctx, s)
})

// misbehave writes frames to w until it doesn't want to any more.
func misbehave(w io.Writer, codec frame.Codec) {
	var seq uint64
	put := func(f frame.Frame) error {
		b, err := codec.Append(nil, &f)
		if err != nil {
			return nil
		}
		_, err = w.Write(b)
		return err
	}
	if codec.Framed() && rand.IntN(10) > 0 {
		put(frame.Frame{Type: frame.TypeOpen, Version: 1, Window: 32 << 10 << rand.IntN(4), Messages: 1 + uint64(rand.IntN(100)), Heartbeat: 15000, Hold: rand.IntN(4) == 0})
	}
	for range rand.IntN(60) {
		var err error
		switch rand.IntN(12) {
		case 0:
			err = put(frame.Frame{Type: frame.TypePing, Nonce: rand.Uint64() >> 12})
		case 1:
			err = put(frame.Frame{Type: frame.TypeStart})
		case 2:
			err = put(frame.Frame{Type: frame.TypeAck, Received: uint64(rand.IntN(3)), Window: 64 << 10, Messages: 64})
		case 3:
			if rand.IntN(6) == 0 {
				err = put(frame.Frame{Type: frame.TypeEnd, Seq: seq})
			}
		case 4:
			if rand.IntN(6) == 0 {
				err = put(frame.Frame{Type: frame.TypeClose, Seq: seq, Code: frame.CodeNormal})
			}
		case 5:
			if rand.IntN(10) == 0 {
				_, err = io.WriteString(w, "\xff\xfe{nonsense\n")
			}
		case 6:
			if rand.IntN(6) == 0 {
				_, err = io.WriteString(w, "\x04\n")
			}
		default:
			seq++
			err = put(frame.Frame{Type: frame.TypeMessage, Seq: seq, Data: []byte(strings.Repeat("x", rand.IntN(3000))), Text: true, More: rand.IntN(20) == 0})
		}
		if err != nil {
			return
		}
		if rand.IntN(8) == 0 {
			runtime.Gosched()
		}
	}
}

// dropIn is one client over HTTP, which ends somehow.
func dropIn(client *http.Client, url string) {
	codec := frame.Codecs()[rand.IntN(3)]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(ctx, "POST", url, pr)
	req.Header.Set("Content-Type", codec.MediaType())
	if rand.IntN(4) == 0 {
		req.Header.Set("Tandem-Transport", "pulse")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		misbehave(pw, codec)
		switch rand.IntN(3) {
		case 0:
			pw.Close()
		case 1:
			pw.CloseWithError(errors.New("cut"))
		case 2:
			if rand.IntN(2) == 0 {
				runtime.Gosched()
			}
			cancel()
			pw.CloseWithError(errors.New("cut")) // a Transport waits for its body
		}
	})
	if resp, err := client.Do(req); err == nil {
		switch rand.IntN(3) {
		case 0:
			io.CopyN(io.Discard, resp.Body, int64(rand.IntN(2000)))
		case 1:
			io.Copy(io.Discard, resp.Body)
		}
		resp.Body.Close()
	}
	pr.CloseWithError(io.ErrClosedPipe)
	wg.Wait()
}

// dropInFCGI is one request of a web server, which ends somehow.
func dropInFCGI(addr string) {
	nc, err := net.Dial("unix", addr)
	if err != nil {
		return
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(2 * time.Second))
	codec := frame.Codecs()[rand.IntN(3)]
	record := func(typ byte, p []byte) []byte {
		return append([]byte{1, typ, 0, 1, byte(len(p) >> 8), byte(len(p)), 0, 0}, p...)
	}
	var params []byte
	software := []string{"nginx/1.22.1", "Apache/2.4", "lighttpd/1.4"}[rand.IntN(3)]
	for _, kv := range [][2]string{{"REQUEST_METHOD", "POST"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"SERVER_SOFTWARE", software},
		{"SCRIPT_FILENAME", "proxy:fcgi://x/"}, {"CONTENT_TYPE", codec.MediaType()}, {"REQUEST_URI", "/"}} {
		params = append(params, byte(len(kv[0])), byte(len(kv[1])))
		params = append(append(params, kv[0]...), kv[1]...)
	}
	nc.Write(append(record(1, []byte{0, 1, 0, 0, 0, 0, 0, 0}), append(record(4, params), record(4, nil)...)...))
	var wg sync.WaitGroup
	wg.Go(func() {
		misbehave(writerFunc(func(p []byte) (int, error) {
			for len(p) > 0 {
				n := min(len(p), 1+rand.IntN(9000))
				if _, err := nc.Write(record(5, p[:n])); err != nil {
					return 0, err
				}
				p = p[n:]
			}
			return 0, nil
		}), codec)
		switch rand.IntN(4) {
		case 0:
			nc.Write(record(5, nil))
		case 1:
			nc.Write(record(2, nil)) // abort
		case 2:
			nc.Close()
		case 3:
			nc.Write([]byte("nonsense"))
		}
	})
	if rand.IntN(3) == 0 {
		io.CopyN(io.Discard, nc, int64(rand.IntN(2000)))
	} else {
		io.Copy(io.Discard, nc)
	}
	nc.Close()
	wg.Wait()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestChaos: whatever clients, apps and the server's stop do at the same time,
// nothing is left: no session, no place in the limits, no goroutine.
func TestChaos(t *testing.T) {
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("CHAOS_ROUNDS")); err == nil {
		rounds = n // for a longer look
	}
	for range rounds {
		limits := &session.Limits{Sessions: 1000, PerAddr: 1000}
		h := session.NewHandler(chaotic, quiet(session.Options{Limits: limits, Heartbeat: 20 * time.Millisecond}))
		h1 := httptest.NewServer(h)
		h2 := httptest.NewUnstartedServer(h)
		h2.EnableHTTP2 = true
		h2.StartTLS()
		h2.Config.ErrorLog = nil
		dir, err := os.MkdirTemp("", "chaos")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		fs := &fcgi.Server{Handler: h, Log: quiet(session.Options{}).Log}
		served := make(chan struct{})
		go func() { fs.Serve(l); close(served) }()
		c1 := &http.Client{Transport: &http.Transport{}}
		c2 := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}

		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 8 {
					dropIn(c1, h1.URL)
					dropIn(c2, h2.URL)
					dropInFCGI(l.Addr().String())
				}
			})
		}
		wg.Wait()
		// Some are caught by the stop.
		for range 30 {
			wg.Go(func() { dropIn(c1, h1.URL) })
			wg.Go(func() { dropIn(c2, h2.URL) })
			wg.Go(func() { dropInFCGI(l.Addr().String()) })
		}
		ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
		if err := h.Shutdown(ctx); err != nil {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d sessions are left: %v\n%s", h.Sessions(), err, buf[:runtime.Stack(buf, true)])
		}
		wg.Wait()
		if err := fs.Shutdown(ctx); err != nil {
			t.Errorf("FastCGI requests are left: %v", err)
		}
		cancel()
		<-served
		c1.CloseIdleConnections()
		c2.CloseIdleConnections()
		h1.Close()
		h2.Close()
		os.RemoveAll(dir)
		if h.Sessions() != 0 {
			t.Errorf("%d sessions are left", h.Sessions())
		}
		if n := session.Taken(limits); n != 0 {
			t.Errorf("%d places are taken", n)
		}
	}
}
