// A hub by way of EventSource and form POSTs, with the methods and events of hub.js: what a page has that is made
// for Mercure. EventSource doesn't tell topics, nor whether events are missing, and hears only of the types that it is told.

/** Events: those of Hub, and "open", "lost", "refused" and "idle" of the connection. */
export class Mercure extends EventTarget {
  #url;
  #fetch;
  #types;
  #source;
  #topics = new Set();
  #patterns = new Set();
  #earliest;
  lastId;

  constructor(url, { after = "", earliest = false, types = [], fetch = globalThis.fetch } = {}) {
    super();
    this.#url = new URL(url, location.href);
    this.#fetch = fetch;
    this.#types = types;
    this.lastId = after;
    this.#earliest = earliest;
  }

  async subscribe({ topics = [], patterns = [] }) {
    for (const t of topics) this.#topics.add(t);
    for (const p of patterns) this.#patterns.add(p);
    await this.#connect();
  }

  async unsubscribe({ topics = [], patterns = [] }) {
    for (const t of topics) this.#topics.delete(t);
    for (const p of patterns) this.#patterns.delete(p);
    await this.#connect();
  }

  /** connect makes another EventSource: what one has is said by its URL. */
  #connect() {
    this.#source?.close();
    this.#source = undefined;
    if (this.#topics.size + this.#patterns.size === 0) {
      this.dispatchEvent(new Event("idle"));
      return;
    }
    const url = new URL(this.#url);
    for (const t of this.#topics) url.searchParams.append("match", t);
    for (const p of this.#patterns) url.searchParams.append("matchURLPattern", p);
    const after = this.lastId || (this.#earliest ? "earliest" : "");
    if (after) url.searchParams.set("lastEventID", after);
    const source = (this.#source = new EventSource(url));
    // The one topic that there is, is every event's.
    const [topic] = this.#topics.size === 1 && this.#patterns.size === 0 && !this.#topics.has("*") ? this.#topics : [];
    const take = (e) => {
      if (source !== this.#source) return;
      this.lastId = e.lastEventId;
      this.dispatchEvent(new CustomEvent("event", { detail: { id: e.lastEventId, topic, type: e.type === "message" ? undefined : e.type, data: e.data } }));
    };
    for (const type of new Set(["message", ...this.#types])) source.addEventListener(type, take);
    return new Promise((resolve, reject) => {
      source.onopen = () => {
        resolve();
        this.dispatchEvent(new Event("open"));
      };
      source.onerror = (e) => {
        if (e.data !== undefined || source !== this.#source) return; // an event of the type error
        const refused = source.readyState === EventSource.CLOSED;
        this.dispatchEvent(new Event(refused ? "refused" : "lost"));
        if (refused) reject(new Error("EventSource was refused; it doesn't tell why. The browser's network panel does"));
      };
    });
  }

  async publish({ topic, data = "", type, private: secret }) {
    const form = new URLSearchParams({ topic, data });
    if (type) form.set("type", type);
    if (secret) form.set("private", "on");
    return (await this.#ask(this.#url, { method: "POST", body: form })).text();
  }

  async presence() {
    const url = new URL(this.#url);
    url.pathname += "/subscriptions";
    return (await (await this.#ask(url, {})).json()).subscriptions;
  }

  async #ask(url, init) {
    const answer = await this.#fetch(url, init);
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail ?? `the hub answered ${answer.status}`), { code: String(answer.status) });
  }

  close() {
    this.#source?.close();
    this.#source = undefined;
  }
}
