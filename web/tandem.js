// Tandem in the browser: a two-way message session over ordinary HTTP, with the
// interface of WebSocket. One ES module, no dependencies; docs/browser.md is the
// guide, docs/protocol.md the wire.
//
// Link is what a session is, whoever carries it; Carrier the requests that carry it;
// Group the tabs that share one; Tandem what a page sees of them.

/** @typedef {import("./tandem.js").TandemOptions} Options */
/** @typedef {{seq: number, cost: number, line: string, tab: string, n: number}} Fragment */
/** @typedef {{type: string, [field: string]: any}} Frame */
/** @typedef {{code: number, reason: string}} Close */
/** @typedef {{body: string, last: number, control: string[], due: {bytes: number, messages: number}, end: boolean, close?: Close}} Batch */

const MEDIA = "application/x-ndjson";
const FRAGMENT = 16384; // most bytes of data in one frame
const OVERHEAD = 32; // what a fragment counts for beside its data
const WINDOW = 262144; // what the server may have sent and we not taken: bytes,
const MESSAGES = 1024; // and fragments
const BUDGET = 5000; // ms: an answer that streams has begun by then, or is held back
const WAIT = 20; // s: how long a poll may wait for something to come
const POST_TIME = 15000; // ms for the answer to one batch
const LONGEST = 5000; // ms: the longest pause between attempts
const OFFLINE = 30000; // ms: ... while the browser says that it is offline
const LINGER = 30000; // ms: how long a close tries to get through
const MEMORY = 1800000; // ms: how long a transport that failed is not tried again

const NORMAL = 1000, AWAY = 1001, PROTOCOL = 1002, ABNORMAL = 1006, LOST = 4001, REPLACED = 4004;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const scratch = new Uint8Array(FRAGMENT);

/** token is 130 random bits. */
const token = () => Array.from(crypto.getRandomValues(new Uint8Array(26)), (b) => (b & 31).toString(32)).join("");
const now = () => performance.now();
/** @param {number} nonce */
const pingLine = (nonce) => `{"type":"ping","nonce":${nonce}}\n`;

/** bytesOf is base64 decoded.
 * @param {string} text
 * @returns {Uint8Array} */
const bytesOf = (text) => /** @type {any} */ (Uint8Array).fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** base64 is bytes encoded.
 * @param {Uint8Array} bytes
 * @returns {string} */
const base64 = (bytes) => /** @type {any} */ (bytes).toBase64?.() ?? btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));

/** canStream: whether this browser sends a body that is still being written. */
const canStream = (() => {
  try {
    const init = /** @type {RequestInit} */ ({ method: "POST", body: new ReadableStream(), duplex: "half" });
    return !new Request("http://localhost/", init).headers.has("content-type"); // else it was made a string
  } catch {
    return false;
  }
})();

/** A Failure is why a request did not do what it was for. */
class Failure extends Error {
  /** final: trying again won't help. held: something keeps the answer back. after: ms that the server asks for.
   * @param {string} message
   * @param {{final?: boolean, held?: boolean, status?: number, code?: number, after?: number}} [more] */
  constructor(message, more) {
    super(message);
    this.name = "TandemError";
    /** @type {boolean | undefined} */ this.final = undefined;
    /** @type {boolean | undefined} */ this.held = undefined;
    /** @type {number | undefined} */ this.status = undefined;
    /** @type {number | undefined} */ this.code = undefined;
    /** @type {number | undefined} */ this.after = undefined;
    Object.assign(this, more);
  }
}

/** refused makes a Failure of an answer.
 * @param {Response} r */
async function refused(r) {
  const { detail } = await r.json().catch(() => ({}));
  const again = [408, 409, 425, 429].includes(r.status) || (r.status >= 500 && r.status !== 501);
  const after = Number(r.headers.get("Retry-After")) * 1000 || undefined;
  return new Failure(`the server answered ${r.status}${detail ? ": " + detail : ""}`, { status: r.status, final: !again, after });
}

/** lines reads a body as it comes.
 * @param {Response} r
 * @param {() => void} heard
 * @param {boolean} [final] another kind of answer is final */
async function* lines(r, heard, final) {
  const type = r.headers.get("Content-Type") ?? "nothing";
  if (!type.startsWith(MEDIA) || !r.body) throw new Failure(`expected ${MEDIA}, got ${type}: is this a Tandem endpoint?`, { final });
  const reader = r.body.getReader();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const all = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = /** @type {string} */ (all.pop());
    for (const line of all) if (line) yield /** @type {Frame} */ (JSON.parse(line));
  }
}

/** memory is what is known of an origin for a while. Storage may be forbidden or full: then this page remembers. */
const memory = {
  /** @type {Map<string, number>} */ page: new Map(),
  /** @param {string} url
   * @param {string} what */
  has(url, what) {
    const key = `tandem ${what} ${new URL(url).origin}`;
    let until = this.page.get(key) ?? 0;
    try {
      until = Number(localStorage.getItem(key)) || until;
    } catch {}
    return until > Date.now();
  },
  /** @param {string} url
   * @param {string} what */
  keep(url, what) {
    const key = `tandem ${what} ${new URL(url).origin}`;
    this.page.set(key, Date.now() + MEMORY);
    try {
      localStorage.setItem(key, String(Date.now() + MEMORY));
    } catch {}
  },
};

/** A Link is a session's state: what was sent and not acked, what was received. It is plain data, so that
 * tabs which share a session can tell each other. All fragments of a message get their seqs at once. */
class Link {
  key = token(); // finds the session again while its id is not known
  id = "";
  grace = 0; // ms
  heartbeat = 0; // ms, the server's promise
  transport = "";
  attempt = 0;

  /** @type {Fragment[]} */ out = [];
  seq = 0;
  acked = 0;
  room = { bytes: 65536, messages: 64 }; // what may be un-acked
  /** @type {Record<string, number>} */ last = {}; // the last message of each tab
  ended = false;

  received = 0;
  /** @type {(string | Uint8Array)[]} */ parts = []; // of the message that is coming in

