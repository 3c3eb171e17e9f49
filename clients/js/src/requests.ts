import { errorOf, TidingsError } from "./errors.js";
import { Rate } from "./rate.js";

/** The most unanswered requests at one time. */
const WINDOW = 32;
/** If a refusal has no useful retry time, requests are at least this far apart, in milliseconds. */
const LEAST_GAP = 5;

interface Request {
  id: number;
  text: string;
  /** When it was sent on this connection; 0 while it is queued. */
  sent: number;
  /** It may have an effect each time that it is sent, so it is not repeated. */
  once: boolean;
  resolve: (reply: any) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * Requests and their replies. Requests that were not answered when a connection was lost are sent
 * again on the next one, in the same order. After a refusal with `retry_after_ms`, requests are
 * sent one at a time: a token bucket with one token accepts one request, and would refuse a whole
 * window.
 */
export class Requests {
  /** In the order in which they were made. */
  readonly #waiting = new Map<number, Request>();
  #last = 0;
  #inFlight = 0;
  #open = false;
  readonly #rate = new Rate(LEAST_GAP);
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly send: (text: string) => void,
    readonly limit: number,
    readonly timeout: number,
  ) {}

  /** An id for a message that is not stored here. */
  nextId(): number {
    return ++this.#last;
  }

  /** Sends a request, now or when there is a connection. */
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
        this.#pump();
      }, this.timeout);
      const text = JSON.stringify({ ...message, id });
      const once = (message as { type?: string }).type === "rpc";
      this.#waiting.set(id, { id, text, sent: 0, once, resolve, reject, timer });
      this.#pump();
    });
  }

  /** A connection that accepts requests is open. */
  opened(): void {
    this.#open = true;
    this.#pump();
  }

  /**
   * The connection is lost. With `tooBig` the server refused a message because of its size: the
   * largest one in flight fails, because it would be refused forever.
   */
  lost(tooBig: boolean): void {
    this.#open = false;
    this.#cancelTimer();
    const sent = [...this.#waiting.values()].filter((request) => request.sent);
    for (const request of sent.filter(({ once }) => once)) {
      const text = "the connection was lost: it is unknown whether the call had an effect";
      this.#settle(request.id)?.reject(new TidingsError("unavailable", text));
    }
    for (const request of sent) request.sent = 0;
    this.#inFlight = 0;
    if (!tooBig || !sent.length) return;
    const biggest = sent.reduce((one, other) => (other.text.length > one.text.length ? other : one));
    const text = "the message is bigger than the server takes (limits.message_bytes)";
    this.#settle(biggest.id)?.reject(new TidingsError("invalid_argument", text));
  }

  /** Handles a reply; false if it does not belong to one of these requests. */
  answer(message: any): boolean {
    const request = this.#waiting.get(message.id);
    if (!request) return false;
    // Only a refusal by a rate limit says that a call was not made.
    const retries = !request.once || message.code === "resource_exhausted";
    if (message.type === "error" && message.retry_after_ms !== undefined && retries) {
      this.#refused(request, message.retry_after_ms);
    } else {
      this.#settle(request.id);
      this.#rate.accepted();
      if (message.type === "error") request.reject(errorOf(message));
      else request.resolve(message);
    }
    this.#pump();
    return true;
  }

  /** Fails all requests. */
  fail(error: Error): void {
    this.#open = false;
    this.#cancelTimer();
    for (const id of [...this.#waiting.keys()]) this.#settle(id)?.reject(error);
  }

  #refused(request: Request, retryAfter: number): void {
    this.#rate.refused(request.sent, retryAfter);
    if (request.sent) this.#inFlight -= 1;
    request.sent = 0;
    // A longer delay replaces the current one.
    this.#cancelTimer();
  }

  #settle(id: number): Request | undefined {
    const request = this.#waiting.get(id);
    if (!request) return undefined;
    clearTimeout(request.timer);
    if (request.sent) this.#inFlight -= 1;
    this.#waiting.delete(id);
    return request;
  }

  #cancelTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #pump(): void {
    if (!this.#open || this.#timer !== undefined) return;
    // At the first slow request the rest of the queue is not checked: requests stay in order.
    for (const request of this.#waiting.values()) {
      if (this.#inFlight >= WINDOW) return;
      if (request.sent) continue;
      const { wait } = this.#rate;
      if (wait > 0) return this.#later(wait);
      request.sent = this.#rate.begin();
      this.#inFlight += 1;
      this.send(request.text);
    }
  }

  #later(wait: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pump();
    }, wait);
  }
}
