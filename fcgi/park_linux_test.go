package fcgi

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/internal/gateway"
)

// echoSink sends back what it gets, in its Turn, on the goroutine that it is lent.
type echoSink struct {
	w      http.ResponseWriter
	finish func()
	turn   func(yield func()) // called in a Turn with a yield, if not nil

	mu      sync.Mutex
	waiting []byte
	acting  bool
	ended   bool
	lent    int // Turns with a yield
}

func (s *echoSink) Input(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, p...)
}

func (s *echoSink) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func (s *echoSink) Lost(error) { go s.finish() }

func (s *echoSink) Turn(yield func()) {
	if yield == nil {
		go s.act(nil)
		return
	}
	s.mu.Lock()
	s.lent++
	s.mu.Unlock()
	s.act(yield)
}

func (s *echoSink) act(yield func()) {
	if yield != nil && s.turn != nil {
		s.turn(yield)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acting {
		return // who is at it takes this along
	}
	s.acting = true
	for len(s.waiting) > 0 {
		p := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		s.w.Write(p)
		s.w.(http.Flusher).Flush()
		s.mu.Lock()
	}
	s.acting = false
	if s.ended {
		s.ended = false
		go s.finish()
	}
}

func (s *echoSink) turns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent
}

// serveEcho serves requests that are detached to echoSinks. What began them comes over the channel.
func serveEcho(t *testing.T, turn func(r *http.Request) func(yield func())) (*running, <-chan *echoSink) {
	sinks := make(chan *echoSink, 64)
	s := &Server{Detach: true}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sink := &echoSink{w: w}
		if turn != nil {
			sink.turn = turn(r)
		}
		// A Lost may come before Detach has returned.
		finish := make(chan func(), 1)
		sink.finish = sync.OnceFunc(func() { (<-finish)() })
		f, ok := w.(gateway.Detacher).Detach(sink)
		if !ok {
			t.Error("the server does not detach")
			return
		}
		finish <- f
		sinks <- sink
	})
	return serve(t, s), sinks
}

// parkedConns is how many connections pollers read.
func (s *Server) parkedConns() int {
	s.pollers.mu.Lock()
	defer s.pollers.mu.Unlock()
	return s.pollers.conns
}

// waitParked waits until n connections are read by pollers: nothing else tells.
func waitParked(t *testing.T, s *Server, n int) {
	t.Helper()
	for end := time.Now().Add(patience); s.parkedConns() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are parked, want %d", s.parkedConns(), n)
		}
	}
}

// TestParked: what a poller reads arrives as what a goroutine does, however the records are
// cut, with padding, and with other records between; and then the connection goes on.
func TestParked(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s, sinks := serveEcho(t, nil)
	c := s.dial(t)
	turns := 0
	for range 40 {
		c.open(1, flagKeepConn, post...)
		sink := wait(t, "the request", sinks)
		waitParked(t, s.Server, 1)
		var records []byte
		var want strings.Builder
		for range 1 + random.IntN(5) {
			text := strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(300))
			want.WriteString(text)
			records = append(records, padded(typeStdin, 1, text, random.IntN(8))...)
			switch random.IntN(8) {
			case 0:
				records = append(records, appendRecord(nil, typeStdin, 7, []byte("for nobody"))...)
			case 1:
				records = append(records, appendRecord(nil, typeData, 1, []byte("a filter's"))...)
			}
		}
		for len(records) > 0 {
			n := min(len(records), 1+random.IntN(1+random.IntN(200)))
			c.send(records[:n])
			records = records[n:]
			if random.IntN(3) == 0 {
				runtime.Gosched() // the server may read this piece by itself, or not
			}
		}
		c.stdout(1, want.String())
		c.stdin(1, "")
		c.response(1)
		waitParked(t, s.Server, 0)
		turns += sink.turns()
	}
	if turns == 0 {
		t.Error("no Turn was on a poller's goroutine")
	}
}

// padded is a record with so many bytes of padding.
func padded(typ uint8, id uint16, content string, padding int) []byte {
	b := []byte{version1, typ, byte(id >> 8), byte(id), byte(len(content) >> 8), byte(len(content)), byte(padding), 0}
	b = append(b, content...)
	return append(b, make([]byte, padding)...)
}

