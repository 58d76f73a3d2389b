// The types of hub.js. docs/browser.md is the guide.

import type { Tandem } from "./tandem.js";

export interface HubOptions {
  /** Where the first subscribe begins: behind the event with this id. Default: with new events. */
  after?: string;
  /** ... with all that the history has. */
  earliest?: boolean;
}

export interface HubTopics {
  topics?: string[];
  /** URL patterns, such as "/books/:id". */
  patterns?: string[];
}

export interface HubEvent {
  /** Set in events that come. Default when publishing: a new one. */
  id?: string;
  topic: string;
  data?: string;
  type?: string;
  /** Only for those whose token lets them read the topic. */
  private?: boolean;
}

export interface HubMember {
  subscriber: string;
  matchType: string;
  match: string;
  payload?: any;
}

/** Why a request failed, or the hub is closed. */
export class HubError extends Error {
  constructor(code: string, text: string, todo?: string);
  /** "bad-request", "forbidden", "too-large", "unavailable", as the hub says; "closed"; "no-hub"; or the session's close code. */
  readonly code: string;
  /** What to do. */
  readonly do: string;
}

export interface HubEventMap {
  event: CustomEvent<HubEvent & { id: string; data: string }>;
  /** Here events are missing that can't be had any more. */
  gap: Event;
  /** A subscription has begun, in the first session or in a new one. Not recovered: the history doesn't reach back to where it was to begin. */
  subscribed: CustomEvent<{ subscription: number; recovered: boolean }>;
  /** It is over, and no new session can help. Once, and last. */
  close: CustomEvent<HubError>;
}

/** A hub's subscriptions, publishes and presence, over one session after the other. */
export class Hub extends EventTarget {
  /** open makes a session, each time that one is needed; not a shared one, which other tabs would subscribe with. */
  constructor(open: () => Tandem, options?: HubOptions);
  /** The present session; undefined between two of them. */
  readonly session: Tandem | undefined;
  /** Id of the last event that came: where a new Hub can begin after this one. */
  readonly lastId: string;
  /** Adds topics. The first one has the history, all others new events only. True: nothing is missing. */
  subscribe(what: HubTopics): Promise<boolean>;
  unsubscribe(what: HubTopics): Promise<void>;
  /** Returns the id when the event is stored. */
  publish(event: HubEvent): Promise<string>;
  /** Who is there: all, or who has subscribed to this topic or pattern. */
  presence(match?: string): Promise<HubMember[]>;
  close(): void;

  addEventListener<K extends keyof HubEventMap>(type: K, listener: (this: Hub, event: HubEventMap[K]) => any, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof HubEventMap>(type: K, listener: (this: Hub, event: HubEventMap[K]) => any, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

export default Hub;
