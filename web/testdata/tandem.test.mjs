// What tandem.js does with answers that a good server seldom gives. The server is a
// function in place of fetch, so the tests say when each answer comes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tandem } from "../tandem.js";

// No test waits for the long timers, so nor does the process at its end.
const { setTimeout: start } = globalThis;
globalThis.setTimeout = (f, ms, ...args) => (ms > 1000 ? start(f, ms, ...args).unref() : start(f, ms, ...args));

/** A Server is what the client asks. Requests wait in order until the test takes them. */
class Server {
  waiting = [];
  takers = [];
  fetch = (url, init) =>
    new Promise((resolve, reject) => {
      const r = { url, ...init, resolve, reject, frames: (typeof init.body === "string" ? init.body : "").split("\n").filter(Boolean).map((l) => JSON.parse(l)) };
      init.signal?.addEventListener("abort", () => reject(init.signal.reason));
      const take = this.takers.shift();
      if (take) take(r);
      else this.waiting.push(r);
    });
  /** next is the next request, with that method. */
  async next(method) {
    const r = this.waiting.shift() ?? (await new Promise((resolve) => this.takers.push(resolve)));
    if (method) assert.equal(r.method, method);
    return r;
  }
  /** stream answers with frames, and what is written later. */
  stream(request, ...frames) {
    let out;
    const body = new ReadableStream({ start: (c) => void (out = c) });
    request.signal?.addEventListener("abort", () => { try { out.error(request.signal.reason); } catch {} });
    const write = (...frames) => { for (const f of frames) out.enqueue(new TextEncoder().encode(typeof f === "string" ? f : JSON.stringify(f) + "\n")); };
    write(...frames);
    request.resolve(new Response(body, { headers: { "Content-Type": "application/x-ndjson" } }));
    return { write, end: () => out.close() };
  }
  /** acks answers a batch. */
  ack(request, received, status = 200) {
    request.resolve(new Response(JSON.stringify({ type: "ack", received, window: 65536, messages: 64 }) + "\n", { status, headers: { "Content-Type": "application/x-ndjson" } }));
  }
  refuse(request, status, headers = {}) {
    request.resolve(new Response(JSON.stringify({ status, detail: "because" }), { status, headers: { "Content-Type": "application/problem+json", ...headers } }));
  }
  open(more) {
    return { type: "open", version: 1, session: "o.1", transport: "split", heartbeat: 15000, window: 65536, messages: 64, grace: 30000, ...more };
  }
}

function client(options) {
  const server = new Server();
  const t = new Tandem("http://server.example/e", { upload: "batch", heartbeat: 0, fetch: server.fetch, ...options });
  t.binaryType = "arraybuffer";
  const events = [];
  for (const type of ["open", "message", "lost", "resumed", "error", "close"]) {
    t.addEventListener(type, (e) => events.push([type, e.code ?? e.data ?? e.reason ?? e.message].filter((x) => x !== undefined).join(" ")));
  }
  const until = (what) => new Promise((resolve) => {
    const look = () => events.some((e) => e.startsWith(what)) && resolve();
    for (const type of ["open", "message", "lost", "resumed", "error", "close"]) t.addEventListener(type, look);
    look();
  });
  return { server, t, events, until };
}

/** opened is a client whose session is open, and its receive half; its first ping is answered. */
async function opened(options, frame) {
  const c = client(options);
  c.opening = await c.server.next("POST");
  c.half = c.server.stream(c.opening, c.server.open(frame));
  if (options && "upload" in options) c.description = await c.server.next("GET");
  const ping = await c.server.next("POST");
  assert.equal(ping.frames.at(-1).type, "ping");
  c.half.write({ type: "pong", nonce: ping.frames.at(-1).nonce });
  c.server.ack(ping, 0);
  await c.until("open");
  return c;
}

const messages = (request) => request.frames.filter((f) => f.type === "message").map((f) => `${f.seq} ${f.data}`).join();

