import type { Follower } from "./follower.js";
import type { Gap, Position, Subscribed, TidingsEvent } from "./types.js";

/** What of a `subscribe` message is the same for all its channels. */
export interface Terms {
  event_types?: string[];
  filter?: string;
  presence?: true;
  rewind?: number;
}

/** A channel that is followed, by however many subscriptions: to the server it is one. */
export class Topic {
  readonly followers = new Set<Follower>();
  /** Those of whom it is not known yet from where to begin. */
  readonly arriving = new Set<Follower>();
  /** The answer to this message is awaited; until then what comes is not ours to hand on. */
  asked: { id: number; since: Position | undefined } | undefined;
  /** Does it stand on this connection? */
  live = false;
  epoch: string | undefined;
  /** Where the channel stands, as far as is known. */
  offset = 0;
  /** Where it stood when the subscription began: what is not above may be replayed. */
  top = -1;
  /** Failures in a row. */
  failures = 0;
  #covers = "";

  constructor(
    readonly channel: string,
    readonly filter: string,
  ) {}

  /** The connection is gone. */
  lost(): void {
    this.live = false;
    this.asked = undefined;
    this.top = -1;
  }

  /** Whether the server has to be asked, again, for this follower's sake. */
  needs(follower: Follower): boolean {
    return !this.live || follower.at !== undefined || this.#key(this.#wanted()) !== this.#covers;
  }

  /** What to ask for. */
  terms(): Terms {
    const wanted = this.#wanted();
    this.#covers = this.#key(wanted);
    if (!this.since()) {
      const rewind = Math.max(0, ...[...this.followers].map((follower) => follower.rewind));
      if (rewind) wanted.rewind = rewind;
    }
    return wanted;
  }

  /** The position that lies furthest back. */
  since(): Position | undefined {
    let least: Position | undefined;
    for (const { at } of this.followers) {
      // Positions of different epochs can't be compared; the one that the channel is in has its turn.
      if (at && this.epoch && at.epoch !== this.epoch) continue;
      if (at && (!least || at.offset < least.offset)) least = at;
    }
    least ??= [...this.followers].find((follower) => follower.at)?.at;
    return least && { ...least };
  }

  /** The server's answer. True if some subscriptions have to be resumed once more. */
  began(entry: any): boolean {
    const { epoch, offset, recovered } = entry;
    const since = this.asked?.since;
    this.asked = undefined;
    this.live = true;
    this.failures = 0;
    this.epoch = epoch;
    this.offset = this.top = offset ?? -1;
    const placed: [Follower, Subscribed][] = [];
    let again = false;
    for (const follower of this.followers) {
      const how: Subscribed = { channel: this.channel };
      if (epoch !== undefined) Object.assign(how, { epoch, offset });
      const { at } = follower;
      const ours = at && at.epoch === epoch;
      if (ours && (recovered || at.offset >= offset)) {
        how.recovered = true;
      } else if (ours && since && (at.offset > since.offset || since.epoch !== epoch)) {
        // Another one's position was too old; this one's may not be.
        again = true;
        continue;
      } else {
        how.recovered = false;
        const from = Math.max(0, offset - follower.rewind);
        follower.at = epoch === undefined ? undefined : { epoch, offset: from };
      }
      if (!follower.resumes) delete how.recovered;
      placed.push([follower, how]);
    }
    if (again) this.live = false;
    for (const [follower, how] of placed) follower.place(how);
    return again;
  }

  /** A follower to whom nothing has to be replayed joins what is there. */
  join(follower: Follower): void {
    const { channel, epoch, offset } = this;
    if (epoch === undefined) return follower.place({ channel });
    follower.at = { epoch, offset };
    follower.place({ channel, epoch, offset });
  }

  /** An event of the channel. */
  take(event: TidingsEvent): void {
    if (event.offset !== undefined) {
      // It will be replayed, or lies before the beginning.
      if (!this.live) return;
      this.offset = Math.max(this.offset, event.offset);
      if (this.epoch) event.epoch = this.epoch;
    }
    for (const follower of [...this.followers]) follower.take(event);
  }

  /** Events will not come. */
  miss(gap: Gap): void {
    if (!this.live && gap.to) return;
    for (const follower of [...this.followers]) follower.miss(gap);
    this.offset = Math.max(this.offset, gap.to);
  }

  #wanted(): Terms {
    const terms: Terms = {};
    const followers = [...this.followers];
    if (followers.every((follower) => follower.options.eventTypes?.length)) {
      const types = new Set(followers.flatMap((follower) => follower.options.eventTypes ?? []));
      terms.event_types = [...types].sort();
    }
    if (this.filter) terms.filter = this.filter;
    if (followers.some((follower) => follower.options.onPresence)) terms.presence = true;
    return terms;
  }

  #key(terms: Terms): string {
    return JSON.stringify(terms);
  }
}
