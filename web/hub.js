// A hub in the browser: subscriptions, publishes and questions as promises, over a Tandem session, and over the next
// one where a session ends. docs/hub.md has the messages.
//
// Order is what resuming rests on. Only the first subscribe of a session asks for history, and the hub reads the next request when
// that history is written: so events come in their order, and the last one's id says all that has come.

/** @typedef {import("./tandem.js").Tandem} Session */
/** @typedef {import("./hub.js").HubOptions} Options */
/** @typedef {import("./hub.js").HubEvent} HubEvent */
/** @typedef {import("./hub.js").HubMember} Member */
/** @typedef {import("./hub.js").HubTopics} Topics */
/** @typedef {{message: {[key: string]: any}, resolve: (answer: any) => void, reject: (e: Error) => void, group?: Group}} Request */
/** @typedef {{n: number, topics: string[], patterns: string[]}} Group */

const AGAIN = [1011, 1012, 1013, 4001, 4002, 4003]; // the codes after which a new session may do better
const FIRST = 1000, MOST = 60000; // ms between sessions

/** A HubError is a request that the hub refused, or that came too late. */
export class HubError extends Error {
  /** @param {string} code
   * @param {string} text
   * @param {string} [todo] */
  constructor(code, text, todo = "") {
    super(text);
    this.name = "HubError";
    this.code = code;
    this.do = todo;
  }
}

/** A Hub. Events: "event" (detail: the event), "gap", "subscribed" (detail: recovered), "close" (detail: a HubError). */
export class Hub extends EventTarget {
  /** @type {() => Session} */ #open;
  /** @type {Session | undefined} */ #session;
  /** @type {Map<number, Request>} */ #requests = new Map(); // by ref, in the order in which they were made
  /** @type {Group[]} */ #groups = []; // the subscriptions there are
  /** @type {Promise<void>} */ #leaving = Promise.resolve();
  #ref = 0;
  #last; // id of the last event that came
  #earliest;
  #asked = false; // for history, in this session: or there is none to ask for
  #wait = FIRST;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #closed = false;

  /** @param {() => Session} open
   * @param {Options} [options] */
  constructor(open, options = {}) {
    super();
    this.#open = open;
    this.#last = options.after ?? "";
    this.#earliest = !!options.earliest;
    this.#begin();
  }

