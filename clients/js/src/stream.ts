import { TidingsError } from "./errors.js";
import type { Gap, TidingsEvent } from "./types.js";

/** Events buffered for a `for await` loop, with a limit and a policy for exceeding it. */
export class Stream implements AsyncIterableIterator<any> {
  readonly #events: TidingsEvent[] = [];
  #waiting: { resolve: (result: IteratorResult<any>) => void; reject: (error: Error) => void }[] = [];
  /** Given to the loop last: handled once the loop asks for the next one. */
  #given: TidingsEvent | undefined;
  #end: { error?: Error } | undefined;

  constructor(
    readonly limit: number,
    readonly dropOldest: boolean,
    readonly to: { left(): void; gap(gap: Gap): void; handled(event: TidingsEvent): void },
  ) {}

  push(event: TidingsEvent): void {
    if (this.#end) return;
    const waiting = this.#waiting.shift();
    if (waiting) return waiting.resolve({ value: (this.#given = event), done: false });
    if (this.#events.length >= this.limit) {
      if (!this.dropOldest) {
        const text = `the loop is too slow: ${this.limit} events wait for it (bufferLimit)`;
        this.end(new TidingsError("resource_exhausted", text));
        return this.to.left();
      }
      const dropped = this.#events.shift()!;
      const { channel = "", offset = 0 } = dropped;
      this.to.handled(dropped);
      this.to.gap({ channel, from: offset, to: offset, reason: "buffer_full" });
    }
    this.#events.push(event);
  }

  /** The buffered events come again. */
  clear(): void {
    this.#events.length = 0;
  }

  /** No more events: the loop ends after the buffered ones, with an error or without. */
  end(error?: Error): void {
    this.#end ??= error ? { error } : {};
    for (const { resolve, reject } of this.#waiting) {
      if (error) reject(error);
      else resolve({ value: undefined, done: true });
    }
    this.#waiting = [];
  }

  next(): Promise<IteratorResult<any>> {
    if (this.#given) this.to.handled(this.#given);
    const event = (this.#given = this.#events.shift());
    if (event) return Promise.resolve({ value: event, done: false });
    if (!this.#end) return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    const { error } = this.#end;
    // Reported once, as generators do.
    this.#end = {};
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
  }

  return(): Promise<IteratorResult<any>> {
    this.#events.length = 0;
    this.end();
    this.to.left();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