test("an opening that fails is made again under the same key, with a higher attempt", async () => {
  const { server, t, events, until } = client();
  t.send("early");
  const first = await server.next("POST");
  assert.match(first.headers["Tandem-Open"], /^[A-Za-z0-9_-]{22,64}$/);
  assert.equal(first.headers["Tandem-Attempt"], undefined);
  assert.equal(first.frames[0].type, "open");
  server.refuse(first, 503, { "Retry-After": "0.01" });
  const second = await server.next("POST");
  assert.equal(second.headers["Tandem-Open"], first.headers["Tandem-Open"]);
  assert.ok(Number(second.headers["Tandem-Attempt"]) > 0);
  assert.equal(messages(second), "1 early");
  server.stream(second, server.open());
  await until("open");
  assert.deepEqual(events, ["error the server answered 503: because", "open"]);
  t.close();
});

test("a refusal is final", async () => {
  for (const status of [400, 401, 403, 404, 405, 501]) {
    const { server, t, events, until } = client();
    t.send("x");
    server.refuse(await server.next("POST"), status);
    await until("close");
    assert.deepEqual(events, [`error the server answered ${status}: because`, "close 1006"]);
    assert.deepEqual(t.unacked, ["x"]);
    assert.equal(server.waiting.length, 0);
  }
});

test("a batch whose answer is lost is sent again", async () => {
  const { server, t } = await opened();
  t.send("a");
  const first = await server.next("POST");
  first.reject(new TypeError("cut"));
  t.send("b");
  const second = await server.next("POST");
  assert.equal(messages(second), "1 a,2 b");
  assert.ok(Number(second.headers["Tandem-Attempt"]) > Number(first.headers["Tandem-Attempt"]));
  assert.equal(t.bufferedAmount, 2);
  server.ack(second, 1);
  t.send("c");
  const third = await server.next("POST");
  assert.equal(messages(third), "3 c");
  assert.deepEqual(t.unacked, ["b", "c"]);
  server.ack(third, 3);
  t.close();
  const close = await server.next("POST");
  assert.deepEqual(t.unacked, []);
  assert.equal(close.frames.at(-1).type, "close");
});

test("409 and 413 go on after what the ack says", async () => {
  for (const status of [409, 413]) {
    const { server, t } = await opened();
    for (const m of "abc") t.send(m);
    server.ack(await server.next("POST"), 1, status);
    const again = await server.next("POST");
    assert.equal(messages(again), "2 b,3 c");
    server.ack(again, 3);
    t.close();
  }
});

test("an ack on the receive half counts where the answer was lost", async () => {
  const { server, t, half } = await opened();
  t.send("a");
  const lost = await server.next("POST");
  half.write({ type: "ack", received: 1, window: 65536, messages: 64 }, { type: "message", seq: 1, data: "x" });
  await new Promise((r) => (t.onmessage = r));
  lost.reject(new TypeError("cut"));
  t.close();
  const next = await server.next("POST");
  assert.deepEqual(next.frames.map((f) => f.type), ["ack", "close"]);
});

test("no more is sent than the window allows", async () => {
  const { server, t } = await opened();
  for (let i = 1; i <= 100; i++) t.send("m");
  const first = await server.next("POST");
  assert.equal(first.frames.length, 64);
  server.ack(first, 10);
  const second = await server.next("POST");
  assert.equal(messages(second).split(",").length, 10);
  server.ack(second, 74);
  const third = await server.next("POST");
  assert.equal(messages(third).split(",").at(-1), "100 m");
  server.ack(third, 100);
  t.send("x".repeat(70000)); // five fragments of 16 KiB, of which three fit
  const fourth = await server.next("POST");
  assert.deepEqual(fourth.frames.map((f) => [f.seq, f.data.length, f.more]), [[101, 16384, true], [102, 16384, true], [103, 16384, true]]);
  server.ack(fourth, 103);
  assert.equal((await server.next("POST")).frames.length, 2);
  t.close();
});