// TestTurnYields: a Sink that waits in its Turn keeps no other from being read.
func TestTurnYields(t *testing.T) {
	free := make(chan bool)
	s, sinks := serveEcho(t, func(r *http.Request) func(func()) {
		if r.URL.RawQuery != "slow" {
			return nil
		}
		return func(yield func()) {
			yield()
			yield() // once too often
			<-free
		}
	})
	var all []*speaker
	for i := range 6 {
		c := s.dial(t)
		query := ""
		if i < 3 {
			query = "slow"
		}
		c.open(1, 0, append(post[:len(post):len(post)], "REQUEST_URI", "/app?"+query, "QUERY_STRING", query)...)
		wait(t, "the request", sinks)
		all = append(all, c)
	}
	waitParked(t, s.Server, len(all))
	for _, c := range all[:3] {
		c.stdin(1, "one")
	}
	for range 10 {
		for _, c := range all[3:] {
			c.stdin(1, "quick")
			c.stdout(1, "quick")
		}
	}
	all[0].stdin(1, " two") // comes in while its Turn is on
	for range 3 + 1 {
		free <- true
	}
	all[0].stdout(1, "one two")
	all[1].stdout(1, "one")
	all[2].stdout(1, "one")
	close(free)
}

// TestTurnWriteBlocks: a web server that takes nothing keeps no other from being served, by a
// Sink that writes in its Turn.
func TestTurnWriteBlocks(t *testing.T) {
	s, sinks := serveEcho(t, nil)
	deaf, c := s.dial(t), s.dial(t)
	for _, c := range []*speaker{deaf, c} {
		c.open(1, 0, post...)
		wait(t, "the request", sinks)
	}
	waitParked(t, s.Server, 2)
	const size = 60000
	record := appendRecord(nil, typeStdin, 1, []byte(strings.Repeat("x", size)))
	const records = 100 // more than both sockets hold
	sent := make(chan bool)
	go func() {
		for range records {
			deaf.send(record)
		}
		close(sent)
	}()
	wait(t, "all to be sent, as what isn't taken is kept by the sink", sent)
	for range 20 {
		c.stdin(1, "quick")
		c.stdout(1, "quick")
	}
	deaf.stdin(1, "")
	got := 0
	for {
		r, err := deaf.next()
		if err != nil {
			t.Fatal(err)
		}
		if r.typ == typeEndRequest {
			break
		}
		got += strings.Count(r.content, "x")
	}
	if got -= strings.Count("text/plain; charset=utf-8", "x"); got != records*size {
		t.Errorf("%d bytes came back, want %d", got, records*size)
	}
}

// TestParkedAtOnce: many connections, with several pollers, echo at the same time; some hang
// up in the middle.
func TestParkedAtOnce(t *testing.T) {
	s, _ := serveEcho(t, nil)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			nc, err := net.Dial("unix", s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			c := speak(t, nc)
			c.open(1, 0, post...)
			for n := range 100 {
				text := fmt.Sprintf("message %d of %d;", n, i)
				c.stdin(1, text)
				got := ""
				for !strings.HasSuffix(got, text) {
					r, err := c.next()
					if err != nil {
						t.Errorf("connection %d, after %q: %v", i, got, err)
						return
					}
					got += r.content
				}
				if i%4 == 0 && n == 50 {
					return
				}
			}
			c.stdin(1, "")
			for {
				r, err := c.next()
				if err != nil && err != io.EOF {
					t.Error(err)
				}
				if err != nil || r.typ == typeEndRequest {
					return
				}
			}
		})
	}
	all.Wait()
	waitParked(t, s.Server, 0)
}

// TestParkedHasNoGoroutine: idle detached requests cost none.
func TestParkedHasNoGoroutine(t *testing.T) {
	s, sinks := serveEcho(t, nil)
	open := func() *speaker {
		c := s.dial(t)
		c.open(1, 0, post...)
		wait(t, "the request", sinks)
		return c
	}
	open()
	waitParked(t, s.Server, 1)
	before := runtime.NumGoroutine()
	for range 50 {
		open()
	}
	waitParked(t, s.Server, 51)
	// The goroutine that has parked one may be about to end.
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before+runtime.GOMAXPROCS(0); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines for 50 more idle requests", runtime.NumGoroutine()-before)
		}
	}
}
