// Package browsertest drives real browsers, for tests.
//
// Start with [Start]:
//
//	b := browsertest.Start(t, browsertest.Firefox)
//	page := b.Open(t, url)
//	page.Eval(t, `document.title`, &title)
//
// A browser runs without a window, with a profile of its own in a temporary folder, and
// is gone at the end, also if the test process dies. It trusts any certificate.
//
// Chromium is spoken to in the DevTools protocol, Firefox in WebDriver BiDi: both
// are JSON over a WebSocket, and a page is told what to do in JavaScript, so little
// of either is needed.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tandem/internal/servertest"
)

// Kind is a browser.
type Kind string

// The browsers.
const (
	Chromium Kind = "chromium"
	Firefox  Kind = "firefox"
)

// Kinds are all browsers.
var Kinds = []Kind{Chromium, Firefox}

// patience bounds each step of a browser. They start slowly on a busy machine.
const patience = 30 * time.Second

// Browser is a running browser.
type Browser struct {
	Kind    Kind
	dialect dialect
	proc    *servertest.Process
}

// dialect is what the two protocols do in different ways.
type dialect interface {
	open(ctx context.Context) (tab string, err error)
	navigate(ctx context.Context, tab, url string) error
	// eval returns the value of an expression that is a promise of a string.
	eval(ctx context.Context, tab, js string) (string, error)
	front(ctx context.Context, tab string) error
	close(ctx context.Context, tab string) error
	screenshot(ctx context.Context, tab string, width, height int, dark bool) ([]byte, error)
}

// Start starts a browser that ends with the test. One that isn't installed or
// doesn't start fails the test.
func Start(t testing.TB, kind Kind) *Browser {
	t.Helper()
	f := flavours[kind]
	path, err := exec.LookPath(f.command)
	if err != nil {
		t.Fatalf("%s is not installed: scripts/setup --install", f.command)
	}
	profile, err := os.MkdirTemp("", "tandem-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(profile); err != nil {
			t.Error(err)
		}
	})
	b := &Browser{Kind: kind}
	b.proc, err = servertest.StartProcess(servertest.Command{
		Args:   append([]string{path}, f.args(profile)...),
		Dir:    profile,
		Env:    []string{"HOME=" + profile},
		Output: filepath.Join(profile, "output.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s printed:\n%s", kind, b.proc.Log())
		}
		b.proc.Kill() // its profile is thrown away
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url, err := awaitAddress(ctx, b.proc, f, profile)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.close)
	if b.dialect, err = f.dialect(ctx, conn); err != nil {
		t.Fatal(err)
	}
	return b
}

// awaitAddress polls for the file in which a browser tells where it listens.
func awaitAddress(ctx context.Context, p *servertest.Process, f *flavour, profile string) (string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(filepath.Join(profile, f.file)); err == nil {
			if url := f.address(string(text)); url != "" {
				return url, nil
			}
		}
		select {
		case <-p.Done():
			return "", fmt.Errorf("browsertest: %s ended instead of starting: %v", f.command, p.Err())
		case <-ctx.Done():
			return "", fmt.Errorf("browsertest: %s did not say where it listens within %v", f.command, patience)
		case <-tick.C:
		}
	}
}

// Page is a tab. Its methods fail the test when the browser doesn't do it in time.
type Page struct {
	browser *Browser
	tab     string
}

// Open opens url in a new tab and waits until it is loaded.
func (b *Browser) Open(t testing.TB, url string) *Page {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tab, err := b.dialect.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &Page{b, tab}
	p.Navigate(t, url)
	return p
}

// Navigate goes to url and waits until it is loaded.
func (p *Page) Navigate(t testing.TB, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.browser.dialect.navigate(ctx, p.tab, url); err != nil {
		t.Fatal(err)
	}
	p.Eval(t, `new Promise(done => document.readyState == "complete" ? done() : addEventListener("load", () => done()))`, nil)
}

// Front shows the tab: one behind another is hidden, as its document can tell.
func (p *Page) Front(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.browser.dialect.front(ctx, p.tab); err != nil {
		t.Fatal(err)
	}
}

// Close closes the tab, as a user would.
func (p *Page) Close(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.browser.dialect.close(ctx, p.tab); err != nil {
		t.Fatal(err)
	}
}

// Eval evaluates a JavaScript expression, which may await; its value goes through JSON
// into out, if that is not nil.
func (p *Page) Eval(t testing.TB, js string, out any) {
	t.Helper()
	if err := p.TryEval(js, out); err != nil {
		t.Fatalf("%v, in: %s", err, js)
	}
}

// TryEval is [Page.Eval] for what may fail, as the page may be going away.
func (p *Page) TryEval(js string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, err := p.browser.dialect.eval(ctx, p.tab, "(async () => JSON.stringify(await ("+js+")) ?? 'null')()")
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

// Screenshot is a PNG of the page as a window of that size shows it.
func (p *Page) Screenshot(t testing.TB, width, height int, dark bool) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	png, err := p.browser.dialect.screenshot(ctx, p.tab, width, height, dark)
	if err != nil {
		t.Fatal(err)
	}
	return png
}