test("what was taken is acked at half of the window", async () => {
  const { server, half, t } = await opened();
  for (let i = 1; i <= 511; i++) half.write({ type: "message", seq: i, data: "m" });
  await new Promise((r) => setTimeout(r));
  assert.equal(server.waiting.length, 0);
  half.write({ type: "message", seq: 512, data: "m" });
  assert.deepEqual((await server.next("POST")).frames, [{ type: "ack", received: 512, window: 262144, messages: 1024 }]);
  t.close();
});

test("a connection that is cut is resumed after what was received", async () => {
  const { server, half, events, until, t } = await opened();
  half.write({ type: "message", seq: 1, data: "one" }, { type: "message", seq: 2, data: "tw", more: true });
  await until("message");
  half.end();
  const again = await server.next("GET");
  assert.equal(again.headers["Tandem-Session"], "o.1");
  assert.equal(again.headers["Tandem-After"], "2");
  server.stream(again, server.open(), { type: "message", seq: 2, data: "tw", more: true }, { type: "message", seq: 3, data: "o" });
  await until("message two");
  assert.deepEqual(events, ["open", "message one", "lost the response ended without a close: the connection was cut", "resumed", "message two"]);
  t.close();
});

test("a session that is gone tells what was not acked", async () => {
  const { server, half, events, until, t } = await opened();
  t.send("a");
  t.send(new Uint8Array([1, 2]));
  (await server.next("POST")).reject(new TypeError("cut"));
  half.end();
  server.refuse(await server.next(), 410);
  await until("close");
  assert.equal(events.at(-1), "close 4001");
  assert.deepEqual(t.unacked, ["a", new Uint8Array([1, 2])]);
  t.send("more");
  await assert.rejects(t.ping(), { name: "TandemError", code: 4001 });
  await assert.rejects((async () => { for await (const m of t) assert.fail(m); })(), { code: 4001 });
});

test("a session without a grace time ends with its connection", async () => {
  const { half, events, until } = await opened({}, { grace: 0 });
  half.end();
  await until("close");
  assert.equal(events.at(-1), "close 4001");
});

test("silence is a lost connection", async () => {
  const { server, events, until, t } = await opened({}, { heartbeat: 20 });
  await until("lost");
  const again = await server.next("GET");
  server.stream(again, server.open({ heartbeat: 15000 }));
  await until("resumed");
  assert.match(events[1], /nothing came for 50 ms/);
  t.close();
});

test("a server's ping is answered, its wish to wait is followed", async () => {
  const { server, half, t } = await opened();
  half.write({ type: "ping", nonce: 7 });
  const pong = await server.next("POST");
  assert.deepEqual(pong.frames, [{ type: "pong", nonce: 7 }]);
  server.ack(pong, 0);
  const from = performance.now();
  half.write({ type: "detach", code: 1000, retry_ms: 50 });
  await server.next("GET");
  assert.ok(performance.now() - from > 45);
  t.close();
});

test("a session that another request took over, and one with a gap, is over", async () => {
  const a = await opened();
  a.half.write({ type: "detach", code: 4004 });
  await a.until("close");
  assert.equal(a.events.at(-1), "close 4004");
  const b = await opened();
  b.half.write({ type: "message", seq: 2, data: "x" });
  await b.until("close");
  assert.equal(b.events.at(-1), "close 1002");
  const c = await opened();
  c.half.end();
  c.server.stream(await c.server.next("GET"), c.server.open({ session: "o.2" }));
  await c.until("close");
  assert.equal(c.events.at(-1), "close 1002");
});

test("the server's end is answered, and tells when to come back", async () => {
  const { server, half, until, t } = await opened();
  const closed = new Promise((r) => (t.onclose = r));
  half.write({ type: "message", seq: 1, data: "last" }, { type: "close", seq: 1, code: 1012, reason: "restart", retry_ms: 1000 });
  const e = await closed;
  assert.deepEqual([e.code, e.reason, e.wasClean, e.retry], [1012, "restart", true, 1000]);
  await until("message last");
  const answer = await server.next("POST");
  assert.equal(answer.frames[0].type, "close");
});

