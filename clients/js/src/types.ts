/** The event types of an application with the types of their `data`: `{ "project.updated": { status: string } }`. */
export type AnyEvents = Record<string, any>;

/** A position in a channel. Offsets count from 1 within an epoch. */
export interface Position {
  epoch: string;
  offset: number;
}

/** An event, as a handler gets it. */
export interface TidingsEvent<Type extends string = string, Data = any> {
  type: Type;
  /** Missing if the event was sent directly to this user, role or connection. */
  channel?: string;
  id: string;
  /** RFC 3339. */
  timestamp: string;
  /** Only with history. */
  offset?: number;
  /** Only with history: together with `offset` the position to keep for a later `since`. */
  epoch?: string;
  headers?: Record<string, string>;
  /** As published; missing if the payload is not JSON. */
  data: Data;
  /** A payload that is not JSON. */
  data_base64?: string;
  content_type?: string;
  traceparent?: string;
  tracestate?: string;
}

/** Names of event types, exact or with a trailing `*`. */
export type TypePattern<Events> = (keyof Events & string) | `${string}*`;

/** The event types that a name or pattern matches. */
type Matching<Events, Pattern> = Pattern extends `${infer Start}*`
  ? Extract<keyof Events & string, `${Start}${string}`>
  : Pattern & keyof Events;

/** An event of one of these types. `switch (event.type)` narrows `event.data`. */
export type EventOf<Events, Pattern = keyof Events & string> = {
  [Type in Matching<Events, Pattern> & string]: TidingsEvent<Type, Events[Type]>;
}[Matching<Events, Pattern> & string];

/** The state of a subscription. */
export interface Subscribed {
  channel: string;
  /** The channel's position; missing without history. */
  epoch?: string;
  offset?: number;
  /**
   * Whether nothing was missed since the position from which it resumed. `false`: reload the state.
   * Missing if there was nothing to resume.
   */
  recovered?: boolean;
  /** Only with `durable`: the acknowledged offset. */
  cursor?: number;
}

/** Events that will not be delivered. `from` and `to` are 0 if the channel has no history. */
export interface Gap {
  channel: string;
  from: number;
  to: number;
  reason: "slow_consumer" | "conflated" | "expired" | "unavailable" | (string & {});
}

/** A user joined or left a channel. */
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
  /** A CEL expression. A further filter for the same channel needs a further connection. */
  filter?: string;
  /** Resume after this position. */
  since?: Position;
  /** Begin with the newest *n* events. Without effect with `durable`. */
  rewind?: number;
  /**
   * The name of a durable subscription: it resumes behind what the user has acknowledged, on any
   * device. Events that were not acknowledged before a reconnect are delivered again.
   */
  durable?: string;
  /**
   * With `durable`: acknowledges an event when its handler has returned, or its promise has
   * resolved, without an error; in a `for await` loop, when the loop asks for the next event. After
   * an error nothing more is acknowledged until the next connection delivers the event again.
   */
  autoAck?: boolean;
  /** At most one event of a key in so many milliseconds, always the newest: 10 to 3 600 000. */
  minIntervalMs?: number;
  /** The state must be reloaded: `recovered: false`, or a `gap` other than `conflated`. */
  onStale?: (why: Stale) => void;
  /** The subscription is confirmed: at the beginning, and again after each reconnect. */
  onSubscribed?: (how: Subscribed) => void;
  onGap?: (gap: Gap) => void;
  onPresence?: (change: PresenceChange) => void;
  /** The subscription was refused or ended by the server; nothing more is delivered. */
  onError?: (error: Error) => void;
}

export interface StreamOptions<Pattern extends string = string> extends SubscribeOptions<Pattern> {
  /** The most events buffered for the loop; 1000 by default. */
  bufferLimit?: number;
  /**
   * At the limit, `fail` (the default) ends the loop with `resource_exhausted` after the buffered
   * events, `drop_oldest` continues, with a gap of the reason `buffer_full`.
   */
  overflow?: "fail" | "drop_oldest";
}

/** A subscription. */
export interface Subscription {
  readonly channel: string;
  /** The last position: pass it as `since` to continue from here. */
  readonly position: Position | undefined;
  /** Resolves when it is confirmed for the first time; rejects if it is refused. */
  readonly ready: Promise<Subscribed>;
  /** With `durable`: acknowledges all events up to this offset. An earlier offset has no effect. */
  ack(offset: number): void;
  unsubscribe(): void;
}

