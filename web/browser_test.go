package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tandem/internal/browsertest"
	"tandem/internal/servertest"
	"tandem/session"
)

// each runs a test in every browser.
func each(t *testing.T, test func(t *testing.T, b *browsertest.Browser)) {
	for _, kind := range browsertest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, browsertest.Start(t, kind))
		})
	}
}

func TestBrowsers(t *testing.T) {
	each(t, func(t *testing.T, b *browsertest.Browser) {
		for _, c := range []struct {
			name string
			test func(*testing.T, *browsertest.Browser)
		}{
			{"both ways", bothWays},
			{"iteration", iteration},
			{"ends", ends},
			{"reload and leave", leave},
			{"back and forth", backAndForth},
			{"cut", cut},
			{"restart", restart},
			{"held back", heldBack},
			{"HTTP/2", http2},
			{"page", page},
			{"shared", shared},
			{"frozen", frozen},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, b) })
		}
	})
}

func bothWays(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `t.send("\ufeffäöü €😀\ud800"), t.send(new Uint8Array([0, 255, 7]).subarray(1)), t.send(new Blob(["blob"])), t.send(""), t.send("x".repeat(100000) + "é"), t.send(new Uint8Array(50000).fill(9))`, nil)
	p.Eval(t, `until(() => t.got.length == 6)`, nil)
	expect(t, p, `[t.got[0] == "\ufeffäöü €😀\ufffd", new Uint8Array(t.got[1]), new TextDecoder().decode(t.got[2]), t.got[3], t.got[4] == "x".repeat(100000) + "é", t.got[5].byteLength, new Uint8Array(t.got[5]).every(b => b == 9)].join()`,
		"true,255,7,blob,,true,50000,true")
	p.Eval(t, `(t.got = [], [...Array(3000).keys()].forEach(i => t.send("m" + i)))`, nil)
	p.Eval(t, `until(() => t.got.length == 3000)`, nil)
	expect(t, p, `t.got.every((m, i) => m == "m" + i)`, "true")
	expect(t, p, `t.bufferedAmount`, "0")
	expect(t, p, `t.transport + t.upload + t.role`, "splitbatchalone")
	p.Eval(t, `t.ping().then(ms => { if (!(ms > 0 && ms < 5000)) throw new Error("round trip " + ms) })`, nil)
	p.Eval(t, `t.close(4321, "enough")`, nil)
	expect(t, p, `t.log.at(-1)`, "close,4321,enough")
	s.ended(t, 4321)
	p.Close(t)
}

// While messages wait in an iteration the server is held back.
func iteration(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `(async () => {
		const it = t[Symbol.asyncIterator]();
		for (let i = 0; i < 100; i++) t.send(String(i).padEnd(10000));
		await until(() => t.got.length > 20);
		for (let last = -1; last != t.got.length; await new Promise(r => setTimeout(r, 200))) last = t.got.length;
		globalThis.waiting = t.got.length;
		for (let i = 0; i < 100; i++) { const { value } = await it.next(); if (parseInt(value) != i) throw new Error("expected " + i + ", got " + value.trim()); }
		t.send("bye");
		const { done } = await it.next();
		if (!done) throw new Error("expected the end");
	})()`, nil)
	var waiting int
	p.Eval(t, `waiting`, &waiting)
	if waiting < 20 || waiting > 30 { // 256 KiB hold 26 of them
		t.Errorf("%d messages came before one was taken, expected 26", waiting)
	}
	p.Close(t)
}

func ends(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `(t.send("last"), t.end())`, nil)
	expect(t, p, `t.log.at(-1) + t.got`, "close,1000,last")
	s.ended(t, 0)

	p.Eval(t, `start()`, nil)
	p.Eval(t, `t.send("bye")`, nil)
	expect(t, p, `t.log.at(-1) + t.got`, "close,1000,")
	s.ended(t, 0)

	p.Eval(t, `(start({}, "/ready.txt").catch(() => {}), 0)`, nil)
	expect(t, p, `t.log.at(-1).slice(0, 2)`, "close,1006")
	p.Close(t)
}

// A page that goes away ends its session.
func leave(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{Grace: 5 * time.Second})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `setTimeout(() => location.reload())`, nil)
	s.ended(t, session.Code(1001))
	expect(t, p, `document.readyState + typeof t`, "completeundefined")
	prepare(t, p)
	p.Eval(t, `start()`, nil)
	p.Close(t)
	s.left(t, b)
}

