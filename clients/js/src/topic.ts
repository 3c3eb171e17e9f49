import type { Subscriber } from "./subscriber.js";
import type { Gap, Position, Subscribed, SubscribeOptions, TidingsEvent } from "./types.js";

/** The part of a `subscribe` message that is the same for all its channels. */
export interface Terms {
  event_types?: string[];
  filter?: string;
  durable?: string;
  min_interval?: string;
  presence?: true;
  rewind?: number;
}

/** The terms that all subscriptions of one channel of a connection must share. */
export function sharedTerms({ filter, durable, minIntervalMs }: SubscribeOptions): Terms {
  return { ...(filter && { filter }), ...(durable && { durable }), ...(minIntervalMs && { min_interval: `${Math.round(minIntervalMs)}ms` }) };
}

/** A subscribed channel, with any number of subscriptions: to the server it is one. */
export class Topic {
  readonly subscribers = new Set<Subscriber>();
  /** Subscriptions whose start position is not known yet. */
  readonly arriving = new Set<Subscriber>();
  /** The pending `subscribe` message; until it is answered, events are not delivered. */
  asked: { id: number; since: Position | undefined } | undefined;
  /** True if it is confirmed on this connection. */
  live = false;
  epoch: string | undefined;
  /** The channel's position, as far as it is known. */
  offset = 0;
  /** Its position when the subscription began: events up to it may be replayed. */
  top = -1;
  /** Failures in a row. */
  failures = 0;
  /** With `durable`: the offset that the server knows as acknowledged. */
  cursor = 0;
  #covers = "";

  constructor(
    readonly channel: string,
    readonly shared: Terms,
  ) {}

  /** The connection is lost. */
  lost(): void {
    this.live = false;
    this.asked = undefined;
    this.top = -1;
    for (const subscriber of this.subscribers) subscriber.lost();
  }

  /** The offset up to which all subscriptions have handled the events. */
  acked(): number {
    return Math.min(...[...this.subscribers].map(({ acked }) => (acked && acked.epoch === this.epoch ? acked.offset : this.cursor)));
  }

  /** Whether the server must be asked, again, because of this subscription. */
  needs(subscriber: Subscriber): boolean {
    return !this.live || subscriber.at !== undefined || this.#key(this.#wanted()) !== this.#covers;
  }

  /** The terms to request. */
  terms(): Terms {
    const wanted = this.#wanted();
    this.#covers = this.#key(wanted);
    if (!this.since()) {
      const rewind = Math.max(0, ...[...this.subscribers].map((subscriber) => subscriber.rewind));
      if (rewind) wanted.rewind = rewind;
    }
    return wanted;
  }

  /** The earliest position. */
  since(): Position | undefined {
    // Behind the cursor, for the subscriptions that have no position.
    if (this.shared.durable && ![...this.subscribers].every(({ at }) => at)) return undefined;
    let least: Position | undefined;
    for (const { at } of this.subscribers) {
      // Positions of different epochs can't be compared; the channel's current epoch takes
      // precedence.
      if (at && this.epoch && at.epoch !== this.epoch) continue;
      if (at && (!least || at.offset < least.offset)) least = at;
    }
    least ??= [...this.subscribers].find((subscriber) => subscriber.at)?.at;
    return least && { ...least };
  }

  /** The server's reply. True if some subscriptions must be resumed once more. */
  began(entry: any): boolean {
    const { epoch, offset, recovered, cursor } = entry;
    const durable = this.shared.durable !== undefined && epoch !== undefined;
    if (durable) this.cursor = cursor ?? offset;
    const since = this.asked?.since;
    this.asked = undefined;
    this.live = true;
    this.failures = 0;
    this.epoch = epoch;
    this.offset = this.top = offset ?? -1;
    const confirmed: [Subscriber, Subscribed][] = [];
    let again = false;
    for (const subscriber of this.subscribers) {
      const how: Subscribed = { channel: this.channel };
      if (epoch !== undefined) Object.assign(how, { epoch, offset });
      if (durable) how.cursor = this.cursor;
      const { at } = subscriber;
      const ours = at && at.epoch === epoch;
      if (durable && (!recovered || !ours)) {
        const { acked } = subscriber;
        // An acknowledgement that the server has not received is repeated, not its events.
        const known = acked?.epoch === epoch ? Math.max(acked!.offset, this.cursor) : this.cursor;
        how.recovered = recovered;
        subscriber.restart({ epoch, offset: recovered ? known : offset }, recovered);
      } else if (ours && (recovered || at.offset >= offset)) {
        how.recovered = true;
      } else if (ours && since && (at.offset > since.offset || since.epoch !== epoch)) {
        // Another subscription's position was too old; this one's may not be.
        again = true;
        continue;
      } else {
        how.recovered = false;
        const from = Math.max(0, offset - subscriber.rewind);
        subscriber.at = epoch === undefined ? undefined : { epoch, offset: from };
      }
      if (!durable && !subscriber.resumes) delete how.recovered;
      confirmed.push([subscriber, how]);
    }
    if (again) this.live = false;
    for (const [subscriber, how] of confirmed) subscriber.confirm(how);
    return again;
  }

  /** A subscription that needs no replay joins the live events. */
  join(subscriber: Subscriber): void {
    const { channel, epoch, offset } = this;
    if (epoch === undefined) return subscriber.confirm({ channel });
    subscriber.at = { epoch, offset };
    if (!this.shared.durable) return subscriber.confirm({ channel, epoch, offset });
    subscriber.acked = { epoch, offset };
    subscriber.confirm({ channel, epoch, offset, recovered: true, cursor: offset });
  }

  /** An event of the channel. */
  take(event: TidingsEvent): void {
    if (event.offset !== undefined) {
      // It will be replayed, or precedes the start position.
      if (!this.live) return;
      this.offset = Math.max(this.offset, event.offset);
      if (this.epoch) event.epoch = this.epoch;
    }
    for (const subscriber of [...this.subscribers]) subscriber.take(event);
  }

  /** Events will not be delivered. */
  miss(gap: Gap): void {
    if (!this.live && gap.to) return;
    for (const subscriber of [...this.subscribers]) subscriber.miss(gap);
    this.offset = Math.max(this.offset, gap.to);
  }

  #wanted(): Terms {
    const terms: Terms = { ...this.shared };
    const subscribers = [...this.subscribers];
    if (subscribers.every((subscriber) => subscriber.options.eventTypes?.length)) {
      const types = new Set(subscribers.flatMap((subscriber) => subscriber.options.eventTypes ?? []));
      terms.event_types = [...types].sort();
    }
    if (subscribers.some((subscriber) => subscriber.options.onPresence)) terms.presence = true;
    return terms;
  }

  #key(terms: Terms): string {
    return JSON.stringify(terms);
  }
}
