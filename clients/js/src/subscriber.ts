import type { Gap, Position, PresenceChange, Subscribed, SubscribeOptions, TidingsEvent } from "./types.js";

/** One subscription of the application: its options and its position. */
export class Subscriber {
  /** Everything up to this position was delivered, or need not be. */
  at: Position | undefined;
  /** True if it was confirmed before. */
  confirmed = false;
  /** How many events its pending `rewind` requests. */
  rewind: number;
  /** With `durable`: everything up to this position is handled. */
  acked: Position | undefined;
  /** Called when `acked` has changed. */
  onAck: (() => void) | undefined;
  /** The offsets of this connection whose handlers have not returned, in order. */
  #running = new Set<number>();
  #failed = false;
  /** The position when the connection was lost. */
  #before: Position | undefined;

  constructor(
    readonly options: SubscribeOptions,
    readonly to: {
      event(event: TidingsEvent): void;
      subscribed(how: Subscribed): void;
      gap(gap: Gap): void;
      presence(change: PresenceChange): void;
      ended(error: Error): void;
      /** Events that wait to be handled come again. */
      again?(): void;
    },
  ) {
    this.at = options.since && { ...options.since };
    this.rewind = this.at || options.durable ? 0 : (options.rewind ?? 0);
  }

  /** The connection is lost: a durable subscription resumes behind its cursor. */
  lost(): void {
    if (!this.options.durable || !this.at) return;
    this.#before = this.at;
    this.at = undefined;
  }

  /** A durable subscription begins behind its cursor; with `again`, events that wait to be handled come again. */
  restart(at: Position, again: boolean): void {
    this.at = at;
    this.#failed = false;
    this.#running = new Set();
    if (again) this.to.again?.();
  }

  /** Everything up to this offset is handled. */
  ack(offset: number): void {
    const { acked } = this;
    const at = this.at ?? this.#before;
    if (!this.options.durable || !at || (acked?.epoch === at.epoch && acked.offset >= offset)) return;
    this.acked = { epoch: at.epoch, offset };
    this.onAck?.();
  }

  /** Its handler begins; call the result when it has ended. */
  handling({ offset }: TidingsEvent): ((failed?: boolean) => void) | undefined {
    const running = this.#running;
    if (!this.options.autoAck || offset === undefined) return;
    // Nothing behind a failure is acknowledged, so nothing needs to be tracked.
    if (!this.#failed) running.add(offset);
    return (failed) => {
      // A handler of an earlier connection: its event is delivered again.
      if (running !== this.#running || this.#failed) return;
      if (failed) return void (this.#failed = true);
      running.delete(offset);
      const [first] = running;
      this.ack(first === undefined ? (this.at ?? this.#before)!.offset : first - 1);
    };
  }

  /** Whether it has a position to resume from. */
  get resumes(): boolean {
    return this.confirmed || this.options.since !== undefined;
  }

  /** The subscription is confirmed from this position on. */
  confirm(how: Subscribed): void {
    this.confirmed = true;
    this.rewind = 0;
    this.to.subscribed(how);
  }

  /** An event of its channel: delivered unless it was delivered before or has another type. */
  take(event: TidingsEvent): void {
    const { offset } = event;
    if (offset !== undefined && this.at) {
      if (offset <= this.at.offset) return;
      this.at.offset = offset;
    }
    if (matches(this.options.eventTypes, event.type)) this.to.event(event);
  }

  /** Some events will not be delivered. */
  miss(gap: Gap): void {
    if (gap.to && this.at) {
      if (gap.to <= this.at.offset) return;
      this.at.offset = gap.to;
    }
    this.to.gap(gap);
  }
}

/** Whether one of these names or patterns matches a type; without any, all do. */
export function matches(patterns: readonly string[] | undefined, type: string): boolean {
  if (!patterns?.length) return true;
  return patterns.some((pattern) =>
    pattern.endsWith("*") ? type.startsWith(pattern.slice(0, -1)) : type === pattern,
  );
}