/** A subscription to be read with `for await`. Leaving the loop unsubscribes. */
export interface EventStream<Event> extends Subscription, AsyncIterable<Event> {}

export interface PublishOptions {
  headers?: Record<string, string>;
  /** The conflation key. */
  key?: string;
  /** Generated by default, so that a repeat after a disconnect is not published twice. */
  idempotencyKey?: string;
  /** W3C Trace Context. */
  traceparent?: string;
  tracestate?: string;
}

export interface Published {
  /** The event's id. */
  id: string;
  epoch?: string;
  offset?: number;
  /** True if this idempotency key was published before. */
  duplicate?: boolean;
}

export interface RpcOptions {
  /** Milliseconds to wait for the result; `requestTimeoutMs` by default. */
  timeoutMs?: number;
  /**
   * The call may be executed twice: it is repeated if the connection is lost before the result
   * arrives. Otherwise it fails with `unavailable`.
   */
  idempotent?: boolean;
}

export interface HistoryOptions {
  /** 1 to 1000; 100 by default. */
  limit?: number;
  /** Only events after this position; with `reverse`, before it. */
  since?: Position;
  /** Newest first. */
  reverse?: boolean;
}

export interface History<Event = TidingsEvent> {
  channel: string;
  epoch: string;
  /** The channel's position. */
  offset: number;
  events: Event[];
}

export interface Presence {
  channel: string;
  users: { user: string; connections: number }[];
  total: number;
}

export type State =
  /** A connection is being opened. */
  | "connecting"
  /** Connected and, with a token, authenticated. */
  | "open"
  /** The connection was lost; the next attempt follows. */
  | "waiting"
  /** Closed by `close()`, or by the server. */
  | "closed";

/** The state of the client. */
export interface StateChange {
  state: State;
  /** With `waiting` and `closed`: the close code (RFC 6455, or the server's own from 4400). */
  code?: number;
  reason?: string;
  /** With `waiting`: milliseconds until the next attempt. */
  delayMs?: number;
}

/** Called before connecting, shortly before a token expires, and when one was refused. `null`: no token. */
export type TokenProvider = (why: {
  /** True if the last token expired or was refused. */
  refused: boolean;
}) => string | null | Promise<string | null>;

/** The required part of the standard `WebSocket`. */
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
  /** A token, or better a function that fetches one: only then can it be renewed. */
  token?: string | TokenProvider;
  /** Shown to the server's operator. */
  clientType?: string;
  clientName?: string;
  /** The class to connect with; `globalThis.WebSocket` by default. Node 20 has none: see `ws`. */
  WebSocket?: WebSocketClass;
  /**
   * The transports in order of preference: `["websocket", "sse"]` by default. The next one is tried
   * after two failed attempts in a row.
   */
  transports?: readonly ("websocket" | "sse")[];
  /** The most requests that wait for a connection or a reply; 1000 by default. */
  queueLimit?: number;
  /** Milliseconds that a request may take, including waiting; 30 000 by default. */
  requestTimeoutMs?: number;
  /** The upper bound of the first reconnect delay; it doubles. 1000 by default. */
  minDelayMs?: number;
  /** The longest delay; 30 000 by default. */
  maxDelayMs?: number;
  /** Milliseconds that opening a connection may take; 15 000 by default. */
  connectTimeoutMs?: number;
  /**
   * Called when the server closes the connection permanently (4403, 4410, a token that is refused
   * and can't be renewed): `true` reconnects nevertheless.
   */
  reconnect?: (close: { code: number; reason: string }) => boolean;
  /** `false`: never sends `receive` confirmations. */
  confirm?: boolean;
}

/** The events of a client, in addition to those of its subscriptions. */
export interface ClientEvents {
  state: StateChange;
  /** An error outside of a request: a handler that threw, a token that can't be fetched. */
  error: Error;
  /** Events that match no subscription: sent directly to the user, or subscribed automatically. */
  event: TidingsEvent;
  subscribed: Subscribed;
  gap: Gap;
  /** The argument of `onStale`, for every subscription. */
  stale: Stale;
}
