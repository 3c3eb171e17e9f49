import { Connection } from "./connection.js";
import { TidingsError } from "./errors.js";
import { Subscriber } from "./subscriber.js";
import { ConnectionPool } from "./connection-pool.js";
import { Stream } from "./stream.js";
import type {
  AnyEvents,
  ClientEvents,
  EventOf,
  EventStream,
  Gap,
  History,
  HistoryOptions,
  Options,
  Presence,
  Published,
  PublishOptions,
  Stale,
  State,
  StateChange,
  StreamOptions,
  Subscribed,
  SubscribeOptions,
  Subscription,
  TypePattern,
} from "./types.js";

/** Subscribes to the channels of a server, and reconnects when necessary. */
export class Client<Events = AnyEvents> {
  readonly #connection: Connection;
  readonly #pool: ConnectionPool;
  readonly #session = random();
  #published = 0;

  constructor(url: string | URL, options: Options = {}) {
    this.#connection = new Connection(url, options);
    const open = () => {
      const connection = new Connection(url, options, this.#connection.tokens);
      connection.events.on("error", (error) => this.#connection.events.emit("error", error));
      return connection;
    };
    this.#pool = new ConnectionPool(this.#connection, open);
    this.#connection.events.on("state", ({ state }) => {
      if (state === "closed") this.#pool.close();
    });
  }

  /** @internal Sets the token source, from the next connection on. */
  useToken(source: Options["token"]): void {
    this.#connection.tokens.source = source;
  }

  /** The state of the connection. */
  get state(): State {
    return this.#connection.state;
  }

  /** The last change of the state, with the reason if a connection was lost. The same object until the next change. */
  get connection(): StateChange {
    return this.#connection.last;
  }

  /** Adds a listener; the returned function removes it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (value: ClientEvents[Name]) => void): () => void {
    return this.#connection.events.on(name, listener);
  }

  /** Subscribes to a channel: each event is delivered once and in order, over any number of connections. */
  subscribe<const Pattern extends TypePattern<Events> = keyof Events & string>(
    channel: string,
    options: SubscribeOptions<Pattern>,
    handler: (event: EventOf<Events, Pattern>) => unknown,
  ): Subscription;
  subscribe(channel: string, handler: (event: EventOf<Events>) => unknown): Subscription;
  /** Subscribes to a channel with `for await`. Events are buffered from now on, also before the loop begins. */
  subscribe<const Pattern extends TypePattern<Events> = keyof Events & string>(
    channel: string,
    options?: StreamOptions<Pattern>,
  ): EventStream<EventOf<Events, Pattern>>;
  subscribe(channel: string, ...rest: any[]): any {
    const handler = typeof rest.at(-1) === "function" ? rest.pop() : undefined;
    return this.#subscribe(channel, rest[0] ?? {}, handler);
  }

  /** Publishes an event; resolves when it has its offset in the channel. */
  async publish<Type extends keyof Events & string>(
    channel: string,
    type: Type,
    data: Events[Type],
    options: PublishOptions = {},
  ): Promise<Published> {
    const { idempotencyKey, ...rest } = options;
    const { event_id, epoch, offset, duplicate } = await this.#connection.ask({
      type: "publish",
      channel,
      event_type: type,
      data: data ?? null,
      ...rest,
      idempotency_key: idempotencyKey ?? `${this.#session}-${++this.#published}`,
    });
    return { id: event_id, epoch, offset, ...(duplicate && { duplicate }) };
  }

  /** Reads the history of a channel. */
  async history(channel: string, options: HistoryOptions = {}): Promise<History<EventOf<Events>>> {
    const reply = await this.#connection.ask({ type: "history", channel, ...options });
    const { epoch, offset, events } = reply;
    for (const event of events) event.epoch = epoch;
    return { channel, epoch, offset, events };
  }

  /** The users present in a channel. */
  async presence(channel: string): Promise<Presence> {
    const { users, total } = await this.#connection.ask({ type: "presence", channel });
    return { channel, users, total };
  }

  /**
   * Calls a method of the application behind the server, and resolves with its result. A call that was
   * sent is never repeated: if the connection is lost meanwhile, it fails with `unavailable`, and it is
   * unknown whether it had an effect.
   */
  async rpc<Result = unknown>(method: string, data?: unknown): Promise<Result> {
    const message = { type: "rpc", method, ...(data !== undefined && { data }) };
    return (await this.#connection.ask(message)).data;
  }

  /** Closes the client: requests fail with `cancelled`, loops end. */
  close(): void {
    this.#pool.close();
  }

  #subscribe(channel: string, options: StreamOptions, handler?: (event: any) => unknown): unknown {
    let settle!: { resolve: (how: Subscribed) => void; reject: (error: Error) => void };
    const ready = new Promise<Subscribed>((resolve, reject) => (settle = { resolve, reject }));
    ready.catch(() => {});
    let remove: (() => void) | undefined;
    const leave = () => remove?.();
    const told = this.#told(options);
    const { bufferLimit = 1000, overflow } = options;
    const stream = handler
      ? undefined
      : new Stream(bufferLimit, overflow === "drop_oldest", { left: leave, gap: told.gap });
    const subscriber: Subscriber = new Subscriber(options, {
      ...told,
      event: (event) => (stream ? stream.push(event) : this.#connection.handle(event, handler!)),
      subscribed: (how) => {
        settle.resolve(how);
        told.subscribed(how);
      },
      ended: (error) => {
        settle.reject(error);
        if (stream) stream.end(this.state === "closed" && isCancelled(error) ? undefined : error);
        told.ended(error);
      },
    });
    const subscription = {
      channel,
      ready,
      get position() {
        return subscriber.at && { ...subscriber.at };
      },
      unsubscribe: () => {
        leave();
        stream?.end();
        settle.reject(new TidingsError("cancelled", "unsubscribed"));
      },
      ...(stream && { [Symbol.asyncIterator]: () => stream }),
    };
    if (this.state === "closed") throw new TidingsError("cancelled", "the client is closed");
    remove = this.#pool.add(channel, subscriber);
    return subscription;
  }

  /** Calls the listeners: the subscription's own callbacks, and those of the client. */
  #told(options: SubscribeOptions) {
    const { events, guard } = this.#connection;
    const stale = (why: Stale) => {
      guard(() => options.onStale?.(why));
      events.emit("stale", why);
    };
    return {
      subscribed: (how: Subscribed) => {
        guard(() => options.onSubscribed?.(how));
        events.emit("subscribed", how);
        if (how.recovered === false) stale({ recovered: false, channel: how.channel });
      },
      gap: (gap: Gap) => {
        guard(() => options.onGap?.(gap));
        events.emit("gap", gap);
        // The newer events that replaced the conflated ones follow.
        if (gap.reason !== "conflated") stale(gap);
      },
      presence: (change: any) => guard(() => options.onPresence?.(change)),
      ended: (error: Error) => {
        if (isCancelled(error)) return;
        guard(() => options.onError?.(error));
        // The close of the client itself is reported once.
        if (!options.onError && this.state !== "closed") events.emit("error", error);
      },
    };
  }
}

/** Connects to a server, such as `wss://events.example.com/ws`; in a page `/ws` is enough. */
export function connect<Events = AnyEvents>(url: string | URL, options?: Options): Client<Events> {
  return new Client<Events>(url, options);
}

function isCancelled(error: Error): boolean {
  return error instanceof TidingsError && error.code === "cancelled";
}

/** Works without `crypto.randomUUID`, which is missing in pages loaded over plain HTTP. */
function random(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
