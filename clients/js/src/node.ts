import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";
import { randomBytes } from "node:crypto";
import { TidingsError } from "./errors.js";
import { type FollowOptions, Following } from "./following.js";
import { Pace } from "./pace.js";
import { schema } from "./schema.js";
import { errorOfCall, errorOfStatus } from "./status.js";
import type { AnyEvents, EventOf, Position, Presence, TypePattern } from "./types.js";
import { dateOf, durationOf, eventOf, millisOf, type Wired } from "./wired.js";

export { type Code, TidingsError } from "./errors.js";
export type { FollowOptions, Following } from "./following.js";
export type { EventOf, Gap, Position, Presence, Stale, TidingsEvent } from "./types.js";

export interface NodeOptions {
  /** A token, or a function that fetches one: it is called again when a token is refused. */
  token?: string | ((why: { refused: boolean }) => string | Promise<string>);
  /** For `https:` URLs: a custom root certificate, and for mutual TLS a key and a certificate (PEM). */
  tls?: { ca?: Uint8Array; key?: Uint8Array; cert?: Uint8Array };
  /** Milliseconds that a call may take, including its retries; 30 000 by default. */
  timeoutMs?: number;
}

/** The receivers of an event, in addition to or instead of the subscribers of a channel. */
export interface Audience {
  users?: string[];
  roles?: string[];
  connections?: string[];
  exceptConnections?: string[];
}

export interface NodePublishOptions {
  headers?: Record<string, string>;
  /** The conflation key. */
  key?: string;
  /** Generated for events with a channel, so that a retry is not published twice. */
  idempotencyKey?: string;
  audience?: Audience;
  /** The publisher, as subscribers see it. */
  source?: string;
  /** When the event happened. */
  time?: Date;
  /** The media type of a `Uint8Array` as data; `application/octet-stream` by default. */
  contentType?: string;
  /** How long the event may be replayed and read from history, in milliseconds. */
  ttlMs?: number;
  /** Delivers the event and keeps it nowhere. */
  skipHistory?: boolean;
  /** Publishes only if this is the channel's newest offset, 0 before its first event; otherwise `failed_precondition`. */
  expectedOffset?: number;
  /** W3C Trace Context of this event. */
  traceparent?: string;
  tracestate?: string;
}

/** How far a user has acknowledged a channel. */
export interface Cursor {
  user: string;
  durable: string;
  channel: string;
  position?: Position;
  usedAt: Date;
}

/** An event to publish. A `Uint8Array` as data is sent as it is, anything else as JSON. */
export interface Draft<Events = AnyEvents, Type extends keyof Events & string = keyof Events & string> extends NodePublishOptions {
  /** A channel, several (at most 100), or none: then the event is sent to the audience, or without one to `global`. */
  channel?: string | string[];
  type: Type;
  data: Events[Type] | Uint8Array;
}

/** The result of an event. */
export interface Receipt {
  /** The event's id. */
  id: string;
  /** One for each channel. */
  results: { channel: string; position?: Position; subscribers: number; duplicate: boolean }[];
}

/** The result of one event of a batch. */
export type BatchReceipt = (Receipt & { error?: undefined }) | { error: TidingsError };

export interface PageOptions {
  pageSize?: number;
}

export interface ConnectionFilter extends PageOptions {
  user?: string;
  role?: string;
  channel?: string;
  transport?: "websocket" | "socketio" | "sse" | "grpc";
  clientType?: string;
  /** Only connections of this node: its name or its number. */
  node?: string;
  /** Called for each page that lacks nodes, with their names: they did not answer in time. */
  onUnreachable?: (nodes: string[]) => void;
}

/** A connection, as operators see it. */
export interface ConnectionInfo {
  id: string;
  user: string;
  roles: string[];
  transport: string;
  clientType: string;
  clientName: string;
  address: string;
  connectedAt: Date;
  lastSeenAt: Date;
  subscriptions: { channel: string; position?: Position }[];
  delivered: number;
  dropped: number;
  bytesIn: number;
  bytesOut: number;
  outboxBytes: number;
  roundTripMs?: number;
  /** The name of its node. */
  node: string;
}

/** The counters of a node. */
export interface Stats {
  node: string;
  uptimeMs: number;
  connections: { now: number; peak: number; total: number; byTransport: Record<string, number>; byClientType: Record<string, number> };
  subscriptions: number;
  channels: number;
  events: Record<"published" | "delivered" | "replayed" | "dropped" | "conflated" | "filtered", number> & { byType: Record<string, number> };
  bytesIn: number;
  bytesOut: number;
  errors: Record<string, number>;
  authFailures: number;
  rateLimited: number;
  slowConsumers: number;
  latencyMs: Record<"p50" | "p90" | "p99" | "max", number>;
}

