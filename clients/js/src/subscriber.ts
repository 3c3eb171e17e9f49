import type { Gap, Position, PresenceChange, Subscribed, SubscribeOptions, TidingsEvent } from "./types.js";

/** One subscription of the application: its options and its position. */
export class Subscriber {
  /** Everything up to this position was delivered, or need not be. */
  at: Position | undefined;
  /** True if it was confirmed before. */
  confirmed = false;
  /** How many events its pending `rewind` requests. */
  rewind: number;

  constructor(
    readonly options: SubscribeOptions,
    readonly to: {
      event(event: TidingsEvent): void;
      subscribed(how: Subscribed): void;
      gap(gap: Gap): void;
      presence(change: PresenceChange): void;
      ended(error: Error): void;
    },
  ) {
    this.at = options.since && { ...options.since };
    this.rewind = this.at ? 0 : (options.rewind ?? 0);
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
