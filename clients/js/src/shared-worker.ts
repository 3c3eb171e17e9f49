import { Connection } from "./connection.js";
import { type TidingsError } from "./errors.js";
import { Subscriber } from "./subscriber.js";
import { ConnectionPool } from "./connection-pool.js";
import type { ToTab, ToWorker, WorkerOptions } from "./port.js";
import type { SubscribeOptions, TidingsEvent } from "./types.js";

/** How long a tab may take to provide a token, in milliseconds, before another one is asked. */
const TOKEN_MS = 10_000;
/** How long a connection stays without tabs, in milliseconds: a page that is reloaded reuses it. */
const LINGER_MS = 2_000;

/** One connection to a server, and the tabs that share it. */
class Upstream {
  readonly connection: Connection;
  readonly pool: ConnectionPool;
  readonly sessions = new Set<Session>();
  #linger: ReturnType<typeof setTimeout> | undefined;
  /** The last confirmed events: several tabs may have handled the same one. */
  readonly #confirmed = new Set<string>();

  constructor(
    readonly url: string,
    { hasToken, ...options }: WorkerOptions,
  ) {
    const token = hasToken ? { token: (why: { refused: boolean }) => this.#token(why.refused) } : {};
    const settings = { ...options, ...token, confirm: false };
    this.connection = new Connection(url, settings);
    this.pool = new ConnectionPool(this.connection, () => new Connection(url, settings, this.connection.tokens));
    this.connection.events.on("state", ({ state, code = 1006, reason = "" }) => {
      if (state === "closed") {
        this.pool.close();
        if (upstreams.get(url) === this) upstreams.delete(url);
      }
      for (const session of [...this.sessions]) {
        if (state === "open") session.established();
        else if (state === "closed" || session.stands) session.end(code, reason);
      }
    });
    this.connection.events.on("event", (event) => this.#all(event));
    this.connection.events.on("error", ({ message, code = "unavailable" }: any) => {
      this.#all({ type: "error", code, message });
    });
  }

  enter(session: Session): void {
    clearTimeout(this.#linger);
    this.sessions.add(session);
    if (this.connection.state === "open") session.established();
  }

  leave(session: Session): void {
    this.sessions.delete(session);
    if (this.sessions.size) return;
    this.#linger = setTimeout(() => this.pool.close(), LINGER_MS);
  }

  confirm(message: { id: string }): void {
    if (this.#confirmed.has(message.id)) return;
    this.#confirmed.add(message.id);
    const [oldest] = this.#confirmed;
    if (this.#confirmed.size > 1000) this.#confirmed.delete(oldest!);
    this.connection.send(message);
  }

  #all(message: object): void {
    for (const session of this.sessions) session.send(message);
  }

  async #token(refused: boolean): Promise<string | null> {
    let failure = new Error("no tab has given a token");
    const tabs = new Set([...this.sessions].reverse().map((session) => session.tab));
    for (const tab of tabs) {
      try {
        return await tab.token(refused);
      } catch (error) {
        failure = error as Error;
      }
    }
    throw failure;
  }
}

const upstreams = new Map<string, Upstream>();

/** A tab's virtual connection: to the tab it looks like the server's. */
class Session {
  readonly #follows = new Map<string, { subscriber: Subscriber; remove: () => void }>();
  #last: TidingsEvent | undefined;
  stands = false;

  constructor(
    readonly tab: Tab,
    readonly number: number,
    readonly upstream: Upstream,
  ) {
    upstream.enter(this);
  }

  established(): void {
    this.stands = true;
    const timestamp = new Date().toISOString();
    this.send({ type: "connection_established", heartbeat_interval_ms: 30_000, timestamp });
  }

  end(code: number, reason: string): void {
    this.leave();
    this.tab.post({ closed: this.number, code, reason });
  }

  leave(): void {
    this.tab.sessions.delete(this.number);
    for (const channel of [...this.#follows.keys()]) this.#leave(channel);
    this.upstream.leave(this);
  }

  send(message: object): void {
    this.tab.post({ text: JSON.stringify(message), socket: this.number });
  }

  take(message: any): void {
    const { type, id } = message;
    switch (type) {
      case "ping":
        return this.send({ type: "pong" });
      case "register":
      case "heartbeat_response":
        return;
      case "receive":
        return this.upstream.confirm(message);
      case "subscribe":
        for (const channel of message.channels) this.#follow(channel, message);
        return;
      case "ack":
        return this.#follows.get(message.channel)?.subscriber.ack(message.offset);
      case "unsubscribe":
        for (const channel of message.channels) this.#leave(channel);
        return this.send({ type: "unsubscribed", id, channels: message.channels });
      default:
        this.upstream.connection.ask(message, type === "rpc").then(
          (reply) => this.send({ ...reply, id }),
          (error: TidingsError) => this.send({ type: "error", id, ...wire(error) }),
        );
    }
  }

  #follow(channel: string, message: any): void {
    const { id, since, event_types, filter, presence, rewind, durable, min_interval } = message;
    const options: SubscribeOptions = {
      ...{ eventTypes: event_types, filter, since: since?.[channel], rewind: since?.[channel] ? undefined : rewind },
      ...(durable && { durable }),
      ...(min_interval && { minIntervalMs: parseInt(min_interval) }),
      ...(presence && { onPresence: () => {} }),
    };
    let told = false;
    const refuse = (error: TidingsError) => {
      this.#follows.delete(channel);
      if (told) this.send({ type: "unsubscribed", channels: [channel], reason: wire(error) });
      else this.send({ type: "subscribed", id, channels: [], errors: [{ channel, ...wire(error) }] });
    };
    const subscriber = new Subscriber(options, {
      event: (event) => {
        // An event that matches a channel and a pattern arrives twice; the tab gets it once.
        if (event !== this.#last) this.send((this.#last = event));
      },
      subscribed: (how) => {
        // A later `subscribed` follows a gap, after which the tab subscribes again.
        if (!told) this.send({ type: "subscribed", id, channels: [{ recovered: false, ...how }], errors: [] });
        told = true;
      },
      gap: (gap) => this.send({ type: "gap", ...gap }),
      presence: ({ joined, ...rest }) => this.send({ type: joined ? "presence_joined" : "presence_left", ...rest }),
      ended: (error) => refuse(error as TidingsError),
    });
    this.#leave(channel);
    this.#follows.set(channel, { subscriber, remove: this.upstream.pool.add(channel, subscriber) });
  }

  #leave(channel: string): void {
    const follow = this.#follows.get(channel);
    this.#follows.delete(channel);
    follow?.remove();
  }
}

/** A tab, over all its sessions. */
class Tab {
  readonly sessions = new Map<number, Session>();
  readonly #asked = new Map<number, { resolve: (token: string | null) => void; reject: (error: Error) => void }>();
  #count = 0;

  constructor(readonly port: MessagePort) {
    port.onmessage = ({ data }) => this.#take(data);
    this.post({ hello: true });
  }

  post(message: ToTab): void {
    this.port.postMessage(message);
  }

  /** Asks the tab for a token. */
  token(refused: boolean): Promise<string | null> {
    const ask = ++this.#count;
    return new Promise<string | null>((resolve, reject) => {
      this.#asked.set(ask, { resolve, reject });
      setTimeout(() => reject(new Error("the tab gave no token in time")), TOKEN_MS);
      this.post({ ask, refused });
    }).finally(() => this.#asked.delete(ask));
  }

  #take(message: ToWorker): void {
    if ("open" in message) return this.#open(message);
    if ("answer" in message) {
      const asked = this.#asked.get(message.answer);
      if (message.failed !== undefined) asked?.reject(new Error(message.failed));
      else asked?.resolve(message.token ?? null);
    } else if ("close" in message) {
      this.sessions.get(message.close)?.leave();
    } else {
      const session = this.sessions.get(message.socket);
      if (session) session.take(JSON.parse(message.text));
      else this.post({ closed: message.socket, code: 1006, reason: "the worker does not know this tab" });
    }
  }

  #open({ open, url, options, lock }: Extract<ToWorker, { open: number }>): void {
    if (lock) void navigator.locks.request(lock, () => this.#gone());
    let upstream = upstreams.get(url);
    if (!upstream) upstreams.set(url, (upstream = new Upstream(url, options)));
    // Registered before it is started, because that may already be answered.
    const session = new Session(this, open, upstream);
    this.sessions.set(open, session);
  }

  #gone(): void {
    for (const session of [...this.sessions.values()]) session.leave();
  }
}

function wire(error: TidingsError): object {
  const { code = "internal", message, details, retryAfterMs } = error;
  return { code, message, details, retry_after_ms: retryAfterMs };
}

(globalThis as any).onconnect = ({ ports }: MessageEvent) => new Tab(ports[0]!);
