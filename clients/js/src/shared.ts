import { Client } from "./client.js";
import { PortSocket, type ToTab, type ToWorker, type WorkerOptions } from "./port.js";
import type { AnyEvents, Options } from "./types.js";

export type { Client } from "./client.js";

/** As for `connect`; the tabs share a connection, and the first tab's options hold for it. */
export interface SharedOptions extends Omit<Options, "WebSocket" | "reconnect"> {
  /** Tabs share a connection where this is the same, too: give the user's name where users change. */
  name?: string;
  /** Starts the worker, where the bundler does not find `@tidings/client/shared-worker` by itself. */
  worker?: (name: string) => SharedWorker;
}

/**
 * Connects by way of a `SharedWorker`: all tabs of the same origin, address and `name` share one
 * connection. Where there is no `SharedWorker`, each tab has its own, as with `connect`.
 */
export function connectShared<Events = AnyEvents>(url: string | URL, options: SharedOptions = {}): Client<Events> {
  if (typeof SharedWorker === "undefined") return new Client<Events>(url, options);
  const address = new URL(url, location.href).href;
  const name = `tidings ${address} ${options.name ?? ""}`;
  const start = options.worker ?? startWorker;
  const { port } = start(name);
  const tab = new Tab(port, address, options);
  // The worker has the pauses; from here to there they need not be long.
  const { token: _, ...rest } = options;
  return new Client<Events>(url, { ...rest, WebSocket: tab.socketClass(), minDelayMs: 50, maxDelayMs: 1000 });
}

function startWorker(name: string): SharedWorker {
  return new SharedWorker(new URL("./shared-worker.js", import.meta.url), { type: "module", name });
}

/** This tab's end of the port. */
class Tab {
  #count = 0;
  #socket: PortSocket | undefined;

  constructor(
    readonly port: MessagePort,
    readonly url: string,
    readonly options: SharedOptions,
  ) {
    port.onmessage = ({ data }) => this.#take(data);
    addEventListener("pagehide", () => this.#socket?.close());
  }

  socketClass(): any {
    const open = () => this.#open();
    return class {
      constructor() {
        return open();
      }
    };
  }

  #open(): PortSocket {
    const socket = new PortSocket(++this.#count, (message) => this.#post(message));
    this.#socket = socket;
    const { clientType, clientName, queueLimit, requestTimeoutMs, minDelayMs, maxDelayMs, connectTimeoutMs, token } =
      this.options;
    const options: WorkerOptions = {
      ...{ clientType, clientName, queueLimit, requestTimeoutMs, minDelayMs, maxDelayMs, connectTimeoutMs },
      hasToken: token !== undefined,
    };
    this.#post({ open: socket.number, url: this.url, options, ...this.#lock(socket.number) });
    return socket;
  }

  /** A lock that this tab holds while it lives: so the worker learns of one that crashed. */
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
    if ("ask" in message) return void this.#token(message);
    if ("closed" in message) {
      const { closed, code, reason } = message;
      if (this.#socket?.number === closed) this.#socket.onclose?.({ code, reason });
      return;
    }
    if (this.#socket?.number === message.socket) this.#socket.onmessage?.({ data: message.text });
  }

  async #token({ ask, refused }: { ask: number; refused: boolean }): Promise<void> {
    const { token } = this.options;
    try {
      // There is but one of a fixed token.
      const found = typeof token === "function" ? await token({ refused }) : refused ? null : token;
      this.#post({ answer: ask, token: found ?? null });
    } catch (thrown) {
      this.#post({ answer: ask, failed: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  }
}
