import { TidingsError } from "./errors.js";
import { errorOfCall } from "./status.js";
import type { Position } from "./types.js";

/** What was acknowledged of a channel. */
interface Acked {
  at: Position;
  /** Whether the server has confirmed it. */
  stored: boolean;
  /** A call is in flight. */
  busy: boolean;
}

/** Acknowledges over gRPC: one call at a time for each channel, with its newest offset. */
export class Acker {
  readonly #acked = new Map<string, Acked>();

  constructor(
    readonly send: (channel: string, offset: number) => Promise<unknown>,
    readonly failed: (error: TidingsError, channel: string) => void,
  ) {}

  /** Acknowledges up to a position; resolves when the server has stored it. */
  async ack(channel: string, at: Position): Promise<void> {
    const acked = this.#move(channel, at);
    if (!acked) return;
    await this.send(channel, at.offset);
    if (acked.at.offset === at.offset) acked.stored = true;
  }

  /** Acknowledges in the background. A failure is repeated with the next event, or when the subscription has resumed. */
  handled(channel: string, at: Position): void {
    const acked = this.#move(channel, at);
    if (acked && !acked.busy) void this.#run(channel, acked);
  }

  /** The subscription has resumed at this cursor. Returns the offset from which events are new. */
  resumed(channel: string, cursor: Position): number {
    const acked = this.#acked.get(channel);
    if (!acked || acked.at.epoch !== cursor.epoch || acked.at.offset <= cursor.offset) {
      this.#acked.set(channel, { at: cursor, stored: true, busy: false });
      return cursor.offset;
    }
    if (!acked.busy) {
      acked.stored = false;
      void this.#run(channel, acked);
    }
    return acked.at.offset;
  }

  #move(channel: string, at: Position): Acked | undefined {
    let acked = this.#acked.get(channel);
    if (acked?.at.epoch === at.epoch) {
      if (acked.at.offset >= at.offset) return;
      Object.assign(acked, { at, stored: false });
    } else {
      this.#acked.set(channel, (acked = { at, stored: false, busy: false }));
    }
    return acked;
  }

  async #run(channel: string, acked: Acked): Promise<void> {
    acked.busy = true;
    try {
      while (!acked.stored) {
        const { offset } = acked.at;
        await this.send(channel, offset);
        acked.stored = acked.at.offset === offset;
      }
    } catch (thrown) {
      this.failed(errorOfCall(thrown), channel);
    }
    acked.busy = false;
  }
}