/** The counters of all nodes together, and of each. */
export interface ClusterStats extends Stats {
  nodes: Stats[];
  /** The names of nodes that did not answer in time: their counters are missing. */
  unreachable: string[];
}

/** A declared event type. */
export interface EventType {
  name: string;
  namespace: string;
  description: string;
  roles: string[];
  /** JSON Schema as text; empty if there is none. */
  schema: string;
  example: string;
}

/** Whether a payload would be accepted. */
export interface Verdict {
  valid: boolean;
  errors: { path: string; message: string }[];
}

const LOADED = loader.fromJSON(schema as any, { longs: Number, defaults: true, oneofs: true, arrays: true, objects: true });
const PACKAGE: any = grpc.loadPackageDefinition(LOADED);
/** The most unanswered events of one stream: the server resets a stream that is too far ahead. */
const STREAM_WINDOW = 128;
/** The longest delay between two attempts of a call, in milliseconds. */
const PAUSE_MS = 5_000;

/** A back end's gRPC client for the server's internal listener. */
export class Backend<Events = AnyEvents> {
  readonly #services = new Map<string, any>();
  readonly #credentials: grpc.ChannelCredentials;
  readonly #address: string;
  readonly #pace = new Pace();
  readonly #session = randomBytes(12).toString("hex");
  readonly #following = new Set<{ unsubscribe(): void }>();
  #published = 0;
  #token: Promise<string> | undefined;
  #closed = false;

  constructor(
    address: string,
    readonly options: NodeOptions = {},
  ) {
    const secure = address.startsWith("https://");
    this.#address = address.replace(/^[a-z]+:\/\//, "").replace(/\/$/, "");
    const { ca, key, cert } = options.tls ?? {};
    const bytes = (pem: Uint8Array | undefined) => (pem ? Buffer.from(pem) : null);
    this.#credentials = secure ? grpc.credentials.createSsl(bytes(ca), bytes(key), bytes(cert)) : grpc.credentials.createInsecure();
  }