test("a close that can't get through while messages wait is tried again", async () => {
  const { server, t, until } = await opened();
  t.send("last");
  t.close(3001, "done");
  assert.equal(t.readyState, Tandem.CLOSING);
  const first = await server.next("POST");
  assert.deepEqual(first.frames.map((f) => f.type), ["message", "close"]);
  first.reject(new TypeError("cut"));
  const second = await server.next("POST");
  assert.deepEqual(second.frames.map((f) => f.type), ["message", "close"]);
  server.ack(second, 1);
  await until("close 3001");
  assert.deepEqual(t.unacked, []);
});

test("a page that goes away sends what there is room for, and the close", async () => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  try {
    const { server, t } = await opened();
    for (let i = 0; i < 100; i++) t.send("m");
    await server.next("POST"); // on its way, and never answered
    page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: false }));
    const last = await server.next("POST");
    assert.equal(last.keepalive, true);
    assert.deepEqual(last.frames.map((f) => f.type), [...Array(64).fill("message"), "close"]);
    assert.equal(last.frames[0].seq, 1);
  } finally {
    delete globalThis.addEventListener;
  }
});

test("Blobs keep their place", async () => {
  const { server, t } = await opened();
  t.send("a");
  t.send(new Blob(["b"]));
  t.send("c");
  const sent = [];
  while (sent.length < 3) {
    const r = await server.next("POST");
    sent.push(...r.frames.filter((f) => f.type === "message").map((f) => f.data ?? atob(f.data64)));
    server.ack(r, sent.length);
  }
  assert.equal(sent.join(""), "abc");
  t.close();
});

test("what a long upload carried and was not acked is sent again when it breaks", async () => {
  const { server, half, t, description } = await opened({ upload: undefined });
  assert.equal(description.headers.Accept, "application/json");
  description.resolve(Response.json({ streamed_upload: true }));
  const upload = await server.next("POST");
  assert.equal(upload.duplex, "half");
  const reader = upload.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const read = async (what) => {
    while (!text.includes(what)) text += (await reader.read()).value;
    return text;
  };
  const nonce = Number(/"ping","nonce":(\d+)\}\n$/.exec(await read("ping"))[1]);
  half.write(...Array.from({ length: nonce }, (_, i) => ({ type: "pong", nonce: i + 1 })));
  await new Promise((r) => (t.ontransport = r));
  assert.equal(t.upload, "stream");
  for (const m of "abc") t.send(m);
  await read('"data":"c"');
  half.write({ type: "ack", received: 1, window: 65536, messages: 64 });
  await new Promise((r) => setTimeout(r));
  upload.reject(new TypeError("cut"));
  const next = await server.next("POST"); // a stream again: this one had worked
  const second = next.body.pipeThrough(new TextDecoderStream()).getReader();
  let sent = "";
  while (!sent.includes('"data":"c"')) sent += (await second.read()).value;
  assert.deepEqual(sent.match(/"data":"."/g), ['"data":"b"', '"data":"c"']);
  t.close();
});

/** locks is Web Locks, as far as tabs that share a session need them. */
function locks() {
  const queue = [];
  let held;
  const grant = async (q) => {
    const mine = (held = { reject: undefined });
    const stolen = new Promise((_, reject) => (mine.reject = reject));
    try {
      q.resolve(await Promise.race([q.act({}), stolen]));
    } catch (e) {
      q.reject(e);
    }
    if (held !== mine) return;
    held = undefined;
    if (queue.length) grant(queue.shift());
  };
  return {
    request: (name, options, act) => new Promise((resolve, reject) => {
      const q = { act, resolve, reject };
      if (held && options.steal) held.reject(new DOMException("stolen", "AbortError"));
      if (!held || options.steal) return grant(q);
      if (options.ifAvailable) return resolve(act(null));
      queue.push(q);
      options.signal?.addEventListener("abort", () => {
        if (queue.includes(q)) queue.splice(queue.indexOf(q), 1);
        reject(options.signal.reason);
      });
    }),
  };
}

