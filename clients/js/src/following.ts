import { Acker } from "./acker.js";
import { TidingsError } from "./errors.js";
import { errorOfCall } from "./status.js";
import type { Gap, Position, Stale, Subscribed } from "./types.js";
import { durationOf, eventOf } from "./wired.js";

export interface FollowOptions<Pattern extends string = string> {
  /** Only these types: exact, or with a trailing `*`. */
  eventTypes?: readonly Pattern[];
  /** A CEL expression. */
  filter?: string;
  /** Begin with the newest *n* events of each channel that has no `since`. */
  rewind?: number;
  /**
   * The name of a durable subscription: channels without `since` resume behind what the token's user
   * has acknowledged. Events that were not acknowledged before a reconnect are delivered again.
   */
  durable?: string;
  /** With `durable`: acknowledges an event when the loop asks for the next one. */
  autoAck?: boolean;
  /** At most one event of a key in so many milliseconds, always the newest: 10 to 3 600 000. */
  minIntervalMs?: number;
  onSubscribed?: (how: Subscribed) => void;
  /** The state must be reloaded: `recovered: false`, or a `gap` other than `conflated`. */
  onStale?: (why: Stale) => void;
  onGap?: (gap: Gap) => void;
  /** One channel was refused or ended by the server. If all are, the loop ends with the error. */
  onError?: (error: TidingsError, channel: string) => void;
}

/** A subscribed channel, and its position. */
interface TrackedChannel {
  channel: string;
  at: Position | undefined;
  rewind: number;
  /** It had a position, or was subscribed before. */
  resumes: boolean;
  /** The epoch of its last position. */
  epoch?: string;
}

/** Error codes after which the same request may be repeated. */
const PASSING = new Set(["unavailable", "resource_exhausted", "internal", "cancelled", "deadline_exceeded"]);
const LONGEST_MS = 30_000;

/** Channels subscribed to over gRPC, read in a loop. A slow loop applies backpressure to the server. */
export class Following<Event> implements AsyncIterableIterator<Event> {
  /** Resolves when the subscriptions are confirmed for the first time; rejects if all are refused. */
  readonly ready: Promise<void>;
  readonly #tracked = new Map<string, TrackedChannel>();
  readonly #events: AsyncGenerator<Event, void, undefined>;
  #settle!: { resolve: () => void; reject: (error: Error) => void };
  #call: any;
  #left = false;
  readonly #acker: Acker;
  #wake: (() => void) | undefined;