  get session() { return this.#session; }
  get lastId() { return this.#last; }

  /** @param {Topics} what
   * @returns {Promise<boolean>} */
  async subscribe({ topics = [], patterns = [] }) {
    const group = { n: 0, topics: [...topics], patterns: [...patterns] };
    return (await this.#ask({ subscribe: { topics, patterns } }, group)).subscribed.recovered;
  }

  /** @param {Topics} what
   * @returns {Promise<void>} */
  unsubscribe({ topics = [], patterns = [] }) {
    const leave = async () => {
      for (;;) {
        const old = this.#groups.find((g) => g.topics.some((t) => topics.includes(t)) || g.patterns.some((p) => patterns.includes(p)));
        if (!old) return;
        const rest = { topics: old.topics.filter((t) => !topics.includes(t)), patterns: old.patterns.filter((p) => !patterns.includes(p)) };
        // The new one first: what both select comes once, and nothing is missed between them.
        if (rest.topics.length + rest.patterns.length) await this.subscribe(rest);
        const at = this.#groups.indexOf(old);
        if (at < 0) continue; // there was a new session meanwhile
        this.#groups.splice(at, 1);
        await this.#ask({ unsubscribe: old.n });
      }
    };
    const left = this.#leaving.then(leave);
    this.#leaving = left.catch(() => {});
    return left;
  }

  /** @param {HubEvent} event
   * @returns {Promise<string>} */
  async publish(event) {
    // With an id it can be sent again where no answer came.
    const id = event.id || "urn:uuid:" + uuid();
    return (await this.#ask({ publish: { ...event, id } })).published.id;
  }

  /** @param {string} [match]
   * @returns {Promise<Member[]>} */
  async presence(match) {
    return (await this.#ask({ presence: match === undefined ? {} : { match } })).present;
  }

  close() {
    this.#end(new HubError("closed", "the hub was closed by the page"));
  }

  // ---- requests

  /** @param {Request["message"]} message
   * @param {Group} [group]
   * @returns {Promise<any>} */
  #ask(message, group) {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new HubError("closed", "the hub is closed", "make a new one"));
      const request = { message, resolve, reject, group };
      const ref = ++this.#ref;
      this.#requests.set(ref, request);
      if (this.#session) this.#send(ref, request);
    });
  }

  /** @param {number} ref
   * @param {Request} request */
  #send(ref, { message, group }) {
    if (group) {
      const history = this.#asked ? {} : this.#last ? { after: this.#last } : this.#earliest ? { earliest: true } : {};
      this.#asked = true;
      message = { subscribe: { ...message.subscribe, ...history } };
    }
    this.#session?.send(JSON.stringify({ ...message, ref }));
  }

  /** @param {any} m what the hub has sent */
  #take(m) {
    if (m.event) {
      this.#last = m.event.id;
      this.dispatchEvent(new CustomEvent("event", { detail: m.event }));
      return;
    }
    if (m.gap) {
      this.dispatchEvent(new Event("gap"));
      return;
    }
    const request = this.#requests.get(m.ref);
    this.#requests.delete(m.ref);
    if (m.error) {
      const e = new HubError(m.error.code, m.error.text, m.error.do);
      if (request?.group && !this.#groups.length) this.#asked = false; // the history is the next one's
      if (request) request.reject(e);
      else this.#later(); // a subscription that has ended: all of them go on in a new session
      return;
    }
    this.#wait = FIRST;
    if (request?.group && m.subscribed) {
      request.group.n = m.subscribed.subscription;
      this.#groups.push(request.group);
      this.dispatchEvent(new CustomEvent("subscribed", { detail: m.subscribed }));
    }
    request?.resolve(m);
  }

  // ---- sessions

  #begin() {
    const s = (this.#session = this.#open());
    this.#asked = false;
    s.addEventListener("message", (e) => {
      if (s !== this.#session) return;
      /** @type {any} */ let m;
      try {
        m = JSON.parse(/** @type {string} */ (e.data));
      } catch {}
      if (m && typeof m === "object") this.#take(m);
      else this.#end(new HubError("no-hub", "expected JSON, got something else: is this endpoint a hub?", "check its URL"));
    });
    s.addEventListener("close", (e) => {
      if (s !== this.#session) return;
      if (AGAIN.includes(e.code)) this.#later(e.retry);
      else this.#end(new HubError(String(e.code), e.reason || "the session is closed"));
    });
    this.#resume();
  }

  /** resume has the new session be what the last one was. */
  #resume() {
    const waiting = [...this.#requests].filter(([, r]) => !r.message.unsubscribe);
    for (const [, r] of this.#requests) if (r.message.unsubscribe) r.resolve(undefined); // it ended with its session
    this.#requests = new Map();
    if (this.#groups.length) {
      const all = { n: 0, topics: [...new Set(this.#groups.flatMap((g) => g.topics))], patterns: [...new Set(this.#groups.flatMap((g) => g.patterns))] };
      this.#groups = [];
      // With no event to go on behind, some may have come and gone.
      if (!this.#last && !this.#earliest) this.dispatchEvent(new Event("gap"));
      this.#ask({ subscribe: { topics: all.topics, patterns: all.patterns } }, all).catch((e) => {
        this.#groups.push(all);
        if (e.code === "unavailable") this.#later();
        else this.#end(e);
      });
    }
    for (const [ref, r] of waiting) {
      this.#requests.set(ref, r);
      this.#send(ref, r);
    }
  }

  /** later goes on in another session, so that not all who lost the same hub come at once.
   * @param {number} [retry] ms */
  #later(retry) {
    if (this.#closed || !this.#session) return;
    const s = this.#session;
    this.#session = undefined;
    if (s.readyState < 2) s.close();
    const wait = retry === undefined ? this.#wait * (0.5 + Math.random() / 2) : retry * (1 + Math.random());
    this.#timer = setTimeout(() => this.#begin(), wait);
    this.#wait = Math.min(2 * this.#wait, MOST);
  }

  /** @param {HubError} e */
  #end(e) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    const s = this.#session;
    this.#session = undefined;
    if (s && s.readyState < 2) s.close();
    for (const [, r] of this.#requests) r.reject(e);
    this.#requests.clear();
    this.dispatchEvent(new CustomEvent("close", { detail: e }));
  }
}

/** uuid is random. crypto.randomUUID is for secure pages only. */
function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export default Hub;