test("a tab's message counts once, however often the leader is told; the next leader goes on", async () => {
  globalThis.navigator ??= {};
  Object.defineProperty(globalThis.navigator, "locks", { value: locks(), configurable: true });
  const wire = new BroadcastChannel("tandem http://server.example/e room");
  try {
    const leader = await opened({ shared: "room" });
    const follower = client({ shared: "room" });
    await follower.until("open");
    assert.deepEqual([leader.t.role, follower.t.role], ["leader", "follower"]);
    wire.onmessage = (e) => e.data.type === "send" && wire.postMessage(e.data);
    const told = new Promise((r) => wire.addEventListener("message", (e) => e.data.type === "send" && e.data.n === 2 && r()));
    follower.t.send("a");
    follower.t.send("b");
    leader.t.send("c");
    await told;
    const got = [];
    while (got.length < 3) {
      const r = await leader.server.next("POST");
      got.push(...r.frames.filter((f) => f.type === "message"));
      leader.server.ack(r, 0);
    }
    await new Promise((r) => setTimeout(r, 50));
    assert.equal(leader.server.waiting.length, 0);
    assert.deepEqual(got.map((f) => f.seq), [1, 2, 3]);
    assert.equal(got.map((f) => f.data).filter((d) => d !== "c").join(""), "ab");
    leader.half.write({ type: "message", seq: 1, data: "to all" });
    await Promise.all([leader.until("message to all"), follower.until("message to all")]);

    // The leader leaves; the next one has what was not acked, and higher attempts.
    const before = leader.t.unacked.length;
    leader.t.close();
    const get = await follower.server.next("GET");
    assert.equal(get.headers["Tandem-Session"], "o.1");
    assert.equal(get.headers["Tandem-After"], "1");
    assert.ok(Number(get.headers["Tandem-Attempt"]) > 2 ** 32);
    const half = follower.server.stream(get, follower.server.open());
    const again = await follower.server.next("POST");
    assert.deepEqual(again.frames.filter((f) => f.type === "message").map((f) => [f.seq, f.data]), got.map((f) => [f.seq, f.data]));
    assert.equal(before, 1);
    follower.server.ack(again, 3);
    half.write({ type: "close", seq: 1, code: 1000 });
    await follower.until("close 1000");
    assert.deepEqual(follower.t.unacked, []);
  } finally {
    wire.close();
    delete globalThis.navigator.locks;
  }
});

test("while the browser is offline, nothing is tried; when it is back, at once", async () => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  globalThis.navigator ??= {};
  Object.defineProperty(globalThis.navigator, "onLine", { value: false, configurable: true, writable: true });
  try {
    const { server, half, t, until } = await opened();
    half.end();
    await until("lost");
    await new Promise((r) => setTimeout(r, 300)); // else there were several attempts by now
    assert.equal(server.waiting.length, 0);
    globalThis.navigator.onLine = true;
    page.dispatchEvent(new Event("online"));
    server.stream(await server.next("GET"), server.open());
    await until("resumed");
    const over = assert.rejects(t.ping(), { name: "TandemError" });
    t.close();
    const batch = await server.next("POST");
    server.ack(batch, 0);
    await over;
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
    delete globalThis.navigator.onLine;
  }
});

test("what is wrong in a call is told", async () => {
  assert.throws(() => new Tandem("ftp://server.example/"), { name: "SyntaxError" });
  const { t, events } = client();
  assert.throws(() => t.close(1001), { name: "InvalidAccessError" });
  t.close();
  assert.deepEqual(events, ["close 1006"]);
});