  /** @internal */
  constructor(
    channels: readonly (string | { channel: string; since?: Position; rewind?: number })[],
    readonly options: FollowOptions<any>,
    readonly open: (request: object, refused: boolean) => Promise<any>,
    readonly renewable: boolean,
    readonly ended: () => void,
    ack: (request: object) => Promise<unknown>,
  ) {
    this.#acker = new Acker((channel, offset) => ack({ channel, durable: options.durable, offset }), (error, channel) => options.onError?.(error, channel));
    for (const entry of channels) {
      const { channel, since, rewind = options.rewind ?? 0 } = typeof entry === "string" ? { channel: entry, since: undefined } : entry;
      this.#tracked.set(channel, { channel, at: since && { ...since }, rewind: since ? 0 : rewind, resumes: since !== undefined });
    }
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {});
    this.#events = this.#run();
    // The stream begins now, not with the first iteration of the loop.
    this.#first = this.#events.next();
    this.#first.catch(() => {});
  }

  #first: Promise<IteratorResult<Event, void>> | undefined;

  /** The last position of a channel: pass it as `since` to continue from here. */
  position(channel: string): Position | undefined {
    const at = this.#tracked.get(channel)?.at;
    return at && { ...at };
  }

  /** With `durable`: acknowledges all events of a channel up to this offset. An earlier offset has no effect. */
  async ack(channel: string, offset: number): Promise<void> {
    const epoch = this.#tracked.get(channel)?.epoch;
    if (!this.options.durable || epoch === undefined) throw new TidingsError("failed_precondition", `${channel}: not a durable subscription`);
    await this.#acker.ack(channel, { epoch, offset });
  }

  next(): Promise<IteratorResult<Event, void>> {
    const first = this.#first;
    this.#first = undefined;
    return first ?? this.#events.next();
  }

  async return(): Promise<IteratorResult<Event, void>> {
    this.unsubscribe();
    return { value: undefined, done: true };
  }

  unsubscribe(): void {
    this.#left = true;
    this.#wake?.();
    this.#call?.cancel();
    this.#settle.reject(new TidingsError("cancelled", "unsubscribed"));
    this.ended();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async *#run(): AsyncGenerator<Event, void, undefined> {
    let refused = false;
    for (let attempt = 0; !this.#left; attempt++) {
      let failure: TidingsError;
      try {
        const call = (this.#call = await this.open(this.#request(), refused));
        if (this.#left) return call.cancel();
        for await (const message of call) {
          if (this.#left) return;
          attempt = 0;
          refused = false;
          if (message.message === "event") {
            const event = eventOf(message.event);
            if (!this.#fresh(event)) continue;
            yield event;
            const { channel, epoch, offset } = event;
            if (this.options.autoAck && this.options.durable && offset !== undefined) this.#acker.handled(channel, { epoch, offset });
          } else if (message.message === "subscribed") {
            this.#subscribed(message.subscribed);
          } else if (message.message === "gap") {
            this.#gap(message.gap);
          }
        }
        failure = new TidingsError("unavailable", "the stream has ended");
      } catch (thrown) {
        failure = errorOfCall(thrown);
      }
      if (this.#left) return;
      const renews: boolean = failure.code === "unauthenticated" && this.renewable && !refused;
      if (!renews && !PASSING.has(failure.code)) {
        this.#settle.reject(failure);
        this.ended();
        throw failure;
      }
      refused = renews;
      if (!renews) await this.#pause((failure.retryAfterMs ?? 0) + Math.random() * Math.min(LONGEST_MS, 200 * 2 ** attempt));
    }
  }

  #pause(millis: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, millis);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #request(): object {
    const { eventTypes = [], filter = "", durable = "", minIntervalMs } = this.options;
    // The first request may name positions; then the server has the cursors.
    if (durable) for (const one of this.#tracked.values()) if (one.epoch !== undefined) one.at = undefined;
    const subscriptions = [...this.#tracked.values()].map(({ channel, at, rewind }) => (at ? { channel, since: at } : { channel, rewind }));
    return { subscriptions, eventTypes, filter, durable, ...(minIntervalMs && { minInterval: durationOf(minIntervalMs) }) };
  }

  #subscribed({ channels, errors }: any): void {
    for (const { channel, position, recovered, cursor } of channels) {
      const channelState = this.#tracked.get(channel);
      if (!channelState) continue;
      const durable = this.options.durable && position;
      const how: Subscribed = { channel, ...(position && { epoch: position.epoch, offset: position.offset }) };
      if (channelState.resumes || durable) how.recovered = recovered;
      if (durable) {
        how.cursor = cursor ?? position.offset;
        const { epoch } = position;
        channelState.epoch = epoch;
        if (recovered) channelState.at ??= { epoch, offset: this.#acker.resumed(channel, { epoch, offset: how.cursor! }) };
      }
      // With `recovered` the client's own position stays valid: the replayed events are still to
      // come.
      if (!recovered) channelState.at = position ? { epoch: position.epoch, offset: Math.max(0, position.offset - channelState.rewind) } : undefined;
      channelState.rewind = 0;
      channelState.resumes = true;
      this.options.onSubscribed?.(how);
      if (how.recovered === false) this.options.onStale?.({ recovered: false, channel });
    }
    for (const { channel, code, message } of errors) {
      this.#tracked.delete(channel);
      const error = new TidingsError(code, message);
      this.options.onError?.(error, channel);
      if (!this.#tracked.size) throw error;
    }
    this.#settle.resolve();
  }

  #fresh({ channel, epoch, offset }: any): boolean {
    const channelState = this.#tracked.get(channel);
    if (!channelState || offset === undefined) return true;
    if (channelState.at?.epoch === epoch && offset <= channelState.at!.offset) return false;
    channelState.at = { epoch, offset };
    return true;
  }

  #gap({ channel, from, to, reason }: any): void {
    const channelState = this.#tracked.get(channel);
    if (channelState?.at && to) {
      if (to <= channelState.at.offset) return;
      channelState.at.offset = to;
    }
    const gap: Gap = { channel, from, to, reason };
    this.options.onGap?.(gap);
    if (reason !== "conflated") this.options.onStale?.(gap);
  }
}
