import type { Gap, Position, PresenceChange, Subscribed, SubscribeOptions, TidingsEvent } from "./types.js";

/** One subscription as the application made it: what it wants, and how far it is. */
export class Follower {
  /** Everything up to here was handed on, or need not be. */
  at: Position | undefined;
  /** Has it stood before? */
  stood = false;
  /** Is its `rewind` still to be asked for? */
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

  /** Whether it had a place from which to go on. */
  get resumes(): boolean {
    return this.stood || this.options.since !== undefined;
  }

  /** The subscription stands from here. */
  place(how: Subscribed): void {
    this.stood = true;
    this.rewind = 0;
    this.to.subscribed(how);
  }

  /** An event of its channel: handed on unless it was before, or is not wanted. */
  take(event: TidingsEvent): void {
    const { offset } = event;
    if (offset !== undefined && this.at) {
      if (offset <= this.at.offset) return;
      this.at.offset = offset;
    }
    if (matches(this.options.eventTypes, event.type)) this.to.event(event);
  }

  /** Some events will not come. */
  miss(gap: Gap): void {
    if (gap.to && this.at) {
      if (gap.to <= this.at.offset) return;
      this.at.offset = gap.to;
    }
    this.to.gap(gap);
  }
}

/** Whether one of these names or patterns stands for a type; without any, all do. */
export function matches(patterns: readonly string[] | undefined, type: string): boolean {
  if (!patterns?.length) return true;
  return patterns.some((pattern) =>
    pattern.endsWith("*") ? type.startsWith(pattern.slice(0, -1)) : type === pattern,
  );
}
