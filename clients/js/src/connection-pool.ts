import type { Connection } from "./connection.js";
import type { Subscriber } from "./subscriber.js";

/** How long a connection without subscriptions stays open, in milliseconds. */
const LINGER_MS = 2_000;

/**
 * The connections of one client. The server keeps one filter for each channel of a connection, so a
 * second filter for the same channel needs a further connection. The pool has as many connections
 * as the most filters that one channel has.
 */
export class ConnectionPool {
  readonly #more: Connection[] = [];
  readonly #idle = new Map<Connection, ReturnType<typeof setTimeout>>();

  constructor(
    readonly first: Connection,
    readonly open: () => Connection,
  ) {}

  /** Adds a subscription to a connection where its filter fits; the returned function removes it. */
  add(channel: string, subscriber: Subscriber): () => void {
    const fits = ({ subscriptions }: Connection) => subscriptions.takes(channel, subscriber);
    let connection = [this.first, ...this.#more].find(fits);
    if (!connection) this.#more.push((connection = this.#opened()));
    clearTimeout(this.#idle.get(connection));
    connection.subscriptions.add(channel, subscriber);
    const { subscriptions } = connection;
    return () => {
      subscriptions.remove(channel, subscriber);
      if (connection !== this.first && subscriptions.empty) this.#linger(connection);
    };
  }

  ack(channel: string, offset: number): void {
    for (const { subscriptions } of [this.first, ...this.#more]) subscriptions.ack(channel, offset);
  }

  close(): void {
    for (const connection of [...this.#more, this.first]) connection.close();
  }

  #opened(): Connection {
    const connection = this.open();
    connection.events.on("state", ({ state }) => {
      if (state !== "closed") return;
      clearTimeout(this.#idle.get(connection));
      this.#idle.delete(connection);
      const index = this.#more.indexOf(connection);
      if (index >= 0) this.#more.splice(index, 1);
    });
    return connection;
  }

  #linger(connection: Connection): void {
    clearTimeout(this.#idle.get(connection));
    const timer = setTimeout(() => {
      if (connection.subscriptions.empty) connection.close();
    }, LINGER_MS);
    this.#idle.set(connection, timer);
  }
}
