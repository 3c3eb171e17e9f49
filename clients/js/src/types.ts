/** The event types of an application and what their `data` is: `{ "project.updated": { status: string } }`. */
export type AnyEvents = Record<string, any>;

/** A place in a channel. Offsets count from 1 within an epoch. */
export interface Position {
  epoch: string;
  offset: number;
}

/** An event as a handler gets it. */
export interface TidingsEvent<Type extends string = string, Data = any> {
  type: Type;
  /** Missing where the event was sent straight to this user, role or connection. */
  channel?: string;
  id: string;
  /** RFC 3339. */
  timestamp: string;
  /** Only with history. */
  offset?: number;
  /** Only with history: with `offset` the position to keep for a later `since`. */
  epoch?: string;
  headers?: Record<string, string>;
  /** As published; missing where the payload is not JSON. */
  data: Data;
  /** A payload that is not JSON. */
  data_base64?: string;
  content_type?: string;
  traceparent?: string;
  tracestate?: string;
}

/** Names of event types, exact or with a trailing `*`. */
export type TypePattern<Events> = (keyof Events & string) | `${string}*`;

/** The event types that a name or pattern stands for. */
type Matching<Events, Pattern> = Pattern extends `${infer Start}*`
  ? Extract<keyof Events & string, `${Start}${string}`>
  : Pattern & keyof Events;

/** An event of one of these types. `switch (event.type)` narrows `event.data`. */
export type EventOf<Events, Pattern = keyof Events & string> = {
  [Type in Matching<Events, Pattern> & string]: TidingsEvent<Type, Events[Type]>;
}[Matching<Events, Pattern> & string];

/** How a subscription stands. */
export interface Subscribed {
  channel: string;
  /** Where the channel stands; missing without history. */
  epoch?: string;
  offset?: number;
  /**
   * Whether nothing was missed since the position from which it resumed. `false`: load the state
   * anew. Missing where there was nothing to resume.
   */
  recovered?: boolean;
}

/** Events that will not come. `from` and `to` are 0 where the channel has no history. */
export interface Gap {
  channel: string;
  from: number;
  to: number;
  reason: "slow_consumer" | "conflated" | "expired" | "unavailable" | (string & {});
}

/** Somebody came to a channel or left it. */
export interface PresenceChange {
  channel: string;
  user: string | null;
  joined: boolean;
}

/** Why the state that an application built from events may be wrong. */
export type Stale = { recovered: false; channel: string } | Gap;

export interface SubscribeOptions<Pattern extends string = string> {
  /** Only these types: exact, or with a trailing `*`. */
  eventTypes?: readonly Pattern[];
  /** A CEL expression. A further filter for the same channel takes a further connection. */
  filter?: string;
  /** Resume after this position. */
  since?: Position;
  /** Begin with the newest so many events. */
  rewind?: number;
  /** The state is to be loaded anew: `recovered: false`, or a `gap` other than `conflated`. */
  onStale?: (why: Stale) => void;
  /** The subscription stands: at the beginning, and again after each reconnect. */
  onSubscribed?: (how: Subscribed) => void;
  onGap?: (gap: Gap) => void;
  onPresence?: (change: PresenceChange) => void;
  /** The subscription was refused or taken away; nothing more comes. */
  onError?: (error: Error) => void;
}

export interface StreamOptions<Pattern extends string = string> extends SubscribeOptions<Pattern> {
  /** Events that may wait for the loop; 1000 unless told. */
  bufferLimit?: number;
  /**
   * When more wait: `fail` (the default) ends the loop with `resource_exhausted` after what waits,
   * `drop_oldest` goes on, and says so with a gap of the reason `buffer_full`.
   */
  overflow?: "fail" | "drop_oldest";
}

/** A subscription. */
export interface Subscription {
  readonly channel: string;
  /** The last position: what to give as `since` to go on from here. */
  readonly position: Position | undefined;
  /** Resolves when it stands for the first time; rejects where it is refused. */
  readonly ready: Promise<Subscribed>;
  unsubscribe(): void;
}

