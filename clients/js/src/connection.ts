import { GOOD_MS, isFinal, pause } from "./backoff.js";
import { Confirmer } from "./confirm.js";
import { Emitter } from "./emitter.js";
import { asError, errorOf, TidingsError } from "./errors.js";
import { Liveness } from "./liveness.js";
import { watchPage } from "./page.js";
import { Requests } from "./requests.js";
import { Subscriptions } from "./subscriptions.js";
import { Tokens } from "./token.js";
import type { ClientEvents, Options, State, StateChange, TidingsEvent, WebSocketClass, WebSocketLike } from "./types.js";

const SUBPROTOCOL = "tidings.v1.json";
/** The client's own names for the end of a connection, if the server gives none. */
const LOST = 1006;
const RESTART = 1012;
const UNAUTHENTICATED = 4401;
const TOO_BIG = 1009;
/** Failed attempts in a row after which the next transport is tried. */
const TRIES = 2;
/** When using HTTP, a WebSocket is tried again after this long, in milliseconds; twice as long each time. */
const PROBE_MS = 30_000;
const LONGEST_PROBE_MS = 600_000;
/** Retry later: the server is full, or can't judge the token now. */
const FULL = 1013;
/**
 * The close code that the server would use for these errors; other transports authenticate before
 * the connection is open.
 */
const CLOSE_FOR: Record<string, number> = { unauthenticated: UNAUTHENTICATED, resource_exhausted: FULL, unavailable: FULL };

/** Maintains one connection at a time, for the lifetime of the client. */
export class Connection {
  readonly events = new Emitter<ClientEvents>();
  readonly subscriptions: Subscriptions;
  last: StateChange = { state: "connecting" };
  readonly #url: string;
  /** The current transport: an index of `#classes`. */
  #over = 0;
  #failed = 0;
  #welcomed = false;
  #probe: ReturnType<typeof setTimeout> | undefined;
  readonly #requests: Requests;
  readonly tokens: Tokens;
  readonly #alive: Liveness;
  readonly #confirmer = new Confirmer((message) => this.send(message));
  readonly #unwatch: () => void;
  #socket: WebSocketLike | undefined;
  /** Connects, reconnects, or stops connecting. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renewal: ReturnType<typeof setTimeout> | undefined;
  /** Pending `authenticate` requests, by id. */
  #authenticating: { id: number; then: (error?: TidingsError) => void } | undefined;
  #attempt = 0;
  #since = 0;
  #advised: number | undefined;
  #notBefore = 0;
  /** How far the server's clock is ahead, in milliseconds. */
  #skew = 0;
  /** Promises of the handlers of the event that is being delivered. */
  #handled: Promise<unknown>[] = [];
  /** The current attempt to connect; earlier ones are obsolete. */
  #current: object | undefined;

  constructor(
    url: string | URL,
    readonly options: Options,
    tokens?: Tokens,
  ) {
    this.#url = address(url);
    if (!this.#transports().length) {
      throw new TidingsError("failed_precondition", "no WebSocket here: give the option WebSocket (in Node 20, of the package ws)");
    }
    this.tokens = tokens ?? new Tokens(options.token);
    const { queueLimit = 1000, requestTimeoutMs = 30_000 } = options;
    this.#requests = new Requests((text) => this.#socket?.send(text), queueLimit, requestTimeoutMs);
    const connection = this;
    this.subscriptions = new Subscriptions({
      get ready() {
        return connection.state === "open";
      },
      send: (message) => this.send(message),
      ask: (message) => this.#requests.ask(message),
      nextId: () => this.#requests.nextId(),
    });
    this.#alive = new Liveness(
      () => this.send({ type: "ping" }),
      () => this.#lose(LOST, "the server is silent"),
    );
    this.#unwatch = watchPage({ online: () => this.#wake(), doubt: () => this.#alive.probe() });
    // During server-side rendering a page's URL can't be resolved: nothing is started.
    if (this.#url) void this.#connect();
  }

