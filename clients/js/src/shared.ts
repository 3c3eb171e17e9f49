import { Client } from "./client.js";
import { PortSocket, type ToTab, type ToWorker, type WorkerOptions } from "./port.js";
import type { AnyEvents, Options, WebSocketLike } from "./types.js";

/** How long a worker may take to start, in milliseconds, before the tab connects by itself. */
const START_MS = 5_000;
/** The longest delay of a timer. */
const NEVER_MS = 2 ** 31 - 1;

export type { Client } from "./client.js";

/** As for `connect`; the tabs share a connection, and the first tab's options apply to it. */
export interface SharedOptions extends Omit<Options, "WebSocket" | "reconnect"> {
  /** Tabs share a connection only if this is equal, too: use the user's name if users may change. */
  name?: string;
  /** Starts the worker, if the bundler does not find `@tidings/client/shared-worker` by itself. */
  worker?: (name: string) => SharedWorker;
}

/**
 * Connects through a `SharedWorker`: all tabs of the same origin, URL and `name` share one
 * connection. If there is no `SharedWorker`, or it does not start, each tab has its own, as with
 * `connect`.
 */
export function connectShared<Events = AnyEvents>(url: string | URL, options: SharedOptions = {}): Client<Events> {
  if (typeof SharedWorker === "undefined") return new Client<Events>(url, options);
  const address = new URL(url, location.href).href;
  const name = `tidings ${address} ${options.name ?? ""}`;
  const start = options.worker ?? startWorker;
  let worker: SharedWorker;
  try {
    worker = start(name);
  } catch {
    return new Client<Events>(url, options);
  }
  // The worker has the delays, and reports when its connection is open: a tab waits for that.
  const relay = { minDelayMs: 50, maxDelayMs: 1000, connectTimeoutMs: NEVER_MS, token: undefined, transports: ["websocket"] as const };
  const settings: Options = { ...options, ...relay };
  const tab = new Tab(worker, address, options, () => {
    // Read with each attempt: from now on this is a client like any other.
    const { minDelayMs, maxDelayMs, connectTimeoutMs, transports, token } = options;
    Object.assign(settings, { minDelayMs, maxDelayMs, connectTimeoutMs, transports });
    client.useToken(token);
  });
  settings.WebSocket = tab.socketClass();
  const client = new Client<Events>(url, settings);
  return client;
}

function startWorker(name: string): SharedWorker {
  return new SharedWorker(new URL("./shared-worker.js", import.meta.url), { type: "module", name });
}

/** This tab's end of the port. */
class Tab {
  #count = 0;
  readonly #sockets = new Map<number, PortSocket>();
  readonly port: MessagePort;
  #failed = false;

  constructor(
    worker: SharedWorker,
    readonly url: string,
    readonly options: SharedOptions,
    readonly failed: () => void,
  ) {
    this.port = worker.port;
    const timer = setTimeout(() => this.#fail(), START_MS);
    worker.onerror = () => this.#fail();
    this.port.onmessage = ({ data }) => {
      clearTimeout(timer);
      this.#take(data);
    };
    addEventListener("pagehide", () => {
      for (const socket of this.#sockets.values()) socket.close();
    });
  }

  /** The worker does not run: further sockets are the tab's own. */
  #fail(): void {
    if (this.#failed) return;
    this.#failed = true;
    this.failed();
    const sockets = [...this.#sockets.values()];
    this.#sockets.clear();
    for (const socket of sockets) socket.onclose?.({ code: 1006, reason: "the shared worker does not run" });
  }

  socketClass(): any {
    const open = (url: string, protocols: string[]) => (this.#failed ? new WebSocket(url, protocols) : this.#open());
    return class {
      constructor(url: string, protocols: string[]) {
        return open(url, protocols) as WebSocketLike;
      }
    };
  }

  #open(): PortSocket {
    const socket = new PortSocket(++this.#count, (message) => {
      if ("close" in message) this.#sockets.delete(message.close);
      this.#post(message);
    });
    this.#sockets.set(socket.number, socket);
    const { clientType, clientName, queueLimit, requestTimeoutMs, minDelayMs, maxDelayMs, connectTimeoutMs, transports, token } =
      this.options;
    const options: WorkerOptions = {
      ...{ clientType, clientName, queueLimit, requestTimeoutMs, minDelayMs, maxDelayMs, connectTimeoutMs, transports },
      hasToken: token !== undefined,
    };
    this.#post({ open: socket.number, url: this.url, options, ...this.#lock(socket.number) });
    return socket;
  }

  /** A lock that this tab holds while it exists, so that the worker detects a crashed tab. */
  #lock(number: number): { lock?: string } {
    if (number > 1 || typeof navigator.locks === "undefined") return {};
    const lock = `tidings ${performance.timeOrigin} ${Math.random()}`;
    void navigator.locks.request(lock, () => new Promise(() => {}));
    return { lock };
  }

  #post(message: ToWorker): void {
    this.port.postMessage(message);
  }

  #take(message: ToTab): void {
    if ("hello" in message) return;
    if ("ask" in message) return void this.#token(message);
    if ("closed" in message) {
      const { closed, code, reason } = message;
      const socket = this.#sockets.get(closed);
      this.#sockets.delete(closed);
      socket?.onclose?.({ code, reason });
      return;
    }
    this.#sockets.get(message.socket)?.onmessage?.({ data: message.text });
  }

  async #token({ ask, refused }: { ask: number; refused: boolean }): Promise<void> {
    const { token } = this.options;
    try {
      // A fixed token can't be renewed.
      const found = typeof token === "function" ? await token({ refused }) : refused ? null : token;
      this.#post({ answer: ask, token: found ?? null });
    } catch (thrown) {
      this.#post({ answer: ask, failed: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  }
}
