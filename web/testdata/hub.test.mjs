// What hub.js does with answers that a good hub seldom gives. Sessions are stand-ins that the test speaks for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Hub } from "../hub.js";

// The waits between sessions are short here.
const { setTimeout: start } = globalThis;
globalThis.setTimeout = (f, ms, ...args) => start(f, ms / 100, ...args);

/** A Session has what it was sent, and says what the test has it say. */
class Session extends EventTarget {
  readyState = 1;
  sent = [];
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  say(m) { this.dispatchEvent(Object.assign(new Event("message"), { data: typeof m === "string" ? m : JSON.stringify(m) })); }
  over(code, more) {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason: "", ...more }));
  }
  /** answer answers the nth request. */
  answer(n, m) { this.say({ ref: this.sent[n].ref, ...m }); }
  event(id) { this.say({ event: { id, topic: "a", data: id } }); }
}

/** opened is a hub, its sessions, and the next one as a promise. */
function opened(options) {
  const sessions = [];
  let tell;
  const h = { sessions, next: () => new Promise((r) => (tell = r)) };
  h.hub = new Hub(() => {
    const s = new Session();
    sessions.push(s);
    tell?.(s);
    return s;
  }, options);
  h.events = [];
  for (const type of ["event", "gap", "close"]) h.hub.addEventListener(type, (e) => h.events.push(type + " " + (e.detail?.id ?? e.detail?.code ?? "")));
  return h;
}

const subscribed = (subscription, recovered = true) => ({ subscribed: { subscription, recovered } });

test("a new session subscribes to all at once, behind the last event, and has what waits for an answer", async () => {
  const { hub, sessions: [first], next } = opened({ after: "0" });
  const a = hub.subscribe({ topics: ["a"] }), b = hub.subscribe({ patterns: ["/b"] });
  assert.deepEqual(first.sent.map((m) => m.subscribe), [{ topics: ["a"], patterns: [], after: "0" }, { topics: [], patterns: ["/b"] }]);
  first.answer(0, subscribed(1));
  first.answer(1, subscribed(2));
  assert.deepEqual([await a, await b], [true, true]);
  first.event("1");
  const published = hub.publish({ topic: "a" }), late = hub.subscribe({ topics: ["c"] });
  const second = next();
  first.over(1012, { retry: 10 });
  const s = await second;
  first.event("2"); // too late
  await new Promise((r) => setTimeout(r));
  assert.deepEqual(s.sent.map((m) => m.subscribe ?? m.publish.topic), [{ topics: ["a"], patterns: ["/b"], after: "1" }, "a", { topics: ["c"], patterns: [] }]);
  assert.equal(s.sent[1].publish.id, first.sent[2].publish.id);
  s.answer(0, subscribed(1));
  s.answer(1, { published: { id: "x" } });
  s.answer(2, subscribed(2, false));
  assert.deepEqual([await published, await late, hub.lastId], ["x", false, "1"]);
  hub.close();
});

test("what is refused is told, and the next subscribe has the history", async () => {
  const { hub, sessions: [s], events } = opened({ earliest: true });
  const bad = hub.subscribe({ patterns: ["(("] });
  s.answer(0, { error: { code: "bad-request", text: "no", do: "correct it" } });
  await assert.rejects(bad, { name: "HubError", code: "bad-request", message: "no", do: "correct it" });
  const never = assert.rejects(hub.subscribe({ topics: ["a"] }), { code: "closed" });
  assert.equal(s.sent[1].subscribe.earliest, true);
  s.say({ gap: true });
  const late = assert.rejects(hub.presence(), { code: "closed" });
  hub.close();
  await Promise.all([late, never]);
  assert.deepEqual(events, ["gap ", "close closed"]);
});

test("a subscription that ends goes on in another session; without an event to go on behind, a gap is told", async () => {
  const { hub, sessions: [s], next, events } = opened();
  const a = hub.subscribe({ topics: ["a"] });
  s.answer(0, subscribed(1));
  await a;
  const second = next();
  s.answer(0, { error: { code: "unavailable", text: "disk", do: "wait" } });
  assert.equal(s.readyState, 3);
  const t = await second;
  assert.deepEqual(t.sent[0].subscribe, { topics: ["a"], patterns: [] });
  const third = next();
  t.answer(0, { error: { code: "unavailable", text: "disk", do: "wait" } }); // still
  const u = await third;
  assert.deepEqual(u.sent[0].subscribe, { topics: ["a"], patterns: [] });
  u.answer(0, { error: { code: "forbidden", text: "no more", do: "ask" } });
  await new Promise((r) => setTimeout(r));
  assert.deepEqual(events, ["gap ", "gap ", "close forbidden"]);
});

test("the new subscription is there before the old one goes", async () => {
  const { hub, sessions: [s] } = opened();
  const a = hub.subscribe({ topics: ["a", "b"] });
  s.answer(0, subscribed(1));
  await a;
  const left = hub.unsubscribe({ topics: ["b"] });
  await new Promise((r) => setTimeout(r));
  assert.deepEqual(s.sent[1].subscribe, { topics: ["a"], patterns: [] });
  s.answer(1, subscribed(2));
  await new Promise((r) => setTimeout(r));
  assert.equal(s.sent[2].unsubscribe, 1);
  s.answer(2, { unsubscribed: 1 });
  await left;
  hub.close();
});

test("an end that no new session can help is final", async () => {
  for (const end of [(s) => s.over(1008, { reason: "no token" }), (s) => s.say("hello")]) {
    const { hub, sessions: [s], events } = opened();
    const a = assert.rejects(hub.subscribe({ topics: ["a"] }), { name: "HubError" });
    end(s);
    await a;
    await assert.rejects(hub.publish({ topic: "a" }), { code: "closed" });
    assert.match(events[0], /^close (1008|no-hub)$/);
  }
});
