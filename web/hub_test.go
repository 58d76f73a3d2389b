package web_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tandem/internal/browsertest"
	"tandem/internal/config"
	"tandem/internal/hubsite"
	"tandem/session"
	"tandem/web"
)

// hubSite is a server with one hub, /hub, that can be started anew on the same database.
type hubSite struct {
	url      string
	gate     *gate
	database string
	more     string // configuration
	now      atomic.Pointer[hubNow]
}

type hubNow struct {
	http.Handler
	site     *hubsite.Site
	sessions *session.Handler
}

func newHubSite(t *testing.T, more string) *hubSite {
	t.Helper()
	s := &hubSite{database: filepath.Join(t.TempDir(), "hub.db"), more: more}
	s.start(t)
	mux := http.NewServeMux()
	h := web.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.now.Load().ServeHTTP(w, r) }), web.HubPage)
	mux.Handle("/hub", h)
	mux.Handle("/hub/", h)
	mux.HandleFunc("/ready.txt", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("a page\n")) })
	srv := httptest.NewUnstartedServer(mux)
	s.gate = &gate{Listener: srv.Listener, conns: make(map[net.Conn]bool)}
	srv.Listener = s.gate
	srv.Start()
	s.url = srv.URL
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Error(err)
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return s
}

func (s *hubSite) start(t *testing.T) {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "tandem.toml"), fmt.Sprintf("app = 'hub'\ndatabase = %q\npresence = true\n%s", s.database, s.more))
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	site, app, err := hubsite.New(c.Endpoints[0], quiet)
	if err != nil {
		t.Fatal(err)
	}
	sessions := session.NewHandler(app, &session.Options{Log: quiet, Grace: 5 * time.Second})
	s.now.Store(&hubNow{site.Handler(sessions), site, sessions})
}

// end stops the hub, which tells its sessions.
func (s *hubSite) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	now := s.now.Load()
	return errors.Join(now.site.End(ctx), now.sessions.Shutdown(ctx), now.site.Close())
}

// publish is any program of the site.
func (s *hubSite) publish(t *testing.T, topic, data, id string) {
	t.Helper()
	r, err := http.PostForm(s.url+"/hub", url.Values{"topic": {topic}, "data": {data}, "id": {id}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("publish: %s", r.Status)
	}
}

func TestHub(t *testing.T) {
	each(t, func(t *testing.T, b *browsertest.Browser) {
		for _, c := range []struct {
			name string
			test func(*testing.T, *browsertest.Browser)
		}{
			{"module", hubModule},
			{"page", hubPage},
			{"who is there", hubPresence},
			{"EventSource", hubEventSource},
			{"refused", hubRefused},
			{"restart", hubRestart},
			{"many", hubMany},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, b) })
		}
	})
}

const anyone = "publish = 'anyone'\n"

// The module alone: each promise, and nothing lost nor twice over restarts and changes.
func hubModule(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, anyone)
	s.publish(t, "a", "0", "urn:0")
	p := open(t, b, s.url)
	p.Eval(t, `Promise.all([import("/hub?tandem.js"), import("/hub?hub.js")]).then(([{ Tandem }, { Hub }]) => {
		globalThis.got = [];
		globalThis.gaps = 0;
		globalThis.hub = new Hub(() => new Tandem("/hub"), { earliest: true });
		hub.addEventListener("event", e => got.push(e.detail.data));
		hub.addEventListener("gap", () => gaps++);
		hub.addEventListener("close", e => globalThis.ended = e.detail.code);
	})`, nil)
	expect(t, p, `await hub.subscribe({ topics: ["a", "b"], patterns: ["/c/:id"] })`, "true")
	expect(t, p, `(await hub.publish({ topic: "a", data: "1", id: "urn:1" })) + got`, "urn:10,1")
	expect(t, p, `(await hub.presence("b")).length + (await hub.presence("b"))[0].matchType`, "1Exact")
	expect(t, p, `await hub.publish({ topic: "*" }).catch(e => e.name + e.code + (e.do != ""))`, "HubErrorbad-requesttrue")
	expect(t, p, `await hub.subscribe({ topics: ["d"] })`, "true")
	p.Eval(t, `hub.unsubscribe({ topics: ["b"] })`, nil)
	for i, topic := range []string{"b", "/c/1", "d", "a"} {
		s.publish(t, topic, fmt.Sprint(i+2), "")
	}
	expect(t, p, `got`, "0,1,3,4,5")

	// Requests that are made while there is no hub are answered by the next one.
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	expect(t, p, `hub.session === undefined`, "true")
	p.Eval(t, `(globalThis.left = hub.unsubscribe({ topics: ["d"] }), globalThis.late = hub.publish({ topic: "a", data: "7" }), 0)`, nil)
	s.start(t)
	s.publish(t, "a", "6", "")
	expect(t, p, `(await left, await late).startsWith("urn:uuid:") + " " + got`, "true 0,1,3,4,5,6,7")
	s.publish(t, "d", "8", "")
	s.publish(t, "/c/2", "9", "")
	expect(t, p, `got + " " + gaps`, "0,1,3,4,5,6,7,9 0")

	// One that crashed: the session is not known any more.
	s.gate.cut()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.gate.open()
	s.publish(t, "a", "10", "")
	expect(t, p, `got + " " + gaps`, "0,1,3,4,5,6,7,9,10 0")
	p.Eval(t, `hub.close()`, nil)
	expect(t, p, `ended + await hub.publish({ topic: "a" }).catch(e => e.code)`, "closedclosed")
	p.Close(t)
}