  /** put cuts a message into fragments.
   * @param {string | Uint8Array} data
   * @param {string} tab
   * @param {number} n */
  put(data, tab, n) {
    let rest = data;
    do {
      let field, size;
      if (typeof rest === "string") {
        const { read, written } = /** @type {{read: number, written: number}} */ (encoder.encodeInto(rest, scratch)); // never splits a character
        field = `"data":${JSON.stringify(rest.slice(0, read))}`;
        size = written;
        rest = rest.slice(read);
      } else {
        field = `"data64":"${base64(rest.subarray(0, FRAGMENT))}"`;
        size = Math.min(rest.length, FRAGMENT);
        rest = rest.subarray(FRAGMENT);
      }
      const line = `{"type":"message","seq":${++this.seq},${field}${rest.length ? ',"more":true' : ""}}\n`;
      this.out.push({ seq: this.seq, cost: size + OVERHEAD, line, tab, n });
    } while (rest.length);
    this.last[tab] = n;
    return this.seq;
  }

  /** ack forgets what the server's app has taken.
   * @param {Frame} f */
  ack(f) {
    this.room = { bytes: f.window, messages: f.messages };
    this.acked = Math.max(this.acked, f.received);
    const keep = this.out.findIndex((o) => o.seq > this.acked);
    this.out.splice(0, keep < 0 ? this.out.length : keep);
  }

  /** take returns a message when f is its last fragment.
   * @param {Frame} f
   * @returns {string | Uint8Array | undefined} */
  take(f) {
    this.received = f.seq;
    this.parts.push(f.data64 === undefined ? f.data ?? "" : bytesOf(f.data64));
    if (f.more) return;
    const parts = this.parts;
    this.parts = [];
    if (typeof parts[0] === "string") return parts.join("");
    const bytes = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
    let at = 0;
    for (const p of /** @type {Uint8Array[]} */ (parts)) {
      bytes.set(p, at);
      at += p.length;
    }
    return bytes;
  }
}

/** A Carrier makes the requests that carry a session: one that receives, and one at a time that sends.
 * It is for one life of its page: a page that comes back makes another one. */
class Carrier {
  taken = 0; // what the page has taken,
  due = { bytes: 0, messages: 0 }; // and the server not been told
  sent = 0; // up to here the server has it
  upload = ""; // "batch" or "stream"

