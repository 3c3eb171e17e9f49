import type { Connection } from "./connection.js";
import type { Follower } from "./follower.js";

/** How long a connection stays that nothing is followed on any more, in milliseconds. */
const LINGER_MS = 2_000;

/**
 * The connections of one client. The server keeps one filter for each channel of a connection, so
 * a second filter for the same channel takes a further connection. There are as many as the most
 * filters that one channel has.
 */
export class Lanes {
  readonly #more: Connection[] = [];
  readonly #idle = new Map<Connection, ReturnType<typeof setTimeout>>();

  constructor(
    readonly first: Connection,
    readonly open: () => Connection,
  ) {}

  /** Adds a subscription where its filter fits; the answer takes it away. */
  add(channel: string, follower: Follower): () => void {
    const fits = ({ subscriptions }: Connection) => subscriptions.takes(channel, follower);
    let lane = [this.first, ...this.#more].find(fits);
    if (!lane) this.#more.push((lane = this.#opened()));
    clearTimeout(this.#idle.get(lane));
    lane.subscriptions.add(channel, follower);
    const { subscriptions } = lane;
    return () => {
      subscriptions.remove(channel, follower);
      if (lane !== this.first && subscriptions.empty) this.#linger(lane);
    };
  }

  close(): void {
    for (const lane of [...this.#more, this.first]) lane.close();
  }

  #opened(): Connection {
    const lane = this.open();
    lane.events.on("state", ({ state }) => {
      if (state !== "closed") return;
      clearTimeout(this.#idle.get(lane));
      this.#idle.delete(lane);
      const place = this.#more.indexOf(lane);
      if (place >= 0) this.#more.splice(place, 1);
    });
    return lane;
  }

  #linger(lane: Connection): void {
    clearTimeout(this.#idle.get(lane));
    const timer = setTimeout(() => {
      if (lane.subscriptions.empty) lane.close();
    }, LINGER_MS);
    this.#idle.set(lane, timer);
  }
}