// prepareHub gives a page what the tests say.
func prepareHub(t *testing.T, p *browsertest.Page) {
	t.Helper()
	p.Eval(t, `(() => {
		globalThis.$ = id => document.getElementById(id);
		globalThis.events = () => [...document.querySelectorAll("#log .item:not([hidden])")].map(e => e.querySelector(".what").textContent).join();
		globalThis.notes = () => [...document.querySelectorAll("#log .note .what")].map(e => e.textContent).join("\n");
		globalThis.publish = (topic, data, type = "", secret = false) => { $("topic").value = topic; $("data").value = data; $("type").value = type; $("private").checked = secret; $("publish").requestSubmit(); };
		globalThis.join = (match, pattern = false) => { $("match").value = match; $("pattern").checked = pattern; $("add").requestSubmit(); };
		globalThis.read = (from, after = "") => { $("from").value = from; $("after").value = after; $("after").disabled = from != "after"; $("history").requestSubmit(); };
		globalThis.chips = () => [...document.querySelectorAll("#chips li span")].map(e => e.textContent).join();
	})()`, nil)
}

func openHub(t *testing.T, b *browsertest.Browser, url string) *browsertest.Page {
	t.Helper()
	p := b.Open(t, url)
	prepareHub(t, p)
	expect(t, p, `$("state-text").textContent + notes().includes("Subscribed")`, "opentrue")
	return p
}

// The page, as its user has it.
func hubPage(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, anyone)
	p := openHub(t, b, s.url+"/hub")
	expect(t, p, `chips()`, "*")
	p.Eval(t, `publish("news", "<b>one</b>", "alert")`, nil)
	expect(t, p, `events() + " " + document.querySelector("#log .item .type").textContent + document.querySelectorAll("#log b").length`, "<b>one</b> alert0")
	expect(t, p, `$("answer").textContent.startsWith("Stored as urn:uuid:")`, "true")
	s.publish(t, "other", "two", "urn:2")
	expect(t, p, `events()`, "<b>one</b>,two")

	// Topics and patterns, more and fewer.
	p.Eval(t, `join("news")`, nil)
	p.Eval(t, `join("/books/:id", true)`, nil)
	p.Eval(t, `join("((", true)`, nil)
	expect(t, p, `$("refused").textContent.includes("bad-request") + " " + chips()`, "true *,news,/books/:id")
	p.Eval(t, `(document.querySelector("#chips button").focus(), document.activeElement.click())`, nil)
	expect(t, p, `chips() + " " + document.activeElement.getAttribute("aria-label")`, "news,/books/:id Unsubscribe from news")
	expect(t, p, `$("who").textContent.includes("*")`, "false")
	s.publish(t, "other", "three", "urn:3")
	s.publish(t, "/books/1", "four", "urn:4")
	expect(t, p, `events()`, "<b>one</b>,two,four")

	// Filter, pause.
	p.Eval(t, `($("filter").value = "BOOKS", $("filter").dispatchEvent(new Event("input")))`, nil)
	expect(t, p, `events() + " " + $("count").textContent`, "four 1 of 3 shown")
	p.Eval(t, `($("filter").value = "", $("filter").dispatchEvent(new Event("input")), $("pause").click())`, nil)
	s.publish(t, "news", "five", "urn:5")
	expect(t, p, `$("count").textContent + " " + events()`, "3 shown, 1 wait <b>one</b>,two,four")
	p.Eval(t, `$("pause").click()`, nil)
	expect(t, p, `events()`, "<b>one</b>,two,four,five")

	// History: all, from an id, from one that isn't known; a reload shows the same.
	p.Eval(t, `read("earliest")`, nil)
	expect(t, p, `events() + " " + $("complete").textContent`, "<b>one</b>,four,five Subscribed; nothing is missing.")
	p.Eval(t, `[...document.querySelectorAll("#log .id")].at(1).click()`, nil)
	expect(t, p, `$("after").value`, "urn:4")
	p.Eval(t, `read("after", "urn:4")`, nil)
	expect(t, p, `events()`, "five")
	p.Eval(t, `setTimeout(() => location.reload())`, nil)
	expect(t, p, `typeof $ + document.readyState`, "undefinedcomplete")
	prepareHub(t, p)
	expect(t, p, `events() + " " + chips() + " " + $("complete").textContent`, "five news,/books/:id Subscribed; nothing is missing.")
	p.Eval(t, `read("after", "urn:unknown")`, nil)
	expect(t, p, `events() + " " + $("complete").className + " " + $("spoken").textContent.slice(0, 32)`, "<b>one</b>,four,five answer bad The history doesn't reach back s")

	// The connection, as in the other view.
	p.Eval(t, `$("cut").click()`, nil)
	expect(t, p, `$("state").dataset.state`, "lost")
	s.publish(t, "news", "while", "urn:6")
	p.Eval(t, `$("cut").click()`, nil)
	expect(t, p, `$("state-text").textContent + " " + events() + " " + $("transport").textContent.slice(0, 5)`, "open <b>one</b>,four,five,while split")
	expect(t, p, `performance.getEntriesByType("resource").every(e => e.name.startsWith(location.origin + "/hub")) && getComputedStyle($("chips")).display`, "flex")
	p.Close(t)
}