  /** @type {string[]} */ #control = [];
  /** @type {Map<number, {start: number, resolve: (ms: number) => void, reject: (e: Error) => void}>} */ #pings = new Map();
  #nonce = 0;
  /** @type {any} */ #pongTimer;
  /** @type {any} */ #watchTimer;
  /** @type {any} */ #beatTimer;
  /** @type {any} */ #lingerTimer;
  #heard = 0;
  #stopped = false;
  #lost = false;
  #worked = false; // the present request brought more than a greeting
  /** @type {Record<string, string>} */ #headers = {};
  /** @type {AbortController | undefined} */ #receiving;
  /** @type {AbortController | undefined} */ #posting;
  /** @type {{write(text: string): void, end(): void} | undefined} */ #stream;
  #mayStream = false;
  #asked = false;
  #busy = false;
  #ended = false; // the end or the close was sent
  #fallback = false; // split was held back: try poll
  /** @type {Close | undefined} */ #closing;
  /** @type {Set<() => void>} */ #sleepers = new Set();

  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    this.link = host.link;
    this.taken = this.link.received;
    this.sent = this.link.acked;
    this.#receive();
    this.wake();
  }

  stop() {
    this.#stopped = true;
    for (const t of [this.#pongTimer, this.#watchTimer, this.#beatTimer, this.#lingerTimer]) clearTimeout(t);
    this.#receiving?.abort();
    this.#posting?.abort();
    this.#stream?.end();
    this.#hurry();
    for (const ping of this.#pings.values()) ping.reject(new Failure("the session, or this tab's part in it, has ended"));
  }

  /** ping measures a round trip through the session, in ms.
   * @returns {Promise<number>} */
  ping() {
    return new Promise((resolve, reject) => {
      this.#pings.set(++this.#nonce, { start: now(), resolve, reject });
      this.#control.push(pingLine(this.#nonce));
      this.wake();
    });
  }

  /** #probe is a ping whose answer alone matters. */
  #probe() {
    return this.ping().then(() => true, () => false);
  }

  /** check finds out soon whether the path still works: after a sleep, in another network. */
  check() {
    this.#hurry();
    if (this.link.id && !this.#lost && !this.#pings.size) this.#probe();
  }

  /** close ends the session after what was sent.
   * @param {number} code
   * @param {string} reason */
  close(code, reason) {
    this.#closing = { code, reason };
    this.#lingerTimer = setTimeout(() => this.host.gone(LOST, "the close did not get through", false), LINGER);
    this.wake();
  }

  /** leave ends the session while the page goes away: one request that outlives it. */
  leave() {
    if (this.link.id) {
      const close = this.#closeLine(AWAY, "the page went away");
      let { bytes, messages } = this.link.room; // beyond it the request would be refused, with its close
      const fit = this.link.out.filter((f) => (bytes -= f.cost) >= 0 && --messages >= 0);
      const all = fit.map((f) => f.line).join("") + close;
      this.#fetch("POST", this.#named(), all.length < 60000 ? all : close, undefined, { keepalive: true }).catch(() => {});
    }
    this.stop();
  }

  /** wake sends what there is to send. */
  wake() {
    if (!this.#busy && !this.#stopped && this.link.id) {
      this.#busy = true;
      queueMicrotask(() => this.#send()); // what is sent in one go leaves in one request
    }
  }

  // ---- requests

  /** #fetch makes a request at once.
   * @param {string} method
   * @param {Record<string, string>} headers
   * @param {BodyInit | undefined} body
   * @param {AbortSignal} [signal]
   * @param {object} [more] */
  #fetch(method, headers, body, signal, more) {
    const { url, options } = this.host;
    const type = /** @type {Record<string, string>} */ (body ? { "Content-Type": MEDIA } : {});
    return (options.fetch ?? fetch)(url, {
      method, body, signal, cache: "no-store", credentials: options.credentials ?? "same-origin",
      headers: { Accept: MEDIA, ...this.#headers, ...type, ...headers }, ...more,
    });
  }

  /**
   * @param {string} method
   * @param {() => Record<string, string>} headers
   * @param {BodyInit | undefined} body
   * @param {AbortSignal} [signal]
   * @param {object} [more] */
  async #request(method, headers, body, signal, more) {
    const { headers: own } = this.host.options;
    this.#headers = { ...(typeof own === "function" ? await own() : own) };
    return this.#fetch(method, headers(), body, signal, more);
  }

  /** #named are the headers of a request within the session. */
  #named(transport = this.link.transport) {
    return { "Tandem-Session": this.link.id, "Tandem-Attempt": String(++this.link.attempt), "Tandem-Transport": transport };
  }

  /** #pause waits, at most a random part of ms where the server did not say how long.
   * @param {number} failures
   * @param {number} [after] */
  #pause(failures, after) {
    const offline = globalThis.navigator?.onLine === false;
    const ms = offline ? OFFLINE : after ?? Math.random() * Math.min(LONGEST, failures && 100 * 2 ** failures);
    return /** @type {Promise<void>} */ (new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      const sleepers = this.#sleepers;
      function done() {
        clearTimeout(timer);
        sleepers.delete(done);
        resolve();
      }
      sleepers.add(done);
      if (this.#stopped) done();
    }));
  }

  #hurry() {
    for (const wake of [...this.#sleepers]) wake();
  }

  // ---- the receive half

  async #receive() {
    for (let failures = 0; !this.#stopped; ) {
      const transport = this.#choose();
      this.#worked = false;
      try {
        const detach = await this.#attach(transport);
        if (this.#stopped) return;
        failures = 0;
        if (detach.code === REPLACED && !this.host.shared) throw new Failure("another request took the session over", { final: true, code: REPLACED });
        if (detach.code === REPLACED) await this.#pause(3);
        if (detach.retry_ms) await this.#pause(0, detach.retry_ms);
        if (transport === "poll") this.#held(false, transport);
      } catch (e) {
        if (this.#stopped) return;
        const f = e instanceof Failure ? e : new Failure(String(/** @type {any} */ (e).message ?? e));
        if (this.#give(f)) return;
        if (this.#worked) failures = 0;
        if (!this.#lost && this.link.id) this.host.event("lost", { reason: f.message });
        else if (!this.link.id) this.host.event("error", { error: f, message: f.message });
        this.#lost = !!this.link.id;
        if (!this.#held(f.held, transport)) await this.#pause(failures++, f.after);
      }
    }
  }

  /** #give ends the session where it can't go on.
   * @param {Failure} f */
  #give(f) {
    const { link, host } = this;
    if (f.status === 410 && link.id) host.gone(LOST, "the server does not have the session any more", false);
    else if (f.final && !this.#fallback) host.gone(f.code ?? (link.id ? LOST : ABNORMAL), f.message, false, f);
    else if (link.id && !link.grace) host.gone(LOST, `${f.message}, and this endpoint's sessions can't be resumed`, false, f);
    else return false;
    return true;
  }

  #choose() {
    const { url, options } = this.host;
    return options.transport ?? (this.#fallback || memory.has(url, "poll") ? "poll" : "split");
  }

  /** #held notes how a transport did, and tells whether another one is to be tried at once.
   * @param {boolean | undefined} held
   * @param {string} transport */
  #held(held, transport) {
    if (this.host.options.transport) return false;
    if (transport === "poll") {
      if (this.#fallback && !held) memory.keep(this.host.url, "poll");
      this.#fallback = false;
      return false;
    }
    return (this.#fallback = !!held);
  }

  /** #attach makes one request of the receive half and reads its answer, which ends with a detach.
   * @param {string} transport
   * @returns {Promise<Frame>} */
  async #attach(transport) {
    const { link, host } = this;
    const stop = (this.#receiving = new AbortController());
    const poll = transport === "poll";
    const budget = poll ? (link.id ? WAIT * 1000 : BUDGET) + BUDGET : BUDGET;
    const timer = setTimeout(() => stop.abort(new Failure(`nothing came for ${budget} ms`, { held: !poll })), budget);
    /** @type {Batch | undefined} */ let batch;
    try {
      let response;
      if (link.id) {
        /** @type {Record<string, string>} */ const more = { "Tandem-After": String(link.received) };
        if (poll) more.Prefer = `wait=${WAIT}`;
        response = await this.#request("GET", () => ({ ...this.#named(transport), ...more }), undefined, stop.signal);
      } else {
        batch = this.#batch();
        const open = { type: "open", version: 1, transport, heartbeat: host.beat, window: WINDOW, messages: MESSAGES };
        /** @type {Record<string, string>} */ const more = { "Tandem-Open": link.key, "Tandem-Transport": transport };
        if (link.attempt++) more["Tandem-Attempt"] = String(link.attempt);
        response = await this.#request("POST", () => more, JSON.stringify(open) + "\n" + (batch?.body ?? ""), stop.signal);
      }
      if (!response.ok) throw await refused(response);
      for await (const f of lines(response, () => (this.#heard = now()), !link.id)) {
        if (f.type === "open") {
          if (!poll) clearTimeout(timer);
          this.#opened(f, transport, batch);
        } else if (f.type === "detach") return f;
        else this.#frame(f);
        if (this.#stopped) return f;
      }
      throw new Failure("the response ended without a close: the connection was cut");
    } catch (e) {
      throw stop.signal.aborted ? stop.signal.reason : e;
    } finally {
      for (const t of [timer, this.#watchTimer, this.#pongTimer]) clearTimeout(t);
      stop.abort();
    }
  }

  /**
   * @param {Frame} f
   * @param {string} transport
   * @param {Batch | undefined} batch what came with the opening request */
  #opened(f, transport, batch) {
    const { link, host } = this;
    if (f.version !== 1 || (link.id && f.session !== link.id)) throw new Failure("the server answered with another session or version", { final: true, code: PROTOCOL });
    if (batch) this.#confirm(batch);
    const other = link.transport !== transport;
    host.frame({ ...f, transport });
    if (this.#stopped) return;
    if (this.#lost) {
      this.#posting?.abort(); // it may hang in the connection that was lost
      this.#stream?.end();
      host.event("resumed", {});
    }
    this.#lost = false;
    if (other || !this.upload) this.#use("batch");
    for (const nonce of this.#pings.keys()) this.#control.push(pingLine(nonce)); // their pongs may be lost
    if (transport === "split") {
      this.#watch();
      if (!this.#pings.size) this.#probe(); // an answer that is held back after its first bytes shows here
      this.#askUpload();
    }
    this.#beat();
    this.wake();
  }

  /** #use tells the page how messages go.
   * @param {string} upload */
  #use(upload) {
    this.upload = upload;
    this.host.event("transport", { transport: this.link.transport, upload });
  }

  /** @param {Frame} f */
  #frame(f) {
    this.#worked ||= f.type === "message" || f.type === "pong";
    if (f.type === "ping") {
      this.#control.push(`{"type":"pong","nonce":${f.nonce ?? 0}}\n`);
      this.wake();
    } else if (f.type === "pong") {
      const ping = this.#pings.get(f.nonce);
      this.#pings.delete(f.nonce);
      ping?.resolve(now() - ping.start);
      clearTimeout(this.#pongTimer);
    } else if (f.type === "close") {
      this.#fetch("POST", this.#named(), this.#closeLine(f.code, ""), undefined, { keepalive: true }).catch(() => {}); // so the server need not keep the end
      this.host.frame(f);
    } else this.host.frame(f);
  }

  /** #watch finds the silence of a server that promised heartbeats. A timer that came late says nothing:
   * the page slept, and what came meanwhile is read first. */
  #watch() {
    clearTimeout(this.#watchTimer);
    const limit = this.link.heartbeat * 2.5;
    if (!limit || this.#stopped) return;
    const due = this.#heard + limit;
    this.#watchTimer = setTimeout(() => {
      if (now() - this.#heard < limit) return this.#watch();
      if (now() - due > 1000) {
        this.#heard = now() - limit + 1000;
        return this.#watch();
      }
      this.#receiving?.abort(new Failure(`nothing came for ${Math.round(limit)} ms, the server's heartbeat is ${this.link.heartbeat} ms`));
    }, due - now());
  }

  /** #awaitPong gives up the way on which a ping was lost. */
  #awaitPong() {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = setTimeout(() => {
      if (!this.#pings.size) return;
      if (this.#stream) return this.#stream.end();
      this.#receiving?.abort(new Failure(`a ping was not answered within ${BUDGET} ms`, { held: true }));
    }, BUDGET);
  }

  /** #beat keeps the promise of a heartbeat. */
  #beat() {
    clearTimeout(this.#beatTimer);
    if (this.host.beat && !this.#stopped) {
      this.#beatTimer = setTimeout(() => (this.#stream ? this.#probe() : (this.#control.push("\n"), this.wake())), this.host.beat);
    }
  }

  // ---- the send half

  /** took says that the page has taken what came up to seq.
   * @param {number} seq
   * @param {number} bytes
   * @param {number} messages */
  took(seq, bytes, messages) {
    this.taken = seq;
    this.due.bytes += bytes;
    this.due.messages += messages;
    if (this.#ackDue()) this.wake();
  }

  #ackDue() {
    return this.due.bytes >= WINDOW / 2 || this.due.messages >= MESSAGES / 2;
  }

  /**
   * @param {number} code
   * @param {string} reason */
  #closeLine(code, reason) {
    return JSON.stringify({ type: "close", seq: this.link.seq, code, reason }) + "\n";
  }

  /** #batch is what can be sent now, undefined if there is nothing.
   * @returns {Batch | undefined} */
  #batch() {
    const { link } = this;
    const control = this.#control;
    let { bytes, messages } = link.room;
    let last = (this.sent = Math.max(this.sent, link.acked)), body = ""; // an ack may come where an answer was lost
    for (const f of link.out) {
      bytes -= f.cost;
      if (bytes < 0 || --messages < 0) break;
      if (f.seq <= this.sent) continue;
      body += f.line;
      last = f.seq;
    }
    const all = last === link.seq;
    const end = all && link.ended && !this.#closing && !this.#ended;
    if (end) body += `{"type":"end","seq":${link.seq}}\n`;
    const close = all && !this.#ended ? this.#closing : undefined;
    if (close) body += this.#closeLine(close.code, close.reason);
    if (!body && !control.length && !this.#ackDue()) return;
    this.#control = [];
    const ack = this.due.messages ? `{"type":"ack","received":${this.taken},"window":${WINDOW},"messages":${MESSAGES}}\n` : "";
    const due = this.due;
    this.due = { bytes: 0, messages: 0 };
    return { body: ack + control.join("") + body, last, control, due, end, close };
  }

  /** #confirm: the server has it.
   * @param {Batch} b */
  #confirm(b) {
    this.sent = Math.max(this.sent, b.last);
    this.#ended ||= b.end || !!b.close;
    if (b.control.some((line) => line.includes('"ping"'))) this.#awaitPong();
  }

  async #send() {
    for (let failures = 0; !this.#stopped && this.link.id; ) {
      if (this.#mayStream && !this.#stream) this.#startStream();
      const batch = this.#batch();
      if (!batch) break;
      this.#beat();
      if (this.#stream) {
        this.#stream.write(batch.body);
        this.#confirm(batch); // so far; when the stream breaks, what is not acked is sent again
        continue;
      }
      try {
        await this.#post(batch.body);
        failures = 0;
        this.#confirm(batch);
        if (batch.close) this.host.gone(batch.close.code, batch.close.reason, true);
      } catch (e) {
        this.#control.unshift(...batch.control);
        this.due.bytes += batch.due.bytes;
        this.due.messages += batch.due.messages;
        if (this.#stopped || (e instanceof Failure && (e.final || e.status === 410) && this.#give(e))) return;
        await this.#pause(failures++, /** @type {any} */ (e).after);
      }
    }
    this.#busy = false;
  }

  /** #post sends a batch and reads the answer's ack.
   * @param {string} body */
  async #post(body) {
    const stop = (this.#posting = new AbortController());
    const timer = setTimeout(() => stop.abort(), POST_TIME);
    try {
      const r = await this.#request("POST", () => this.#named(), body, stop.signal);
      if (r.ok || r.headers.get("Content-Type")?.startsWith(MEDIA)) {
        for await (const f of lines(r, () => {})) if (f.type === "ack") this.host.frame(f);
      }
      if (r.ok) return;
      this.sent = this.link.acked; // 409: a frame is missing there; 413: no room for all. What it has already it drops
      throw r.status === 413 ? new Failure("the server has no room yet") : await refused(r);
    } finally {
      clearTimeout(timer);
      this.#posting = undefined;
    }
  }

  /** #askUpload finds out whether one long request may carry what is sent. */
  async #askUpload() {
    const { url, options } = this.host;
    if (this.#asked || !canStream || options.upload === "batch" || memory.has(url, "batch")) return;
    this.#asked = true;
    try {
      const r = await this.#request("GET", () => ({ Accept: "application/json" }), undefined);
      if (!(await r.json()).streamed_upload) return;
      await new Promise((resolve) => setTimeout(resolve)); // the entry comes after the answer
      const hop = /** @type {any} */ (performance.getEntriesByName(url, "resource").at(-1))?.nextHopProtocol;
      if (hop?.startsWith("http/")) return; // below HTTP/2 browsers refuse to
      this.#mayStream = true;
      this.#probe(); // it tells whether the stream gets through
    } catch {}
  }

  #startStream() {
    /** @type {ReadableStreamDefaultController} */ let out;
    const stop = new AbortController();
    let proved = false;
    const stream = {
      write: (/** @type {string} */ text) => out.enqueue(encoder.encode(text)),
      end: () => {
        if (this.#stream !== stream) return;
        this.#stream = undefined;
        if (!proved) {
          this.#mayStream = false;
          memory.keep(this.host.url, "batch");
        }
        this.sent = this.link.acked; // what it carried may not have arrived
        this.#ended = false;
        this.due.messages ||= 1;
        stop.abort();
        if (this.#stopped) return;
        this.#use("batch");
        this.#probe();
      },
    };
    const body = new ReadableStream({ start: (controller) => void (out = controller) });
    this.#stream = stream;
    this.#request("POST", () => this.#named(), body, stop.signal, { duplex: "half" }).catch(() => {}).finally(stream.end);
    this.#probe().then((answered) => {
      proved = answered;
      if (answered && this.#stream === stream) this.#use("stream");
    });
  }
}

/** A Group is the tabs that share a session. One of them, which holds a Web Lock, leads: it has the Carrier.
 * It tells the others each frame that matters, and each message with the seqs that it gave it, before it acts on
 * it; so all have the same Link, and whoever leads next goes on with it. A tab sends through the leader
 * and again through the next one, until its message got its seqs; the tab's own count drops duplicates. */
class Group {
  tab = token();
  epoch = 0; // of the leader; a later one's requests have higher attempts
  leading = false;
  joined = false; // the link is the session's
  #told = 0; // by this epoch's leader
  #unanswered = 0;
  #term = 0;
  #life = 0; // counts the times that this tab is in the group
  #away = false;
  #steal = false;
  /** @type {any} */ #timer;
  /** @type {Map<string, number>} */ #tabs = new Map();
  /** @type {AbortController | undefined} */ #waiting;
  /** @type {() => void} */ #release = () => {};
  /** @type {any} */ #best;
  /** @type {Map<number, {resolve: (ms: number) => void, reject: (e: Error) => void}>} */ #pings = new Map();

  /**
   * @param {GroupHost} host
   * @param {string} name */
  constructor(host, name) {
    this.host = host;
    this.name = name;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = (e) => this.#hear(e.data);
    this.enter();
  }

  static get possible() {
    return !!globalThis.navigator?.locks && typeof BroadcastChannel === "function";
  }

  /** alone tells whether no other tab was heard of lately. */
  get alone() {
    const since = Date.now() - 150000; // timers of hidden tabs may come once a minute
    return ![...this.#tabs.values()].some((heard) => heard > since);
  }

  enter() {
    this.#away = false;
    this.#timer = setInterval(() => this.#tick(), 2000);
    this.#run();
  }

  /** leave lets another tab lead. */
  leave() {
    this.#away = true;
    clearInterval(this.#timer);
    this.tell({ type: "bye" });
    this.#demote();
    this.#release();
    this.#waiting?.abort();
  }

  end() {
    this.leave();
    this.channel.close();
    for (const ping of this.#pings.values()) ping.reject(new Failure("the session, or this tab's part in it, has ended"));
  }

  /** @param {Record<string, any>} message */
  tell(message) {
    if (this.leading) this.#told++;
    this.channel.postMessage({ tab: this.tab, epoch: this.epoch, told: this.#told, key: this.host.link.key, ...message });
  }

  /** ping asks the leader for a round trip.
   * @returns {Promise<number>} */
  ping() {
    return new Promise((resolve, reject) => {
      const nonce = Math.random();
      this.#pings.set(nonce, { resolve, reject });
      this.tell({ type: "ping", nonce });
    });
  }

  async #run() {
    /** @type {LockOptions} */ let options = { ifAvailable: true };
    const life = ++this.#life;
    while (life === this.#life && !this.#away) {
      const first = !!options.ifAvailable;
      try {
        await navigator.locks.request(this.name, options, (lock) => lock && this.#lead(first));
      } catch {} // it was stolen, or not waited for any longer
      if (life !== this.#life) return;
      this.#demote();
      if (this.#away) return;
      this.tell({ type: "hello" });
      this.#waiting = new AbortController();
      options = this.#steal ? { steal: true } : { signal: this.#waiting.signal };
      this.#steal = false;
    }
  }

  /** #tick has a leader that does not answer replaced: its tab is frozen. */
  #tick() {
    if (this.leading) return;
    if (++this.#unanswered <= 2) return this.tell({ type: "ask" });
    this.#unanswered = 0;
    this.#steal = true;
    this.#waiting?.abort();
  }

  /** #lead leads until the lock is given back or stolen.
   * @param {boolean} first nobody else wants the lock */
  async #lead(first) {
    const term = ++this.#term;
    if (!first) {
      this.#best = this.joined ? this.#state() : undefined;
      this.tell({ type: "elect" });
      await new Promise((resolve) => setTimeout(resolve, 200)); // others may know more: this tab may have slept
      if (term !== this.#term || this.#away) return;
      if (this.#best) this.#adopt(this.#best);
    }
    this.epoch++;
    this.leading = this.joined = true;
    this.#told = 0;
    this.host.link.attempt = this.epoch * 2 ** 32;
    this.host.lead(true);
    this.tell({ type: "state", ...this.#state() });
    await new Promise((resolve) => (this.#release = () => resolve(undefined)));
  }

  #demote() {
    this.#term++;
    if (!this.leading) return;
    this.leading = false;
    this.host.lead(false);
  }

  #state() {
    return { link: this.host.link, epoch: this.epoch, told: this.#told };
  }

  /** #adopt makes another tab's state this one's; but what this tab has received, only it knows.
   * @param {any} m */
  #adopt(m) {
    this.epoch = m.epoch;
    this.#told = m.told;
    if (m.link === this.host.link) return;
    this.host.adopt(m.link, this.joined);
    this.joined = true;
    for (const nonce of this.#pings.keys()) this.tell({ type: "ping", nonce }); // the last leader may not have answered
  }

  /** @param {any} m */
  #hear(m) {
    if (m.to && m.to !== this.tab) return;
    if (m.type === "bye") this.#tabs.delete(m.tab);
    else this.#tabs.set(m.tab, Date.now());
    switch (m.type) {
      case "hello":
        if (this.leading) this.tell({ type: "state", to: m.tab, ...this.#state() });
        return;
      case "ask":
        if (this.leading) this.tell({ type: "here" });
        return;
      case "elect":
        if (this.joined) this.tell({ type: "vote", to: m.tab, ...this.#state() });
        return;
      case "vote":
        if (!this.#best || m.epoch > this.#best.epoch || (m.epoch === this.#best.epoch && m.told > this.#best.told)) this.#best = m;
        return;
      case "send":
        if (this.leading) this.host.assign(m.data, m.tab, m.n);
        return;
      case "ping":
        if (this.leading) this.host.ping().then((ms) => this.tell({ type: "pong", to: m.tab, nonce: m.nonce, ms }), () => {});
        return;
      case "pong":
        this.#pings.get(m.nonce)?.resolve(m.ms);
        this.#pings.delete(m.nonce);
        return;
    }
    // What is left are a leader's words.
    if (this.leading) {
      if (m.epoch <= this.epoch) return;
      this.#demote(); // one stole the lock while this tab slept
    }
    this.#unanswered = 0;
    if (m.type === "state") {
      if (!this.joined || m.epoch >= this.epoch) this.#adopt(m);
      return;
    }
    if (!this.joined || m.key !== this.host.link.key) return;
    const late = m.epoch < this.epoch;
    if (late && m.frame?.type !== "message") return;
    if (!late) this.#told = m.told;
    if (m.type === "frame") this.host.frame(m.frame);
    else if (m.type === "out") this.host.put(m.data, m.from, m.n);
    else if (m.type === "event") this.host.event(m.name, m.detail);
    else if (m.type === "gone") this.host.gone(m.code, m.reason, m.clean);
  }
}

export class Tandem extends EventTarget {
  /** @type {0} */ static CONNECTING = 0;
  /** @type {1} */ static OPEN = 1;
  /** @type {2} */ static CLOSING = 2;
  /** @type {3} */ static CLOSED = 3;
  /** @type {0} */ CONNECTING = 0;
  /** @type {1} */ OPEN = 1;
  /** @type {2} */ CLOSING = 2;
  /** @type {3} */ CLOSED = 3;

  /** @type {any} */ onopen = null;
  /** @type {any} */ onmessage = null;
  /** @type {any} */ onclose = null;
  /** @type {any} */ onerror = null;
  /** @type {any} */ onlost = null;
  /** @type {any} */ onresumed = null;
  /** @type {any} */ ontransport = null;
  /** @type {"blob" | "arraybuffer"} */ binaryType = "blob";

  #link = new Link();
  /** @type {0 | 1 | 2 | 3} */ #readyState = 0;
  /** @type {Options} */ #options;
  /** @type {Carrier | undefined} */ #carrier;
  /** @type {Group | undefined} */ #group;
  /** @type {Host} */ #host;
  #upload = "";
  #n = 0;
  /** @type {{n: number, given: any, data: any, size: number, seq: number}[]} */ #own = []; // sent by this tab, not acked
  #given = 0; // so many of them have a place in the session, or were told to the leader
  /** @type {Map<number, Frame>} */ #early = new Map();
  /** @type {{data: any, seq: number, bytes: number, messages: number}[] | undefined} */ #queue; // iterated
  #partial = { bytes: 0, messages: 0 };
  /** @type {(() => void)[]} */ #waiters = [];
  /** @type {any} */ #end;
  /** @type {Close | undefined} */ #closing;

  /**
   * @param {string | URL} url
   * @param {Options} [options] */
  constructor(url, options = {}) {
    super();
    const u = new URL(url, globalThis.location?.href);
    if (!/^https?:$/.test(u.protocol) || u.hash) throw new DOMException(`expected an http or https URL without a fragment, got ${u}`, "SyntaxError");
    this.url = u.href;
    this.#options = options;
    for (const type of ["open", "message", "close", "error", "lost", "resumed", "transport"]) {
      this.addEventListener(type, (e) => /** @type {any} */ (this)["on" + type]?.call(this, e));
    }
    const shared = options.shared !== undefined && Group.possible;
    this.#host = {
      url: this.url, options, shared, link: this.#link, beat: options.heartbeat ?? 60000,
      frame: (f) => this.#tell({ type: "frame", frame: f }, () => this.#frame(f)),
      event: (name, detail) => this.#tell({ type: "event", name, detail: { ...detail, error: undefined } }, () => this.#event(name, detail)),
      gone: (code, reason, clean, error) => this.#tell({ type: "gone", code, reason, clean }, () => this.#gone(code, reason, clean, undefined, error)),
    };
    for (const type of ["pagehide", "pageshow", "online", "visibilitychange"]) {
      (type === "visibilitychange" ? globalThis.document : globalThis)?.addEventListener?.(type, this.#page);
    }
    if (shared) {
      this.#group = new Group({
        link: this.#link,
        frame: (f) => this.#frame(f),
        event: (name, detail) => this.#event(name, detail),
        gone: (code, reason, clean) => this.#gone(code, reason, clean),
        put: (data, tab, n) => this.#put(data, tab, n),
        assign: (data, tab, n) => this.#assign(data, tab, n),
        adopt: (link, joined) => this.#adopt(link, joined),
        lead: (yes) => this.#lead(yes),
        ping: () => this.ping(),
      }, `tandem ${this.url} ${options.shared}`);
    } else {
      this.#carrier = new Carrier(this.#host);
    }
  }

  /** @returns {0 | 1 | 2 | 3} */
  get readyState() {
    return this.#readyState;
  }

  get bufferedAmount() {
    const sent = this.#group && !this.#group.leading ? this.#link.seq : Math.max(this.#link.acked, this.#carrier?.sent ?? 0);
    return this.#own.reduce((sum, m) => sum + (m.seq && m.seq <= sent ? 0 : m.size), 0);
  }

  /** @returns {(string | Uint8Array | Blob)[]} */
  get unacked() {
    return this.#own.map((m) => m.given);
  }

  /** @returns {"" | "split" | "poll"} */
  get transport() {
    return /** @type {any} */ (this.#link.transport);
  }

  /** @returns {"" | "batch" | "stream"} */
  get upload() {
    return /** @type {any} */ (this.#carrier?.upload ?? this.#upload);
  }

  get role() {
    return !this.#group ? "alone" : this.#group.leading ? "leader" : "follower";
  }

  /** @param {string | ArrayBuffer | ArrayBufferView | Blob} data */
  send(data) {
    if (this.#link.ended) throw new DOMException("a message after end()", "InvalidStateError");
    if (this.#readyState > 1) return; // as WebSocket does
    const m = { n: ++this.#n, given: data, data: /** @type {any} */ (undefined), size: 0, seq: 0 };
    if (data instanceof Blob) {
      m.size = data.size;
      data.arrayBuffer().then(
        (bytes) => {
          m.data = new Uint8Array(bytes);
          this.#flush();
        },
        (e) => this.#closed() || this.#host.gone(ABNORMAL, `a Blob can't be read: ${e.message}`, false, e),
      );
    } else if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) {
      const view = data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      m.given = m.data = view.slice();
      m.size = view.length;
    } else {
      m.given = `${data}`;
      const bytes = encoder.encode(m.given);
      m.data = decoder.decode(bytes); // without halves of surrogate pairs
      m.size = bytes.length;
    }
    this.#own.push(m);
    this.#flush();
  }

  /** end says that this side sends nothing more; the session goes on. */
  end() {
    if (this.#group) throw new DOMException("a shared session has no end of input of one tab", "NotSupportedError");
    this.#link.ended = true;
    this.#carrier?.wake();
  }

  /**
   * @param {number} [code]
   * @param {string} [reason] */
  close(code = NORMAL, reason = "") {
    if (code !== NORMAL && !(code >= 3000 && code <= 4999)) throw new DOMException(`expected a code of 1000 or 3000 to 4999, got ${code}`, "InvalidAccessError");
    if (this.#readyState > 1) return;
    const opened = this.#readyState === 1;
    this.#readyState = 2;
    this.#closing = { code, reason };
    if (!opened && !this.#own.length) this.#gone(ABNORMAL, "closed before the session was open", false);
    else this.#flush();
  }

  /** @returns {Promise<number>} */
  async ping() {
    if (this.#closed()) throw this.#end;
    return this.#carrier ? this.#carrier.ping() : /** @type {Group} */ (this.#group).ping();
  }

  [Symbol.asyncIterator]() {
    const queue = (this.#queue ??= []);
    const done = { done: /** @type {true} */ (true), value: undefined };
    return {
      next: async () => {
        while (!queue.length) {
          if (this.#closed()) {
            if (this.#end?.code === NORMAL) return done;
            throw this.#end;
          }
          await new Promise((resolve) => this.#waiters.push(() => resolve(undefined)));
        }
        const m = /** @type {NonNullable<ReturnType<typeof queue.shift>>} */ (queue.shift());
        this.#carrier?.took(queue.length ? m.seq : this.#link.received, m.bytes, m.messages);
        return { done: /** @type {false} */ (false), value: m.data };
      },
      return: async () => done, // what follows waits for the next iteration
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  #closed() {
    return this.#readyState === 3;
  }

  /** #tell lets the other tabs know first.
   * @param {any} message
   * @param {() => void} act */
  #tell(message, act) {
    if (this.#group?.leading) this.#group.tell(message);
    act();
  }

  /** #emit dispatches an event.
   * @param {string} type
   * @param {object} fields */
  #emit(type, fields = {}) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }

  /**
   * @param {string} name
   * @param {any} detail */
  #event(name, detail) {
    if (name === "transport") this.#upload = detail.upload;
    this.#emit(name, detail);
  }

  // ---- what is sent

  /** #flush gives messages their seqs, in order, or has the leader do it; then the close. */
  #flush() {
    for (; this.#given < this.#own.length; this.#given++) {
      const m = this.#own[this.#given];
      if (m.data === undefined) return; // a Blob that is still being read
      if (!this.#group || this.#group.leading) {
        this.#assign(m.data, this.#group?.tab ?? "", m.n);
      } else {
        if (!this.#group.joined) return;
        this.#group.tell({ type: "send", n: m.n, data: m.data });
      }
    }
    if (!this.#closing) return;
    const { code, reason } = this.#closing;
    if (!this.#group || (this.#group.leading && this.#group.alone)) this.#carrier?.close(code, reason);
    else if (this.#own.every((m) => m.seq)) this.#gone(code, reason, true); // the others go on
  }

  /** #assign gives a tab's next message its place in the session.
   * @param {any} data
   * @param {string} tab
   * @param {number} n */
  #assign(data, tab, n) {
    if (n !== (this.#link.last[tab] ?? 0) + 1) return; // came before, or follows one that is to come again
    this.#tell({ type: "out", data, from: tab, n }, () => this.#put(data, tab, n));
    this.#carrier?.wake();
  }

  /**
   * @param {any} data
   * @param {string} tab
   * @param {number} n */
  #put(data, tab, n) {
    const seq = this.#link.put(data, tab, n);
    if (tab !== (this.#group?.tab ?? "")) return;
    const own = this.#own[n - this.#own[0]?.n];
    if (own) own.seq = seq;
    if (own && this.#closing && this.#group) queueMicrotask(() => this.#closed() || this.#flush());
  }

  /** #again has what the last leader gave no place be told to the next one. */
  #again() {
    const first = this.#own.findIndex((m) => !m.seq);
    this.#given = first < 0 ? this.#own.length : first;
  }

  // ---- what comes

  /** #frame is what each tab does with a frame from the server.
   * @param {Frame} f */
  #frame(f) {
    const link = this.#link;
    if (this.#closed()) return;
    if (f.type === "open") {
      Object.assign(link, { id: f.session, grace: f.grace ?? 0, heartbeat: f.heartbeat ?? 0, transport: f.transport });
      link.room = { bytes: f.window, messages: f.messages };
      this.#opened();
    } else if (f.type === "ack") {
      link.ack(f);
      this.#forget();
      this.#carrier?.wake();
    } else if (f.type === "message") {
      this.#early.set(f.seq, f);
      for (let next; (next = this.#early.get(link.received + 1)); ) {
        this.#early.delete(next.seq);
        this.#message(next);
      }
      this.#early.delete(f.seq <= link.received ? f.seq : -1);
      if (this.#early.size && !this.#group) this.#host.gone(PROTOCOL, `expected message seq ${link.received + 1}, got ${f.seq}: a frame is missing`, false);
      if (this.#early.size > MESSAGES) this.#gone(LOST, "this tab missed messages", false);
    } else if (f.type === "close") {
      this.#gone(f.code, f.reason ?? "", true, f.retry_ms);
    }
  }

  #opened() {
    if (this.#readyState === 0) {
      this.#readyState = 1;
      this.#emit("open");
    }
  }

  #forget() {
    const keep = this.#own.findIndex((m) => !m.seq || m.seq > this.#link.acked);
    const had = this.#own.splice(0, keep < 0 ? this.#own.length : keep);
    this.#given -= had.length;
  }

  /** @param {Frame} f */
  #message(f) {
    const cost = this.#partial;
    cost.messages++;
    cost.bytes += OVERHEAD + (f.data64 === undefined ? encoder.encode(f.data).length : f.data64.length);
    let data = /** @type {any} */ (this.#link.take(f));
    const waits = f.more ? this.#queue?.length : this.#queue;
    if (!waits) this.#carrier?.took(f.seq, cost.bytes, cost.messages);
    if (!waits || !f.more) this.#partial = { bytes: 0, messages: 0 };
    if (f.more || this.#readyState > 1) return;
    if (typeof data !== "string") data = this.binaryType === "blob" ? new Blob([data]) : data.buffer;
    if (this.#queue) {
      this.#queue.push({ data, seq: f.seq, ...cost });
      this.#wakeReaders();
    }
    this.dispatchEvent(new MessageEvent("message", { data, origin: new URL(this.url).origin }));
  }

  #wakeReaders() {
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /** #gone is the session's end, for this tab at least.
   * @param {number} code
   * @param {string} reason
   * @param {boolean} clean
   * @param {number} [retry]
   * @param {Error} [error] */
  #gone(code, reason, clean, retry, error) {
    if (this.#closed()) return;
    this.#readyState = 3;
    this.#end = Object.assign(error instanceof Failure ? error : new Failure(reason || `the session ended with code ${code}`), { code });
    this.#carrier?.stop();
    this.#group?.end();
    for (const type of ["pagehide", "pageshow", "online", "visibilitychange"]) {
      (type === "visibilitychange" ? globalThis.document : globalThis)?.removeEventListener?.(type, this.#page);
    }
    if (error) this.#emit("error", { error, message: error.message });
    this.#emit("close", { code, reason, wasClean: clean, retry });
    this.#wakeReaders();
  }

  // ---- the page, and the other tabs

  /** #page follows what happens to the page.
   * @param {any} e */
  #page = (e) => {
    if (e.type === "pagehide") {
      if (this.#group && !(this.#group.leading && this.#group.alone && !e.persisted)) this.#group.leave();
      else if (e.persisted) this.#carrier?.stop(); // it may come back: the session waits
      else this.#carrier?.leave();
    } else if (e.type === "pageshow") {
      if (!e.persisted) return;
      if (this.#group) this.#group.enter();
      else this.#carrier = new Carrier(this.#host);
    } else if (e.type === "online" || globalThis.document?.visibilityState === "visible") this.#carrier?.check();
  };

  /** @param {boolean} yes */
  #lead(yes) {
    if (yes) {
      this.#carrier = new Carrier(this.#host);
      this.#again();
      this.#flush();
    } else {
      this.#carrier?.stop();
      this.#carrier = undefined;
    }
  }

  /** #adopt goes on with the state that the leader has.
   * @param {any} other a Link's fields
   * @param {boolean} joined */
  #adopt(other, joined) {
    const link = this.#link;
    if (joined && other.key !== link.key) return this.#gone(LOST, "the other tabs went on with another session", false);
    const { received, parts } = joined ? link : other;
    Object.assign(link, other, { received, parts });
    const tab = /** @type {Group} */ (this.#group).tab;
    for (const m of this.#own) {
      m.seq = m.n > (link.last[tab] ?? 0) ? 0 : link.out.filter((f) => f.tab === tab && f.n === m.n).pop()?.seq ?? link.acked;
    }
    this.#again();
    this.#forget();
    if (link.id) this.#opened();
    queueMicrotask(() => this.#closed() || this.#flush());
  }
}

/**
 * What a Carrier needs of the page's side.
 * @typedef {{url: string, options: Options, shared: boolean, link: Link, beat: number, frame(f: Frame): void,
 *   event(name: string, detail: object): void, gone(code: number, reason: string, clean: boolean, error?: Error): void}} Host
 * What a Group needs of it.
 * @typedef {{link: Link, frame(f: Frame): void, event(name: string, detail: object): void, gone(code: number, reason: string, clean: boolean): void,
 *   put(data: any, tab: string, n: number): void, assign(data: any, tab: string, n: number): void, adopt(link: any, joined: boolean): void,
 *   lead(yes: boolean): void, ping(): Promise<number>}} GroupHost
 */

export default Tandem;
