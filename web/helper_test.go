package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tandem/fcgi"
	"tandem/internal/browsertest"
	"tandem/internal/servertest"
	"tandem/session"
	"tandem/web"
)

func TestMain(m *testing.M) {
	status := m.Run()
	servertest.Cleanup()
	os.Exit(status)
}

const patience = 20 * time.Second

// site is a server with one endpoint, /tandem, whose app says back what it hears, and
// whose connections can be cut.
type site struct {
	url     string
	options *session.Options
	handler atomic.Pointer[session.Handler]
	started atomic.Int32
	ends    chan session.Code // of each session, as the app saw it
	gate    *gate
}

func newSite(t *testing.T, o *session.Options) *site {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Grace == 0 {
		o.Grace = patience
	}
	s := &site{options: o, ends: make(chan session.Code, 100)}
	s.renew()
	mux := http.NewServeMux()
	mux.Handle("/tandem", web.Handler(s, web.Terminal))
	mux.Handle("/held", web.Handler(held(s), web.Terminal))
	mux.HandleFunc("/ready.txt", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("a page\n")) })
	srv := httptest.NewUnstartedServer(mux)
	s.gate = &gate{Listener: srv.Listener, conns: make(map[net.Conn]bool)}
	srv.Listener = s.gate
	srv.Start()
	s.url = srv.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.handler.Load().Shutdown(ctx)
		srv.CloseClientConnections()
		srv.Close()
	})
	return s
}

// fastCGI serves the site on a socket, too.
func (s *site) fastCGI(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &fcgi.Server{Handler: web.Handler(s, web.Terminal), Log: slog.New(slog.DiscardHandler)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return socket
}

// renew makes a server that knows no session.
func (s *site) renew() { s.handler.Store(session.NewHandler(session.AppFunc(s.echo), s.options)) }

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.Load().ServeHTTP(w, r) }

func (s *site) echo(ctx context.Context, c *session.Session) (err error) {
	s.started.Add(1)
	defer func() {
		var e *session.CloseError
		errors.As(err, &e) // else the app ended by itself, or with its input
		if e == nil {
			e = &session.CloseError{}
		}
		s.ends <- e.Code
	}()
	for {
		m, err := c.Receive(ctx)
		if err != nil || string(m.Data) == "bye" {
			return err
		}
		if err := c.Send(ctx, m); err != nil {
			return err
		}
	}
}

// ended waits for a session's end, with that code.
func (s *site) ended(t *testing.T, code session.Code) {
	t.Helper()
	select {
	case got := <-s.ends:
		if got != code {
			t.Errorf("the session ended with %d, expected %d", got, code)
		}
	case <-time.After(patience):
		t.Fatalf("the session did not end")
	}
}

// left waits for the end of the session of a tab that was closed. Firefox may end the
// tab's process before its last request has left: then the session is lost.
func (s *site) left(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	select {
	case got := <-s.ends:
		if got != 1001 && !(b.Kind == browsertest.Firefox && got == 4001) {
			t.Errorf("the session ended with %d, expected 1001", got)
		}
	case <-time.After(patience):
		t.Fatalf("the session did not end")
	}
}

// held is a proxy that holds each answer back until it is complete.
func held(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	})
}

// gate is a listener whose connections can be cut.
type gate struct {
	net.Listener
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		if g.shut {
			c.Close()
			g.mu.Unlock()
			continue
		}
		g.conns[c] = true
		g.mu.Unlock()
		return &gated{c, g}, nil
	}
}

// cut breaks all connections, and those to come until the gate opens again.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.conns {
		c.Close()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

type gated struct {
	net.Conn
	gate *gate
}

func (c *gated) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c.Conn)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// library is what the tests use in a page. until polls: a page has no event for "all
// of this has happened".
const library = `
globalThis.until = async (what, about) => {
  for (const end = Date.now() + 15000; ; ) {
    const v = await what();
    if (v) return v;
    if (Date.now() > end) throw new Error((about ?? what) + ": not in time; events: " + JSON.stringify(globalThis.t?.log) + " got " + globalThis.t?.got?.length + " state " + globalThis.t?.readyState);
    await new Promise(r => setTimeout(r, 10));
  }
};
globalThis.start = async (options, url = "/tandem") => {
  const { Tandem } = await import("/tandem?tandem.js");
  const t = globalThis.t = new Tandem(url, options);
  t.binaryType = "arraybuffer";
  t.log = []; t.got = [];
  for (const type of ["open", "lost", "resumed", "transport", "error", "close"])
    t.addEventListener(type, e => t.log.push([type, e.code ?? e.transport, e.upload ?? e.reason ?? e.message]));
  t.onmessage = e => t.got.push(e.data);
  t.has = type => t.log.some(l => l[0] == type);
  t.all = () => t.got.join();
  await until(() => t.readyState == 1, "open");
};
`

// page opens a page of the site, with the library.
func open(t *testing.T, b *browsertest.Browser, url string) *browsertest.Page {
	t.Helper()
	p := b.Open(t, url+"/ready.txt")
	prepare(t, p)
	return p
}

func prepare(t *testing.T, p *browsertest.Page) {
	t.Helper()
	p.Eval(t, "(() => {"+library+"})()", nil)
}

// expect waits until the expression is what it should be.
func expect(t *testing.T, p *browsertest.Page, js, want string) {
	t.Helper()
	var got string
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = p.TryEval("String("+js+")", &got); err == nil && got == want {
			return
		}
	}
	var log any
	p.TryEval("globalThis.t?.log", &log)
	t.Fatalf("%s is %.200q, expected %.200q (%v); events: %v", js, got, want, err, log)
}
