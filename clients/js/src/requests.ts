import { errorOf, TidingsError } from "./errors.js";

/** Requests without an answer at one time: bounds what a server refuses in a row. */
const WINDOW = 32;

interface Request {
  id: number;
  text: string;
  sent: boolean;
  resolve: (reply: any) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * Requests and their answers. What was not answered when a connection was lost is asked again on
 * the next one, in the same order; what the server refuses with `retry_after_ms`, after that time.
 */
export class Requests {
  /** In the order in which they were made. */
  readonly #waiting = new Map<number, Request>();
  #last = 0;
  #open = false;
  #held: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly send: (text: string) => void,
    readonly limit: number,
    readonly timeout: number,
  ) {}

  /** An id for a message that is not kept here. */
  nextId(): number {
    return ++this.#last;
  }

  /** Asks, now or when there is a connection. */
  ask(message: object): Promise<any> {
    if (this.#waiting.size >= this.limit) {
      const text = `${this.limit} requests are waiting already (queueLimit)`;
      return Promise.reject(new TidingsError("resource_exhausted", text));
    }
    return new Promise((resolve, reject) => {
      const id = this.nextId();
      const timer = setTimeout(() => {
        const text = `no answer within ${this.timeout} ms (requestTimeoutMs)`;
        this.#settle(id)?.reject(new TidingsError("deadline_exceeded", text));
      }, this.timeout);
      const text = JSON.stringify({ ...message, id });
      this.#waiting.set(id, { id, text, sent: false, resolve, reject, timer });
      this.#pump();
    });
  }

  /** There is a connection that takes requests. */
  opened(): void {
    this.#open = true;
    this.#pump();
  }

  /**
   * The connection is lost. With `tooBig` the server refused a message for its size: the biggest
   * of those under way is given up, or it would be refused for ever.
   */
  lost(tooBig: boolean): void {
    this.#open = false;
    this.#release();
    const sent = [...this.#waiting.values()].filter((request) => request.sent);
    for (const request of sent) request.sent = false;
    if (!tooBig || !sent.length) return;
    const biggest = sent.reduce((one, other) => (other.text.length > one.text.length ? other : one));
    const text = "the message is bigger than the server takes (limits.message_bytes)";
    this.#settle(biggest.id)?.reject(new TidingsError("invalid_argument", text));
  }

  /** Takes an answer; false if it is not for a request of these. */
  answer(message: any): boolean {
    const request = this.#waiting.get(message.id);
    if (!request) return false;
    if (message.type === "error" && message.retry_after_ms !== undefined) {
      request.sent = false;
      this.#hold(message.retry_after_ms);
      return true;
    }
    this.#settle(request.id);
    if (message.type === "error") request.reject(errorOf(message));
    else request.resolve(message);
    this.#pump();
    return true;
  }

  /** Gives everything up. */
  fail(error: Error): void {
    this.#open = false;
    this.#release();
    for (const id of [...this.#waiting.keys()]) this.#settle(id)?.reject(error);
  }

  #settle(id: number): Request | undefined {
    const request = this.#waiting.get(id);
    if (!request) return undefined;
    clearTimeout(request.timer);
    this.#waiting.delete(id);
    return request;
  }

  #hold(millis: number): void {
    clearTimeout(this.#held);
    this.#held = setTimeout(() => {
      this.#release();
      this.#pump();
    }, millis);
  }

  #release(): void {
    clearTimeout(this.#held);
    this.#held = undefined;
  }

  #pump(): void {
    if (!this.#open || this.#held !== undefined) return;
    let room = WINDOW;
    for (const request of this.#waiting.values()) {
      if (room-- <= 0) return;
      if (!request.sent) {
        request.sent = true;
        this.send(request.text);
      }
    }
  }
}