  get state(): State {
    return this.last.state;
  }

  /** Sends a request, now or when there is a connection. With `once` it is not sent again when that is lost. */
  ask(message: object, once?: boolean, timeout?: number): Promise<any> {
    if (this.state === "closed") return Promise.reject(cancelled());
    if (!this.#url) return Promise.reject(new TidingsError("failed_precondition", "the address has no host, and there is no page here to take it from"));
    return this.#requests.ask(message, once, timeout);
  }

  /** Runs a handler; an exception is emitted as `error`. Calls `then` with whether it failed. */
  handle(event: TidingsEvent, handler: (event: any) => unknown, then?: (failed?: boolean) => void): void {
    const failed = (thrown: unknown) => {
      then?.(true);
      this.#report(thrown);
    };
    try {
      const done = handler(event);
      if (done instanceof Promise) this.#handled.push(done.then(() => then?.(), failed));
      else then?.();
    } catch (thrown) {
      failed(thrown);
    }
  }

  /** Runs a callback of the application. */
  readonly guard = (run: () => unknown): unknown => {
    try {
      return run();
    } catch (thrown) {
      return this.#report(thrown);
    }
  };

  close(): void {
    if (this.state === "closed") return;
    this.subscriptions.sendAcks();
    const socket = this.#detach();
    socket?.close(1000);
    this.#end(1000, "closed", cancelled());
  }

  async #connect(): Promise<void> {
    this.#change({ state: "connecting" });
    const attempt = {};
    this.#current = attempt;
    this.#welcomed = false;
    clearTimeout(this.#timer);
    let token: string | null;
    try {
      token = await this.tokens.get();
    } catch (thrown) {
      if (this.#current === attempt) this.#noToken(thrown);
      return;
    }
    if (this.#current !== attempt) return;
    this.#advised = undefined;
    const { connectTimeoutMs = 15_000 } = this.options;
    this.#timer = setTimeout(() => this.#lose(LOST, "no connection in time"), connectTimeoutMs);
    try {
      const transports = this.#transports();
      let Class = transports[this.#over % transports.length] || undefined;
      // Most pages never need it, and do not load it.
      if (!Class) ({ HttpSocket: Class } = await import("./http-socket.js"));
      if (this.#current !== attempt) return;
      const socket = new Class(this.#url, [SUBPROTOCOL]);
      this.#socket = socket;
      socket.onmessage = ({ data }) => this.#read(data, token);
      socket.onclose = ({ code, reason }) => this.#lose(code, reason);
      // Pages get no details of the error; the close follows.
      socket.onerror = () => {};
    } catch (thrown) {
      if (this.#current !== attempt) return;
      this.#report(thrown);
      this.#lose(LOST, asError(thrown).message);
    }
  }

  /** The transports, in order of preference: the class for WebSockets, or `null` for HTTP. */
  #transports(): (WebSocketClass | null)[] {
    const { transports = ["websocket", "sse"] } = this.options;
    const found = this.options.WebSocket ?? (globalThis.WebSocket as WebSocketClass | undefined);
    return transports.flatMap((name) => (name === "sse" ? (typeof fetch === "function" ? [null] : []) : found ? [found] : []));
  }

  /** When using HTTP: checks whether a WebSocket can be opened by now, and if so switches to it. */
  #tryBetter(wait = PROBE_MS): void {
    this.#probe = setTimeout(() => {
      const again = () => this.#tryBetter(Math.min(LONGEST_PROBE_MS, wait * 2));
      try {
        const socket = new (this.#transports()[0]!)(this.#url, [SUBPROTOCOL]);
        socket.onerror = () => {};
        socket.onclose = again;
        socket.onmessage = () => {
          socket.onclose = socket.onmessage = null;
          socket.close();
          if (this.state !== "open") return;
          this.#advised = 0;
          this.#lose(RESTART, "a WebSocket comes through");
        };
      } catch {
        again();
      }
    }, wait);
  }

  #noToken(thrown: unknown): void {
    const error = asError(thrown);
    this.#report(error);
    const given = error instanceof TidingsError && error.code === "unauthenticated";
    if (given) this.#end(UNAUTHENTICATED, error.message, error);
    else this.#retry(LOST, "no token: " + error.message);
  }

  #read(text: string, token: string | null): void {
    let message: any;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#lose(LOST, "the server sent something that is no JSON");
    }
    this.#alive.received();
    this.#take(message, token);
  }

  #take(message: any, token: string | null): void {
    switch (message.type) {
      case "connection_established":
        return this.#established(message, token);
      case "heartbeat":
        return this.send({ type: "heartbeat_response" });
      case "token_expiring":
        return void this.#renew();
      case "reconnect":
        return this.#advise(message.after_ms);
      case "authenticated":
        return this.#authenticated(message);
      case "error":
        return this.#error(message);
      case "pong":
      case "registered":
        return;
    }
    if (this.#requests.answer(message) || this.subscriptions.take(message)) return;
    if (typeof message.id === "string" && message.timestamp) this.#event(message);
  }

  #event(event: any): void {
    const hand = () => {
      if (!this.subscriptions.event(event)) this.events.emit("event", event);
      const handled = this.#handled;
      if (handled.length) this.#handled = [];
      return handled.length ? Promise.all(handled) : undefined;
    };
    if (event.confirm && this.options.confirm !== false) this.#confirmer.around(event, hand);
    else hand();
  }