/** A subscription to be read with `for await`. Leaving the loop unsubscribes. */
export interface EventStream<Event> extends Subscription, AsyncIterable<Event> {}

export interface PublishOptions {
  headers?: Record<string, string>;
  /** For conflation. */
  key?: string;
  /** One is made up unless given, so that a repeat after a drop is not published twice. */
  idempotencyKey?: string;
  /** W3C Trace Context. */
  traceparent?: string;
  tracestate?: string;
}

export interface Published {
  /** The event's. */
  id: string;
  epoch?: string;
  offset?: number;
  /** True where this idempotency key was published before. */
  duplicate?: boolean;
}

export interface HistoryOptions {
  /** 1 to 1000; 100 unless told. */
  limit?: number;
  /** Only what is after this position; with `reverse`, before it. */
  since?: Position;
  /** Newest first. */
  reverse?: boolean;
}

export interface History<Event = TidingsEvent> {
  channel: string;
  epoch: string;
  /** Where the channel stands. */
  offset: number;
  events: Event[];
}

export interface Presence {
  channel: string;
  users: { user: string; connections: number }[];
  total: number;
}

export type State =
  /** A connection is being made. */
  | "connecting"
  /** Connected and, with a token, authenticated. */
  | "open"
  /** The connection was lost; the next attempt follows. */
  | "waiting"
  /** The end: by `close()`, or by the server. */
  | "closed";

/** How the client stands. */
export interface StateChange {
  state: State;
  /** With `waiting` and `closed`: the close code (RFC 6455, or the server's own from 4400). */
  code?: number;
  reason?: string;
  /** With `waiting`: milliseconds until the next attempt. */
  delayMs?: number;
}

/** Asked before connecting, with a token's end near, and when one was refused. `null`: none. */
export type TokenProvider = (why: {
  /** True where the last token expired or was refused. */
  refused: boolean;
}) => string | null | Promise<string | null>;

/** As much of the standard `WebSocket` as is needed. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

export interface Options {
  /** A token, or better a function that gets one: only so can it be renewed. */
  token?: string | TokenProvider;
  /** What the server's operator sees. */
  clientType?: string;
  clientName?: string;
  /** The class to connect with; `globalThis.WebSocket` unless told. Node 20 has none: see `ws`. */
  WebSocket?: WebSocketClass;
  /**
   * What to connect with, the best first: `["websocket", "sse"]` unless told. The next one has its
   * turn where two attempts in a row bring no connection.
   */
  transports?: readonly ("websocket" | "sse")[];
  /** Requests that may wait for a connection or an answer; 1000 unless told. */
  queueLimit?: number;
  /** Milliseconds that a request may take, waiting included; 30 000 unless told. */
  requestTimeoutMs?: number;
  /** The first pause before a reconnect is up to this; it doubles. 1000 unless told. */
  minDelayMs?: number;
  /** The longest pause; 30 000 unless told. */
  maxDelayMs?: number;
  /** Milliseconds that a connection may take to stand; 15 000 unless told. */
  connectTimeoutMs?: number;
  /**
   * Asked where the server ends the connection for good (4403, 4410, a token that is refused and
   * can't be renewed): `true` goes on nevertheless.
   */
  reconnect?: (close: { code: number; reason: string }) => boolean;
  /** `false`: never sends `receive` confirmations. */
  confirm?: boolean;
}

/** What a client tells besides the events of its subscriptions. */
export interface ClientEvents {
  state: StateChange;
  /** What went wrong outside of a request: a handler that threw, a token that can't be had. */
  error: Error;
  /** Events that no subscription takes: sent straight to the user, or followed automatically. */
  event: TidingsEvent;
  subscribed: Subscribed;
  gap: Gap;
  /** What `onStale` hears, of every subscription. */
  stale: Stale;
}