// A page that the browser keeps goes on with its session when the user comes back.
func backAndForth(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `addEventListener("pagehide", e => t.kept = e.persisted)`, nil)
	p.Navigate(t, s.url+"/ready.txt?other")
	if b.Kind == browsertest.Firefox { // it keeps no page that has a request open
		s.ended(t, session.Code(1001))
		p.Close(t)
		return
	}
	p.Eval(t, `setTimeout(() => history.back())`, nil)
	expect(t, p, `typeof t == "object" && t.kept`, "true")
	p.Eval(t, `t.send("still")`, nil)
	expect(t, p, `t.got`, "still")
	if n := s.started.Load(); n != 1 {
		t.Errorf("%d sessions, expected 1", n)
	}
	p.Close(t)
	s.left(t, b)
}

func cut(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `t.send("before")`, nil)
	expect(t, p, `t.got`, "before")
	s.gate.cut()
	p.Eval(t, `(t.send("while"), until(() => t.has("lost")))`, nil)
	p.Eval(t, `new Promise(r => setTimeout(r, 1500))`, nil)
	expect(t, p, `t.got.length + " " + t.unacked.at(-1) + " " + t.readyState`, "1 while 1")
	s.gate.open()
	expect(t, p, `t.got`, "before,while")
	expect(t, p, `t.has("resumed")`, "true")

	// Many times, under load.
	p.Eval(t, `(t.got = [], globalThis.n = 0, globalThis.timer = setInterval(() => { for (let i = 0; i < 5; i++) t.send("" + n++) }, 5))`, nil)
	for range 10 {
		p.Eval(t, `(() => { const n = t.got.length; return until(() => t.got.length > n + 20) })()`, nil)
		s.gate.cut()
		s.gate.open()
	}
	p.Eval(t, `clearInterval(timer)`, nil)
	p.Eval(t, `until(() => t.got.length >= n)`, nil)
	expect(t, p, `t.got.length == n && t.got.every((m, i) => m == i)`, "true")
	if n := s.started.Load(); n != 1 {
		t.Errorf("%d sessions, expected 1", n)
	}
	p.Eval(t, `t.close(3000)`, nil)
	s.ended(t, 3000)
	expect(t, p, `t.log.at(-1)[1]`, "3000")
	p.Close(t)
}