  #established(message: any, token: string | null): void {
    this.#welcomed = true;
    this.#failed = 0;
    this.#skew = Date.parse(message.timestamp) - Date.now();
    this.#alive.start(message.heartbeat_interval_ms);
    const { clientType, clientName } = this.options;
    if (clientType) this.send({ type: "register", client_type: clientType, client_name: clientName });
    if (!token) return this.#opened();
    this.#authenticate(token, (error) => {
      if (!error) return this.#opened();
      if (error.retryAfterMs !== undefined) this.#advised = error.retryAfterMs;
      this.#lose(CLOSE_FOR[error.code] ?? LOST, error.message);
    });
  }

  #opened(): void {
    clearTimeout(this.#timer);
    this.#since = Date.now();
    if (this.#over && this.#transports()[0]) this.#tryBetter();
    this.#change({ state: "open" });
    if (this.state !== "open") return;
    this.subscriptions.opened();
    this.#requests.opened();
  }

  #authenticate(token: string, then: (error?: TidingsError) => void): void {
    const id = this.#requests.nextId();
    this.#authenticating = { id, then };
    this.send({ type: "authenticate", id, token });
  }

  #authenticated({ expires_at }: any): void {
    this.tokens.accepted(expires_at ? Date.parse(expires_at) - this.#skew : Infinity);
    const asked = this.#authenticating;
    this.#authenticating = undefined;
    asked?.then();
  }

  /** Sends a new token on the open connection. */
  async #renew(attempt = 0): Promise<void> {
    const socket = this.#socket;
    if (!this.tokens.canRenew) return;
    const again = (thrown: unknown) => {
      if (this.#socket !== socket) return;
      this.#report(thrown);
      clearTimeout(this.#renewal);
      const wait = pause(LOST, attempt, undefined, { min: 1000, max: 10_000 });
      this.#renewal = setTimeout(() => void this.#renew(attempt + 1), wait);
    };
    try {
      const token = await this.tokens.renew();
      if (this.#socket !== socket || !token) return;
      this.#authenticate(token, (error) => {
        if (!error) return;
        if (error.code === "unauthenticated") this.tokens.refused();
        // The token is of another user: this connection can't change its user, but the next one
        // will.
        if (error.code === "permission_denied") this.#report(error);
        else again(error);
      });
    } catch (thrown) {
      again(thrown);
    }
  }

  #error(message: any): void {
    if (this.#authenticating && message.id === this.#authenticating.id) {
      const { then } = this.#authenticating;
      this.#authenticating = undefined;
      return then(errorOf(message));
    }
    if (this.#requests.answer(message) || this.subscriptions.take(message)) return;
    if (message.id !== undefined) return;
    // Not a reply: most often the reason of a close that follows.
    if (message.retry_after_ms !== undefined) this.#advised = message.retry_after_ms;
    if (message.code !== "unauthenticated") this.events.emit("error", errorOf(message));
  }

  /** The server stops; it closes the connection itself, unless an intermediary prevents that. */
  #advise(after: number): void {
    this.#advised = after;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#advised = 0;
      this.#lose(1012, "the server asked to reconnect");
    }, after);
  }

  /** This connection has ended. */
  #lose(code: number, reason: string): void {
    this.#detach()?.close();
    if (this.#welcomed) this.#over = 0;
    else if (code === LOST && ++this.#failed >= TRIES) {
      this.#failed = 0;
      this.#over = (this.#over + 1) % this.#transports().length;
    }
    this.#requests.lost(code === TOO_BIG);
    this.subscriptions.lost(code === TOO_BIG);
    if (this.#since && Date.now() - this.#since > GOOD_MS) this.#attempt = 0;
    this.#since = 0;
    if (code === UNAUTHENTICATED) this.tokens.refused();
    const hopeless = code === UNAUTHENTICATED && !this.tokens.canRenew;
    if ((isFinal(code) || hopeless) && !this.options.reconnect?.({ code, reason })) {
      const refusal = code === UNAUTHENTICATED ? "unauthenticated" : "permission_denied";
      const error = new TidingsError(refusal, `the server ended the connection (${code}): ${reason}`);
      this.#end(code, reason, error);
      this.events.emit("error", error);
      return;
    }
    this.#retry(code, reason);
  }

  #retry(code: number, reason: string): void {
    const { minDelayMs: min = 1000, maxDelayMs: max = 30_000 } = this.options;
    const delayMs = pause(code, this.#attempt++, this.#advised, { min, max });
    this.#notBefore = this.#advised === undefined ? 0 : Date.now() + delayMs;
    this.#timer = setTimeout(() => void this.#connect(), delayMs);
    this.#change({ state: "waiting", code, reason, delayMs });
  }

  /** The network is back, or the page became visible: retry now. */
  #wake(): void {
    if (this.state === "open") this.#alive.probe();
    else if (this.state === "waiting" && Date.now() >= this.#notBefore) void this.#connect();
  }

  /** Releases the socket; its remaining messages are ignored. */
  #detach(): WebSocketLike | undefined {
    clearTimeout(this.#timer);
    clearTimeout(this.#renewal);
    clearTimeout(this.#probe);
    this.#alive.stop();
    this.#authenticating = undefined;
    this.#current = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) socket.onmessage = socket.onclose = null;
    return socket;
  }

  #end(code: number, reason: string, error: TidingsError): void {
    this.#unwatch();
    this.#change({ state: "closed", code, reason });
    this.#requests.fail(error);
    this.subscriptions.fail(error);
  }

  #change(change: ClientEvents["state"]): void {
    this.last = change;
    this.events.emit("state", change);
  }

  #report(thrown: unknown): void {
    if (!this.events.emit("error", asError(thrown))) console.error(thrown);
  }

  /** Sends a message to the server; it is lost if there is no connection. */
  send(message: object): void {
    this.#socket?.send(JSON.stringify(message));
  }
}

function cancelled(): TidingsError {
  return new TidingsError("cancelled", "the client was closed");
}

/** The URL as a WebSocket's; one without a host is relative to the page. */
function address(url: string | URL): string {
  const here = (globalThis as any).location?.href;
  if (here === undefined && !/^[a-z]+:/i.test(`${url}`)) return "";
  return new URL(url, here).href.replace(/^http/, "ws");
}