  /** Publishes an event; resolves when it has its offset in every channel. */
  publish<Type extends keyof Events & string>(
    channel: string | string[],
    type: Type,
    data: Events[Type] | Uint8Array,
    options?: NodePublishOptions,
  ): Promise<Receipt>;
  publish<Type extends keyof Events & string>(draft: Draft<Events, Type>): Promise<Receipt>;
  async publish(first: any, type?: any, data?: any, options: NodePublishOptions = {}): Promise<Receipt> {
    const draft: Draft = type === undefined ? first : { channel: first, type, data, ...options };
    const request = this.#request(draft);
    // Without an idempotency key it is unknown whether a failed attempt has published the event.
    return receiptOf(await this.#call("EventService", "publish", request, request.idempotencyKey !== ""));
  }

  /** Publishes up to 1,000 events in order; each has its own result. */
  async publishBatch(drafts: Draft<Events>[]): Promise<BatchReceipt[]> {
    const requests = drafts.map((draft) => this.#request(draft as Draft));
    const safe = requests.every(({ idempotencyKey }) => idempotencyKey !== "");
    const { responses } = await this.#call("EventService", "publishBatch", { requests }, safe);
    return responses.map((response: any) => (response.error ? { error: errorOfStatus(response.error) } : receiptOf(response)));
  }

  /** A stream of publishes: many in flight at once, answered in order. If the stream breaks, the pending ones fail. */
  publishStream(): PublishStream<Events> {
    return new PublishStream<Events>(
      async () => this.#service("EventService").publishStream(await this.#metadata(false)),
      (draft) => this.#request(draft as Draft),
    );
  }

  /**
   * Subscribes to channels, in a loop: `for await (const event of backend.subscribe("project:*"))`.
   * It reconnects, and resumes every channel at its position.
   */
  subscribe<const Pattern extends TypePattern<Events> = keyof Events & string>(
    channels: string | readonly (string | { channel: string; since?: Position; rewind?: number })[],
    options: FollowOptions<Pattern> = {},
  ): Following<EventOf<Events, Pattern>> {
    if (this.#closed) throw new TidingsError("cancelled", "the client is closed");
    const open = async (request: object, refused: boolean) => this.#service("EventService").subscribe(request, await this.#metadata(refused));
    const list = typeof channels === "string" ? [channels] : channels;
    const following = new Following<EventOf<Events, Pattern>>(list, options, open, typeof this.options.token === "function", () => this.#following.delete(following), (request) => this.#call("EventService", "ack", request));
    this.#following.add(following);
    return following;
  }

  /** Reads a channel's history, page by page. */
  async *history(
    channel: string,
    options: { since?: Position; reverse?: boolean } & PageOptions = {},
  ): AsyncGenerator<EventOf<Events>, void, undefined> {
    const { since, reverse = false, pageSize = 0 } = options;
    yield* this.#pages<EventOf<Events>>("EventService", "getHistory", { channel, since, reverse, pageSize }, ({ events }) => events.map(eventOf));
  }

  /** Acknowledges events of a durable subscription up to an offset: of the token's user, or for services of another one. */
  async ack(channel: string, offset: number, options: { durable: string; user?: string }): Promise<void> {
    await this.#call("EventService", "ack", { channel, offset, ...options });
  }

  /** The cursors of durable subscriptions that match all conditions. Requires the role `service` or `admin`. */
  getCursors(filter: { channel?: string; user?: string; durable?: string } & PageOptions = {}): AsyncGenerator<Cursor, void, undefined> {
    return this.#pages("EventService", "getCursors", filter, ({ cursors }) =>
      cursors.map(({ usedAt, ...rest }: any) => ({ ...withoutNull(rest), usedAt: dateOf(usedAt) })),
    );
  }

  /** Removes events from a channel's history: up to an offset, of one user, or all. Requires the role `service` or `admin`. */
  async purgeHistory(channel: string, options: { untilOffset?: number; user?: string } = {}): Promise<{ purged: number; position?: Position }> {
    const { purged, position } = await this.#call("EventService", "purgeHistory", { channel, ...options });
    return { purged, ...(position && { position }) };
  }

  /**
   * Subscribes the connections that a user has now, or one connection, to channels. Resolves with how
   * many. Requires the role `service` or `admin`.
   */
  async subscribeUser(
    target: { user: string } | { connectionId: string },
    channels: string | string[],
    options: { eventTypes?: string[]; filter?: string } = {},
  ): Promise<number> {
    return (await this.#call("EventService", "subscribeUser", { ...target, channels: [channels].flat(), ...options })).connections;
  }

  /** Ends subscriptions of a user's connections, or of one. Resolves with how many connections there are. */
  async unsubscribeUser(target: { user: string } | { connectionId: string }, channels: string | string[]): Promise<number> {
    return (await this.#call("EventService", "unsubscribeUser", { ...target, channels: [channels].flat() })).connections;
  }

  /** The users present in a channel. */
  async presence(channel: string): Promise<Presence> {
    const { users, total } = await this.#call("ConnectionService", "getPresence", { channel });
    return { channel, users, total };
  }

  /** The counters of all nodes, or of one (its name or its number). Requires the role `admin`, like all following methods. */
  async stats(options: { node?: string } = {}): Promise<ClusterStats> {
    const { stats, nodes, unreachable } = await this.#call("ConnectionService", "getStats", options);
    return { ...statsOf(stats), nodes: nodes.map(statsOf), unreachable };
  }

  /** The counters at an interval, until the loop is left. */
  async *watchStats(intervalMs = 1000): AsyncGenerator<Stats, void, undefined> {
    const interval = durationOf(intervalMs);
    yield* this.#streamed<Stats>("ConnectionService", "watchStats", { interval }, ({ stats }) => statsOf(stats));
  }

  /** Connections, page by page. */
  connections({ onUnreachable, ...filter }: ConnectionFilter = {}): AsyncGenerator<ConnectionInfo, void, undefined> {
    return this.#pages("ConnectionService", "listConnections", filter, ({ connections, unreachable }) => {
      if (unreachable.length) onUnreachable?.(unreachable);
      return connections.map(connectionOf);
    });
  }

  async connection(connectionId: string): Promise<ConnectionInfo> {
    return connectionOf((await this.#call("ConnectionService", "getConnection", { connectionId })).connection);
  }

  /** Closes one connection, or all connections of a user; `revoke` also revokes the tokens. Resolves with how many. */
  async disconnect(target: { connectionId: string } | { user: string }, options: { reason?: string; revoke?: boolean } = {}): Promise<number> {
    return (await this.#call("ConnectionService", "disconnect", { ...target, ...options })).disconnected;
  }

  /** Channels that have subscribers or history, by name. */
  channels(options: { prefix?: string } & PageOptions = {}): AsyncGenerator<{ channel: string; subscribers: number; position?: Position }, void, undefined> {
    return this.#pages("ConnectionService", "listChannels", options, ({ channels }) => channels.map(withoutNull));
  }

  /** The declared event types. */
  eventTypes(options: PageOptions = {}): AsyncGenerator<EventType, void, undefined> {
    return this.#pages("CatalogService", "listEventTypes", options, ({ eventTypes }) => eventTypes);
  }

  async eventType(name: string): Promise<EventType> {
    return (await this.#call("CatalogService", "getEventType", { name })).eventType;
  }

  /** Whether a payload would be accepted. */
  async validate(type: string, data: unknown): Promise<Verdict> {
    const { valid, errors } = await this.#call("CatalogService", "validateEvent", { type, data: bytesOf(data) });
    return { valid, errors };
  }

  /** A backup of a store on disk, in parts. */
  backup(): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#streamed("StoreService", "backup", {}, ({ part }) => part);
  }

  /** Closes the client: loops end, calls in flight fail. */
  close(): void {
    this.#closed = true;
    for (const following of [...this.#following]) following.unsubscribe();
    for (const service of this.#services.values()) service.close();
    this.#services.clear();
  }

  #request(draft: Draft): Wired {
    const { channel, type, data, contentType, time, audience, idempotencyKey, ttlMs, ...rest } = draft;
    const channels = channel === undefined ? [] : [channel].flat();
    const binary = data instanceof Uint8Array;
    // A key is scoped to a channel: an event sent directly to an audience has none. Without either,
    // the channel is `global`.
    const direct = channels.length === 0 && audience !== undefined;
    return {
      ...rest,
      ...{ channels, type, audience, data: bytesOf(data) },
      contentType: contentType ?? (binary ? "application/octet-stream" : ""),
      idempotencyKey: idempotencyKey ?? (direct ? "" : `${this.#session}-${++this.#published}`),
      ...(ttlMs !== undefined && { ttl: durationOf(ttlMs) }),
      ...(time && { time: { seconds: Math.floor(time.getTime() / 1000), nanos: (time.getTime() % 1000) * 1e6 } }),
    };
  }

  /** Makes one call, and repeats it if that is safe and may succeed. */
  async #call(service: string, method: string, request: object, safe = true): Promise<any> {
    const end = Date.now() + (this.options.timeoutMs ?? 30_000);
    let refused = false;
    for (let attempt = 0; ; attempt++) {
      const number = await this.#pace.enter();
      let failure: TidingsError;
      try {
        const answer = await this.#once(service, method, request, await this.#metadata(refused), end);
        this.#pace.leave(number);
        return answer;
      } catch (thrown) {
        failure = errorOfCall(thrown);
        const paced = failure.code === "resource_exhausted" ? failure.retryAfterMs : undefined;
        this.#pace.leave(number, paced);
      }
      const renews: boolean = failure.code === "unauthenticated" && typeof this.options.token === "function" && !refused;
      const passing = (failure.code === "unavailable" && safe) || (failure.code === "resource_exhausted" && failure.retryAfterMs !== undefined);
      const grown = Math.random() * Math.min(PAUSE_MS, 100 * 2 ** attempt);
      const wait = renews ? 0 : (failure.retryAfterMs ?? 0) + grown;
      if (this.#closed || !(renews || passing) || Date.now() + wait >= end) throw failure;
      refused = renews;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  #once(service: string, method: string, request: object, metadata: grpc.Metadata, deadline: number): Promise<any> {
    return new Promise((resolve, reject) => {
      const done = (error: unknown, answer: unknown) => (error ? reject(error) : resolve(answer));
      this.#service(service)[method](request, metadata, { deadline }, done);
    });
  }

  async *#pages<Item>(service: string, method: string, request: object, items: (answer: any) => Item[]): AsyncGenerator<Item, void, undefined> {
    for (let pageToken = ""; ; ) {
      const answer = await this.#call(service, method, { ...request, pageToken });
      yield* items(answer);
      pageToken = answer.nextPageToken;
      if (!pageToken) return;
    }
  }

  async *#streamed<Item>(service: string, method: string, request: object, item: (answer: any) => Item): AsyncGenerator<Item, void, undefined> {
    const call = this.#service(service)[method](request, await this.#metadata(false));
    try {
      for await (const answer of call) yield item(answer);
    } catch (thrown) {
      throw errorOfCall(thrown);
    } finally {
      call.cancel();
    }
  }

  #service(name: string): any {
    if (this.#closed) throw new TidingsError("cancelled", "the client is closed");
    let service = this.#services.get(name);
    if (!service) {
      const options = {
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.max_receive_message_length": 64 << 20,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": PAUSE_MS,
      };
      service = new PACKAGE.tidings.v1[name](this.#address, this.#credentials, options);
      this.#services.set(name, service);
    }
    return service;
  }

  async #metadata(refused: boolean): Promise<grpc.Metadata> {
    const metadata = new grpc.Metadata();
    const { token } = this.options;
    if (typeof token === "function") {
      if (refused) this.#token = undefined;
      // Callers during a fetch share its result; a failure is not cached.
      const asked = (this.#token ??= Promise.resolve(token({ refused })));
      asked.catch(() => (this.#token = this.#token === asked ? undefined : this.#token));
      metadata.set("authorization", `Bearer ${await asked}`);
    } else if (token) {
      metadata.set("authorization", `Bearer ${token}`);
    }
    return metadata;
  }
}

interface Publish {
  request: object;
  resolve: (receipt: Receipt) => void;
  reject: (error: Error) => void;
  sent?: () => void;
}

/** Publishes over one stream. */
export class PublishStream<Events = AnyEvents> {
  readonly #open: Promise<any>;
  /** Sent, in order, not answered yet. */
  #waiting: Publish[] = [];
  /** Not sent yet, in order. */
  #queue: Publish[] = [];
  #call: any;
  #failure: TidingsError | undefined;

  /** @internal */
  constructor(
    open: () => Promise<any>,
    readonly toRequest: (draft: Draft<Events>) => object,
  ) {
    this.#open = open().then((call) => {
      call.on("data", ({ response }: any) => {
        const waiting = this.#waiting.shift();
        if (response.error) waiting?.reject(errorOfStatus(response.error));
        else waiting?.resolve(receiptOf(response));
        this.#pump();
      });
      call.on("error", (error: unknown) => this.#fail(errorOfCall(error)));
      call.on("end", () => this.#fail(new TidingsError("unavailable", "the stream has ended")));
      this.#call = call;
      this.#pump();
      return call;
    });
    this.#open.catch((error) => this.#fail(errorOfCall(error)));
  }

  /** Resolves with the result of this event; does not wait for earlier ones. */
  async publish(draft: Draft<Events>): Promise<Receipt> {
    const request = this.toRequest(draft);
    if (this.#failure) throw this.#failure;
    const receipt = new Promise<Receipt>((resolve, reject) => this.#queue.push({ request, resolve, reject }));
    this.#pump();
    return receipt;
  }

  /** Ends the stream: resolves when all events are answered. */
  async end(): Promise<void> {
    const call = await this.#open;
    const last = this.#queue.at(-1);
    // Queued events are sent first; their publishers handle refusals.
    if (last) await new Promise<void>((resolve) => (last.sent = resolve));
    if (this.#failure) return;
    const ended = new Promise((resolve) => call.once("close", resolve).once("end", resolve).once("error", resolve));
    call.end();
    await ended;
  }

  #fail(error: TidingsError): void {
    this.#failure ??= error;
    const open = [...this.#waiting, ...this.#queue];
    this.#waiting = [];
    this.#queue = [];
    for (const { reject, sent } of open) {
      sent?.();
      reject(error);
    }
  }

  #pump(): void {
    if (!this.#call || this.#failure) return;
    while (this.#queue.length && this.#waiting.length < STREAM_WINDOW) {
      const publish = this.#queue.shift()!;
      this.#waiting.push(publish);
      this.#call.write({ request: publish.request });
      publish.sent?.();
    }
  }
}

/** Connects to a server's internal listener, such as `http://127.0.0.1:50051`. */
export function connect<Events = AnyEvents>(address: string, options?: NodeOptions): Backend<Events> {
  return new Backend<Events>(address, options);
}

function bytesOf(data: unknown): Uint8Array {
  return data instanceof Uint8Array ? data : Buffer.from(JSON.stringify(data ?? null));
}

/** Absent messages are omitted, as everywhere in this package. */
function withoutNull<Value extends object>(value: Value): Value {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null)) as Value;
}

function receiptOf({ id, results }: any): Receipt {
  return { id, results: results.map(withoutNull) };
}

function connectionOf({ connectedAt, lastSeenAt, roundTrip, subscriptions, ...rest }: any): ConnectionInfo {
  return {
    ...rest,
    connectedAt: dateOf(connectedAt),
    lastSeenAt: dateOf(lastSeenAt),
    subscriptions: subscriptions.map(withoutNull),
    ...(roundTrip && { roundTripMs: millisOf(roundTrip) }),
  };
}

function statsOf({ uptime, latency, ...rest }: any): Stats {
  const [p50, p90, p99, max] = [latency?.p50, latency?.p90, latency?.p99, latency?.max].map(millisOf);
  return { ...rest, uptimeMs: millisOf(uptime), latencyMs: { p50, p90, p99, max } } as Stats;
}