func restart(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start()`, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.handler.Load().Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, p, `t.log.at(-1)[1]`, "1012")

	// One that crashes does not tell; the next one has no such session.
	s.renew()
	p.Eval(t, `start()`, nil)
	s.gate.cut()
	p.Eval(t, `(t.send("lost"), until(() => t.has("lost")))`, nil)
	s.renew()
	s.gate.open()
	expect(t, p, `t.log.at(-1)[1] + " " + t.unacked`, "4001 lost")
	p.Close(t)
}

// Over HTTP/2 what is sent may travel in one request.
func http2(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	nginx := servertest.Start(t, servertest.Nginx, servertest.Config{Socket: s.fastCGI(t), TLS: true})
	p := open(t, b, nginx.TLSURL)
	p.Eval(t, `start()`, nil)
	p.Eval(t, `(t.send("one"), until(() => t.got == "one"))`, nil)
	upload := "stream"
	if b.Kind == browsertest.Firefox { // it can't
		upload = "batch"
	}
	expect(t, p, `t.upload`, upload)
	p.Eval(t, `(t.got = [], [...Array(3000).keys()].forEach(i => t.send("m" + i)))`, nil)
	p.Eval(t, `until(() => t.got.length == 3000)`, nil)
	expect(t, p, `t.got.every((m, i) => m == "m" + i)`, "true")
	p.Eval(t, `(t.got = [], t.send(new Uint8Array(500000).fill(7)), until(() => t.got.length))`, nil)
	expect(t, p, `t.got[0].byteLength + " " + new Uint8Array(t.got[0]).every(b => b == 7)`, "500000 true")
	expect(t, p, `performance.getEntriesByName(t.url).map(e => e.nextHopProtocol).find(h => h)`, "h2")
	p.Eval(t, `(t.send("bye"), until(() => t.readyState == 3))`, nil)
	expect(t, p, `t.log.at(-1)[1]`, "1000")

	// Requests are cut, of either half, at any moment.
	p.Eval(t, `(globalThis.requests = new Set(), start({ fetch: (url, init) => {
		const stop = new AbortController();
		init.signal?.addEventListener("abort", () => stop.abort());
		requests.add(stop);
		return fetch(url, { ...init, signal: stop.signal });
	} }))`, nil)
	expect(t, p, `t.upload`, upload)
	p.Eval(t, `(globalThis.n = 0, globalThis.timer = setInterval(() => { for (let i = 0; i < 5; i++) t.send("" + n++) }, 5))`, nil)
	for i := range 6 {
		p.Eval(t, `(() => { const n = t.got.length; return until(() => t.got.length > n + 20) })()`, nil)
		p.Eval(t, fmt.Sprintf(`(() => { const all = [...requests]; for (const r of %d ? all.slice(-1) : all) r.abort(); })()`, i%2), nil)
	}
	p.Eval(t, `(clearInterval(timer), until(() => t.got.length >= n))`, nil)
	expect(t, p, `t.got.length == n && t.got.every((m, i) => m == i)`, "true")
	p.Eval(t, `(t.got = [], t.send("last"), t.close(3000))`, nil)
	expect(t, p, `t.log.filter(l => l[0] == "close").join() + t.got`, "close,3000,")
	s.ended(t, 0)
	s.ended(t, 3000)
	p.Close(t)
}

// Where answers are held back, poll carries the session; the browser remembers.
func heldBack(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	p := open(t, b, s.url)
	p.Eval(t, `start({}, "/held")`, nil)
	p.Eval(t, `t.send("one")`, nil)
	expect(t, p, `t.transport + t.got`, "pollone")
	if n := s.started.Load(); n != 1 {
		t.Errorf("%d sessions, expected 1", n)
	}
	p.Eval(t, `t.close()`, nil)
	expect(t, p, `t.readyState`, "3")
	var ms float64
	p.Eval(t, `(async () => { const from = performance.now(); await start({}, "/held"); return performance.now() - from })()`, &ms)
	if ms > 2000 {
		t.Errorf("opened in %.0f ms, expected that poll is remembered", ms)
	}
	expect(t, p, `t.transport`, "poll")
	p.Eval(t, `localStorage.clear()`, nil)
	p.Close(t)
}

// The demo page, as its user has it.
func page(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{Grace: 5 * time.Second})
	p := b.Open(t, s.url+"/tandem")
	p.Eval(t, `(() => {
		globalThis.$ = id => document.getElementById(id);
		globalThis.say = text => { $("text").value = text; $("prompt").requestSubmit(); };
		globalThis.lines = kind => [...document.querySelectorAll("#log ." + kind + " .what")].map(e => e.textContent).join();
	})()`, nil)
	expect(t, p, `$("state-text").textContent + " " + document.activeElement.id`, "open text")
	p.Eval(t, `say("hello")`, nil)
	expect(t, p, `lines("out") + " " + lines("in")`, "hello hello")
	p.Eval(t, `$("cut").click()`, nil)
	expect(t, p, `$("state").dataset.state`, "lost")
	p.Eval(t, `say("while")`, nil)
	expect(t, p, `lines("waits") + " " + $("waiting").textContent`, "while 1 line")
	p.Eval(t, `$("cut").click()`, nil)
	expect(t, p, `lines("waits") + " " + lines("in") + " " + $("spoken").textContent`, " hello,while The session goes on. Nothing was lost.")
	expect(t, p, `$("rtt").textContent.endsWith(" ms") && $("line").getAttribute("d") != ""`, "true")
	p.Eval(t, `$("burst").click()`, nil)
	expect(t, p, `$("sent").textContent + " " + $("got").textContent`, "102 102")
	p.Eval(t, `$("close").click()`, nil)
	s.ended(t, 1000)
	expect(t, p, `$("state-text").textContent + $("close").disabled`, "closedtrue")
	p.Eval(t, `($("choice").value = "poll", $("open").click())`, nil)
	expect(t, p, `$("state-text").textContent + " " + $("transport").textContent.slice(0, 4)`, "open poll")

	// Its files came, all from here.
	expect(t, p, `getComputedStyle(document.body).display + (document.querySelector("h1 img").naturalWidth > 0)`, "flextrue")
	expect(t, p, `performance.getEntriesByType("resource").every(e => e.name.startsWith(location.href))`, "true")
	p.Close(t)
	s.left(t, b)
}

// All tabs have one session; when the one that carries it is closed, another goes on.
func shared(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{Grace: 5 * time.Second})
	var tabs []*browsertest.Page
	for i := range 3 {
		p := open(t, b, s.url)
		p.Eval(t, `start({shared: "x"})`, nil)
		role := "follower"
		if i == 0 {
			role = "leader"
		}
		expect(t, p, `t.role`, role)
		tabs = append(tabs, p)
	}
	if n := s.started.Load(); n != 1 {
		t.Fatalf("%d sessions, expected 1", n)
	}
	for i, p := range tabs {
		p.Eval(t, fmt.Sprintf(`t.send("from %d")`, i), nil)
		for _, q := range tabs {
			expect(t, q, fmt.Sprintf(`t.got.includes("from %d")`, i), "true")
		}
	}
	tabs[1].Eval(t, `t.ping()`, nil)

	// The leader is closed while the others send: each has ten messages on the way, and
	// sends one more for each that comes back.
	for i, p := range tabs[1:] {
		p.Eval(t, fmt.Sprintf(`(() => {
			const own = globalThis.own = [];
			globalThis.n = 0;
			globalThis.more = true;
			const send = () => t.send("%[1]d " + n++);
			t.addEventListener("message", e => { if (e.data.startsWith("%[1]d ")) { own.push(e.data); if (more) send(); } });
			for (let i = 0; i < 10; i++) send();
		})()`, i+1), nil)
	}
	expect(t, tabs[1], `own.length > 100`, "true")
	tabs[0].Close(t)
	for i, p := range tabs[1:] {
		var n int
		p.Eval(t, `n`, &n)
		expect(t, p, fmt.Sprintf(`n > %d`, n+200), "true")
		p.Eval(t, `more = false`, nil)
		expect(t, p, `own.length == n`, "true")
		expect(t, p, fmt.Sprintf(`own.every((m, k) => m == "%d " + k)`, i+1), "true")
		for _, q := range tabs[1:] { // each tab has every message once
			expect(t, q, fmt.Sprintf(`t.got.filter(m => m.startsWith("%d ")).length >= 300`, i+1), "true")
			expect(t, q, fmt.Sprintf(`t.got.filter(m => m.startsWith("%d ")).every((m, k) => m == "%d " + k)`, i+1, i+1), "true")
		}
	}
	if n := s.started.Load(); n != 1 {
		t.Errorf("%d sessions, expected 1", n)
	}
	tabs[1].Eval(t, `t.close()`, nil)
	tabs[2].Eval(t, `t.send("alone")`, nil)
	expect(t, tabs[2], `t.got.includes("alone")`, "true")
	tabs[1].Close(t)
	tabs[2].Close(t)
	s.left(t, b)
}

// A leader that does not answer is replaced, and finds out when it wakes.
func frozen(t *testing.T, b *browsertest.Browser) {
	s := newSite(t, &session.Options{})
	first := open(t, b, s.url)
	first.Eval(t, `start({shared: "y"})`, nil)
	second := open(t, b, s.url)
	second.Eval(t, `start({shared: "y"})`, nil)
	first.Eval(t, `setTimeout(() => { for (const end = Date.now() + 8000; Date.now() < end; ); t.send("awake") })`, nil)
	second.Eval(t, `t.send("asleep")`, nil)
	expect(t, second, `t.role`, "leader")
	expect(t, second, `t.got`, "asleep,awake")
	expect(t, first, `t.role + t.got`, "followerasleep,awake")
	if n := s.started.Load(); n != 1 {
		t.Errorf("%d sessions, expected 1", n)
	}
	first.Close(t)
	second.Close(t)
}

// Behind each web server, on each way that leads to Tandem there, with the shipped
// configuration and the real program: the client comes from the endpoint, and talks.
func TestServers(t *testing.T) {
	t.Parallel()
	// The hub's heartbeat: Apache finds out by what it writes that an EventSource has gone.
	const endpoint = "app = \"echo\"\npage = true\n"
	td := servertest.StartTandem(t, "[endpoint.e]\npath = \"/tandem\"\n"+endpoint+
		"[endpoint.hub]\npath = \"/tandem/hub\"\napp = \"hub\"\npage = true\npublish = \"anyone\"\npresence = true\nheartbeat = \"200ms\"\ndatabase = \"$DIR/hub.db\"\n")
	config := filepath.Join(td.Dir, "cgi.toml")
	if err := os.WriteFile(config, []byte(endpoint), 0o644); err != nil {
		t.Fatal(err)
	}
	b := browsertest.Start(t, browsertest.Chromium)
	for _, kind := range servertest.Kinds {
		srv := servertest.Start(t, kind, servertest.Config{Socket: td.Socket, Binary: servertest.Binary(t), TandemConfig: config})
		urls := []string{srv.FastCGI()}
		if kind != servertest.Nginx {
			urls = append(urls, srv.CGI())
		}
		if kind == servertest.Apache {
			urls = append(urls, srv.Fcgid())
		}
		for _, url := range urls {
			p := b.Open(t, url)
			expect(t, p, `document.getElementById("state-text").textContent`, "open")
			prepare(t, p)
			p.Eval(t, `import(location.pathname + "?tandem.js").then(m => {
				t = new m.Tandem(location.pathname);
				t.got = [];
				t.onmessage = e => t.got.push(e.data);
				for (let i = 0; i < 500; i++) t.send("m" + i);
			})`, nil)
			expect(t, p, `t.got.length == 500 && t.got.every((m, i) => m == "m" + i) && t.transport`, "split")
			p.Eval(t, `(t.close(3000), until(() => t.readyState == 3))`, nil)
			p.Close(t)
		}
		for _, way := range []string{"", "eventsource"} {
			p := b.Open(t, srv.FastCGI()+"/hub#topic="+string(kind)+"&way="+way)
			prepareHub(t, p)
			expect(t, p, `$("state-text").textContent`, "open")
			p.Eval(t, fmt.Sprintf(`publish(%q, "by way of %s")`, kind, way), nil)
			expect(t, p, `events()`, "by way of "+way)
			p.Close(t)
		}
	}
}
