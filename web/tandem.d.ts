// The types of tandem.js. docs/browser.md is the guide.

export interface TandemOptions {
  /** Share one session among all tabs of this origin that name it so. Needs Web Locks, else each tab has its own. */
  shared?: string;
  /** Keep to this transport. Default: split, and poll where a proxy holds responses back. */
  transport?: "split" | "poll";
  /** "batch": never one long upload, also where browser and server could. */
  upload?: "batch";
  /** Header fields for each request, such as Authorization; a function is called for each. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** As in fetch. Default "same-origin". */
  credentials?: RequestCredentials;
  /** Promise the server a sign of life so often, in ms, 0: none. Default 60000. */
  heartbeat?: number;
  /** In place of the browser's fetch. */
  fetch?: typeof fetch;
}

/** What ended a session, or why a request failed. */
export interface TandemError extends Error {
  name: "TandemError";
  /** The termination code, as in TandemCloseEvent. */
  code?: number;
  /** The HTTP status, where there was one. */
  status?: number;
}

export interface TandemCloseEvent extends Event {
  /** docs/protocol.md section 4; 1006: the session was never open. */
  readonly code: number;
  readonly reason: string;
  /** The two sides know of each other's end. */
  readonly wasClean: boolean;
  /** When the server wants to see the client again, in ms. Undefined: it did not say. */
  readonly retry?: number;
}

export interface TandemErrorEvent extends Event {
  readonly message: string;
  readonly error?: TandemError;
}

export interface TandemLostEvent extends Event {
  readonly reason: string;
}

export interface TandemTransportEvent extends Event {
  readonly transport: "split" | "poll";
  readonly upload: "batch" | "stream";
}

export interface TandemEventMap {
  /** The session exists. Once. */
  open: Event;
  message: MessageEvent<string | Blob | ArrayBuffer>;
  /** The session is over. Once, and last. */
  close: TandemCloseEvent;
  /** An attempt to open failed (another one follows), or why close is about to come. */
  error: TandemErrorEvent;
  /** The connection is lost, the session not: it is being resumed. */
  lost: TandemLostEvent;
  /** The session goes on. Nothing was lost. */
  resumed: Event;
  /** How messages travel, when that changes. */
  transport: TandemTransportEvent;
}

type Handler<K extends keyof TandemEventMap> = ((this: Tandem, event: TandemEventMap[K]) => any) | null;

/** A two-way message session with a program behind a web server, with the interface of WebSocket. */
export class Tandem extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /** url is the endpoint's, http or https, relative to the page. */
  constructor(url: string | URL, options?: TandemOptions);

  readonly url: string;
  readonly readyState: 0 | 1 | 2 | 3;
  /** Bytes of messages that have not reached the server. */
  readonly bufferedAmount: number;
  /** The messages of this page that the program is not known to have taken. After close: what may be lost. */
  readonly unacked: (string | Uint8Array | Blob)[];
  /** What binary messages are to be. Default "blob". */
  binaryType: "blob" | "arraybuffer";
  /** "split", "poll", or "" before the session is open. */
  readonly transport: "" | "split" | "poll";
  readonly upload: "" | "batch" | "stream";
  /** This tab's part in a shared session. */
  readonly role: "alone" | "leader" | "follower";

  /** Sends a message, before the session is open too. After close() it does nothing. */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): void;
  /** Says that this side sends nothing more: the program reads the end of its input. */
  end(): void;
  /** Ends the session, after what was sent. code: 1000 or 3000 to 4999. */
  close(code?: number, reason?: string): void;
  /** Measures a round trip through the session, in ms. */
  ping(): Promise<number>;
  /** Messages, until the session ends; throws a TandemError if that is not with code 1000. While messages wait here, the server is held back. */
  [Symbol.asyncIterator](): AsyncIterableIterator<string | Blob | ArrayBuffer>;

  onopen: Handler<"open">;
  onmessage: Handler<"message">;
  onclose: Handler<"close">;
  onerror: Handler<"error">;
  onlost: Handler<"lost">;
  onresumed: Handler<"resumed">;
  ontransport: Handler<"transport">;

  addEventListener<K extends keyof TandemEventMap>(type: K, listener: (this: Tandem, event: TandemEventMap[K]) => any, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof TandemEventMap>(type: K, listener: (this: Tandem, event: TandemEventMap[K]) => any, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

export default Tandem;