func hubPresence(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, anyone)
	first := openHub(t, b, s.url+"/hub#topic=news")
	second := openHub(t, b, s.url+"/hub#topic=news&topic=sport")
	for _, p := range []*browsertest.Page{first, second} {
		p.Front(t) // who isn't seen doesn't look
		expect(t, p, `$("present").textContent + " " + [...document.querySelectorAll("#who .topic")].map(e => e.textContent)`, "2 news,news,sport")
	}
	second.Close(t)
	first.Front(t)
	expect(t, first, `$("present").textContent`, "1")
	first.Close(t)
}

// The other way to the same hub.
func hubEventSource(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, anyone)
	s.publish(t, "news", "before", "urn:0")
	p := b.Open(t, s.url+"/hub#topic=news&way=eventsource&from=earliest")
	prepareHub(t, p)
	expect(t, p, `$("state-text").textContent + " " + $("transport").textContent + " " + events()`, "open EventSource before")
	p.Eval(t, `publish("news", "posted")`, nil)
	expect(t, p, `events() + " " + $("answer").textContent.slice(0, 18)`, "before,posted Stored as urn:uuid")
	expect(t, p, `$("who-note").textContent.startsWith("401: ")`, "true") // its list takes a token
	p.Eval(t, `publish("*", "no")`, nil)
	expect(t, p, `$("answer").textContent.startsWith("400: ")`, "true")
	p.Eval(t, `join("sport")`, nil)
	expect(t, p, `notes().split("EventSource: open").length`, "3")
	s.publish(t, "sport", "goal", "urn:2")
	expect(t, p, `events()`, "before,posted,goal")
	s.gate.cut()
	expect(t, p, `$("state").dataset.state`, "lost")
	s.gate.open()
	s.publish(t, "news", "after", "urn:3")
	if b.Kind == browsertest.Firefox { // it may give up
		p.Eval(t, `$("open").click()`, nil)
	}
	expect(t, p, `events()`, "before,posted,goal,after")
	p.Close(t)
}

// What is not allowed is told, with what to do.
func hubRefused(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, "")
	p := openHub(t, b, s.url+"/hub")
	p.Eval(t, `publish("news", "secret", "", true)`, nil)
	expect(t, p, `$("answer").textContent.startsWith("forbidden: ") && $("answer").textContent.includes("What to do: ") && $("answer").className`, "answer bad")
	expect(t, p, `$("data").value`, "secret")
	expect(t, p, `$("who-note").textContent.startsWith("forbidden: ")`, "true")
	p.Close(t)

	s = newHubSite(t, anyone)
	p = openHub(t, b, s.url+"/hub")
	p.Eval(t, `publish("news", "secret", "", true)`, nil)
	expect(t, p, `$("answer").textContent.startsWith("Stored")`, "true")
	p.Eval(t, `publish("news", "public")`, nil)
	expect(t, p, `events()`, "public") // nobody without a token has the private one
	p.Close(t)
}

func hubRestart(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, anyone)
	p := openHub(t, b, s.url+"/hub#topic=news")
	s.publish(t, "news", "one", "urn:1")
	expect(t, p, `events()`, "one")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	expect(t, p, `$("state-text").textContent != "open"`, "true")
	s.start(t)
	s.publish(t, "news", "two", "urn:2")
	expect(t, p, `events() + " " + $("state-text").textContent + " " + $("complete").textContent`, "one,two open Subscribed; nothing is missing.")
	p.Close(t)
}

// A flood leaves a list that is bounded, and a page that answers.
func hubMany(t *testing.T, b *browsertest.Browser) {
	s := newHubSite(t, anyone)
	now := s.now.Load()
	for i := range 3000 {
		r := httptest.NewRequest("POST", "/hub", strings.NewReader(url.Values{"topic": {"flood"}, "data": {fmt.Sprint(i)}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		if now.ServeHTTP(w, r); w.Code != 200 {
			t.Fatal(w.Body)
		}
	}
	p := b.Open(t, s.url+"/hub#topic=flood&from=earliest")
	prepareHub(t, p)
	expect(t, p, `$("got").textContent + " " + $("log").childElementCount + " " + events().split(",").at(-1)`, "3000 1000 2999")
	expect(t, p, `$("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 40`, "true")
	p.Close(t)
}
