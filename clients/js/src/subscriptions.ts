import { errorOf, type TidingsError } from "./errors.js";
import type { Subscriber } from "./subscriber.js";
import { sharedTerms, type Terms, Topic } from "./topic.js";
import type { Gap, PresenceChange, TidingsEvent } from "./types.js";

/**
 * The most characters of one `subscribe` message: with filter and types it stays below the server's
 * limit of 64 KiB.
 */
const MESSAGE = 50_000;
/** Acknowledgements are sent this far apart, in milliseconds, and so many at once. */
const ACK_MS = 200;
const ACKS = 8;
/** Error codes after which the same request may be repeated. */
const PASSING = new Set(["unavailable", "internal", "resource_exhausted"]);

/** The operations that the subscriptions need of the connection. */
export interface Wire {
  readonly ready: boolean;
  send(message: object): void;
  ask(message: object): Promise<any>;
  nextId(): number;
}

/** All subscribed channels, with the application's subscriptions to them. */
export class Subscriptions {
  readonly #topics = new Map<string, Topic>();
  readonly #dirty = new Set<Topic>();
  readonly #left = new Set<string>();
  /** Temporarily refused: requested again together, in one message. */
  readonly #refusedNow = new Set<Topic>();
  #retry: { at: number; timer: ReturnType<typeof setTimeout> } | undefined;
  #flushing = false;
  #message = MESSAGE;
  /** With something to acknowledge. */
  readonly #acked = new Set<Topic>();
  #acking: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly wire: Wire) {}

  /** Whether there are no subscriptions. */
  get empty(): boolean {
    return this.#topics.size === 0;
  }

  /** Whether a subscription can be added: a connection has one filter, one durable name and one interval for each channel. */
  takes(channel: string, subscriber: Subscriber): boolean {
    const topic = this.#topics.get(channel);
    return !topic || JSON.stringify(topic.shared) === JSON.stringify(sharedTerms(subscriber.options));
  }

  /** Adds a subscription that it `takes`. */
  add(channel: string, subscriber: Subscriber): void {
    let topic = this.#topics.get(channel);
    if (!topic) this.#topics.set(channel, (topic = new Topic(channel, sharedTerms(subscriber.options))));
    const own = topic;
    subscriber.onAck = () => this.#ack(own);
    const begun = topic.asked || [...topic.subscribers].some((other) => other.at || other.confirmed);
    topic.subscribers.add(subscriber);
    if (begun && subscriber.rewind) return void this.#rewind(topic, subscriber);
    if (topic.needs(subscriber)) return this.#ask(topic);
    const stands = topic;
    queueMicrotask(() => {
      if (!stands.subscribers.has(subscriber)) return;
      if (stands.live) stands.join(subscriber);
      else this.#ask(stands);
    });
  }

  /** Removes a subscription. */
  remove(channel: string, subscriber: Subscriber): void {
    const topic = this.#topics.get(channel);
    if (!topic) return;
    this.sendAcks(topic);
    const was = topic.subscribers.delete(subscriber) || topic.arriving.delete(subscriber);
    if (!was || topic.subscribers.size || topic.arriving.size) return;
    this.#drop(topic);
    this.#left.add(channel);
    this.#flushSoon();
  }

  /** Acknowledges the events of a channel up to an offset, for all its subscriptions. */
  ack(channel: string, offset: number): void {
    for (const subscriber of this.#topics.get(channel)?.subscribers ?? []) subscriber.ack(offset);
  }

  #ack(topic: Topic): void {
    this.#acked.add(topic);
    if (!this.#acking) this.#ackSome();
  }

  /** Sends acknowledgements, and the next ones not before a while: each message counts for the server's limit. */
  #ackSome(): void {
    this.#acking = undefined;
    const topics = [...this.#acked].slice(0, ACKS);
    const sent = topics.filter((topic) => this.sendAcks(topic));
    if (sent.length || this.#acked.size) this.#acking = setTimeout(() => this.#ackSome(), ACK_MS);
  }

  /** Sends the acknowledgement of one channel, or of all. True if there was one. */
  sendAcks(topic?: Topic): boolean {
    if (!topic) return [...this.#acked].map((one) => this.sendAcks(one)).includes(true);
    const offset = topic.acked();
    // What can't be sent now is sent when the subscription has resumed.
    if (!this.#acked.delete(topic) || !this.wire.ready || !topic.live || offset <= topic.cursor) return false;
    topic.cursor = offset;
    this.wire.send({ type: "ack", channel: topic.channel, durable: topic.shared.durable, offset });
    return true;
  }

  /** A connection is open: resumes everything. */
  opened(): void {
    for (const topic of this.#topics.values()) this.#dirty.add(topic);
    this.#left.clear();
    this.#flush();
  }

  /** The connection is lost. `tooBig`: because of an oversized message. */
  lost(tooBig: boolean): void {
    for (const topic of this.#topics.values()) topic.lost();
    if (tooBig) this.#message = Math.max(1024, this.#message / 2);
  }

  /** Ends every subscription. */
  fail(error: Error): void {
    clearTimeout(this.#retry?.timer);
    clearTimeout(this.#acking);
    for (const topic of [...this.#topics.values()]) this.#end(topic, error);
  }

  /** Handles a server message; false if it concerns no subscription. */
  take(message: any): boolean {
    switch (message.type) {
      case "subscribed":
        this.#subscribed(message);
        return true;
      case "unsubscribed":
        if (message.reason) {
          for (const channel of message.channels) this.#end(this.#topics.get(channel), errorOf(message.reason));
        }
        return true;
      case "gap":
        this.#gap(message);
        return true;
      case "presence_joined":
      case "presence_left":
        this.#presence(message);
        return true;
      case "error":
        return this.#refused(message);
      default:
        return false;
    }
  }

  /** Delivers an event; false if no subscription matches it. */
  event(event: TidingsEvent): boolean {
    const { channel, offset } = event;
    if (channel === undefined) return false;
    const exact = this.#topics.get(channel);
    // Read first, because `take` advances it.
    const fresh = !exact || offset === undefined || offset > exact.top;
    const patterns = this.#patterns(channel);
    exact?.take(event);
    if (fresh) for (const topic of patterns) topic.take(event);
    return exact !== undefined || patterns.length > 0;
  }

  #patterns(channel: string): Topic[] {
    const namespace = channel.split(":", 1)[0];
    const names = [`${namespace}:*`, "*"];
    return names.flatMap((name) => this.#topics.get(name) ?? []);
  }

  /**
   * A `rewind` on a channel where other subscriptions are further ahead: determines the start
   * position, and resumes from there.
   */
  async #rewind(topic: Topic, subscriber: Subscriber): Promise<void> {
    const { channel } = topic;
    const count = subscriber.rewind;
    // Until then it gets no events.
    topic.subscribers.delete(subscriber);
    topic.arriving.add(subscriber);
    let failure: TidingsError | undefined;
    try {
      const { epoch, offset, events } = await this.wire.ask({ type: "history", channel, limit: 1 });
      const oldest = events[0]?.offset ?? offset + 1;
      subscriber.at = { epoch, offset: Math.max(0, offset - count, oldest - 1) };
    } catch (error) {
      // Without history there is nothing to rewind to.
      if ((error as TidingsError).code !== "failed_precondition") failure = error as TidingsError;
    }
    subscriber.rewind = 0;
    if (!topic.arriving.delete(subscriber)) return;
    if (failure) {
      subscriber.to.ended(failure);
      if (!topic.subscribers.size && !topic.arriving.size) this.#end(topic, failure);
      return;
    }
    topic.subscribers.add(subscriber);
    if (topic.needs(subscriber)) this.#ask(topic);
    else topic.join(subscriber);
  }

  #ask(topic: Topic): void {
    this.#dirty.add(topic);
    this.#flushSoon();
  }

  /** Deferred to the end of this turn: subscriptions made together are requested together. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (!this.wire.ready) return;
    const left = [...this.#left].filter((channel) => !this.#topics.has(channel));
    this.#left.clear();
    if (left.length) this.wire.send({ type: "unsubscribe", id: this.wire.nextId(), channels: left });
    const groups = new Map<string, { terms: Terms; topics: Topic[] }>();
    for (const topic of this.#dirty) {
      if (!topic.subscribers.size) continue;
      const terms = topic.terms();
      const key = JSON.stringify(terms);
      const group = groups.get(key);
      if (group) group.topics.push(topic);
      else groups.set(key, { terms, topics: [topic] });
    }
    this.#dirty.clear();
    for (const { terms, topics } of groups.values()) this.#subscribe(terms, topics);
  }

  /** One message for all channels with the same terms, unless it would be too large. */
  #subscribe(terms: Terms, topics: Topic[]): void {
    let channels: string[] = [];
    let since: Record<string, object> = {};
    let size = 0;
    let id = this.wire.nextId();
    const send = () => {
      if (channels.length) this.wire.send({ type: "subscribe", id, channels, since, ...terms });
      channels = [];
      since = {};
      size = 0;
      id = this.wire.nextId();
    };
    for (const topic of topics) {
      const at = topic.since();
      const more = topic.channel.length + 4 + (at ? topic.channel.length + JSON.stringify(at).length + 6 : 0);
      if (size + more > this.#message) send();
      size += more;
      channels.push(topic.channel);
      if (at) since[topic.channel] = at;
      topic.asked = { id, since: at };
      topic.live = false;
    }
    send();
  }

  #subscribed(message: any): void {
    for (const entry of message.channels) {
      const topic = this.#asked(entry.channel, message.id);
      if (topic?.began(entry)) this.#ask(topic);
      else if (topic?.shared.durable && topic.acked() > topic.cursor) this.#ack(topic);
    }
    for (const entry of message.errors) {
      const topic = this.#asked(entry.channel, message.id);
      if (topic) this.#failed(topic, errorOf(entry));
    }
  }

  #asked(channel: string, id: unknown): Topic | undefined {
    const topic = this.#topics.get(channel);
    return topic?.asked?.id === id ? topic : undefined;
  }

  /** A `subscribe` was refused as a whole. */
  #refused(message: any): boolean {
    const topics = [...this.#topics.values()].filter((topic) => topic.asked && topic.asked.id === message.id);
    for (const topic of topics) this.#failed(topic, errorOf(message));
    return topics.length > 0;
  }

  #failed(topic: Topic, error: TidingsError): void {
    topic.asked = undefined;
    const passing = PASSING.has(error.code) && (error.code !== "resource_exhausted" || error.retryAfterMs);
    if (!passing) return this.#end(topic, error);
    // Grows with each refusal in a row, whatever the server advises.
    const grown = Math.random() * Math.min(30_000, 1000 * 2 ** topic.failures++);
    const advised = (error.retryAfterMs ?? 0) * (1 + Math.random() / 4);
    // The first time the server's advice is used as it is.
    const first = error.retryAfterMs !== undefined && topic.failures === 1;
    this.#retryIn(topic, first ? advised : Math.max(advised, grown));
  }

  /** Requests a topic again; all waiting topics are requested when the last of them may be. */
  #retryIn(topic: Topic, wait: number): void {
    this.#refusedNow.add(topic);
    const at = Date.now() + wait;
    if (this.#retry && this.#retry.at >= at) return;
    clearTimeout(this.#retry?.timer);
    const timer = setTimeout(() => {
      this.#retry = undefined;
      const topics = [...this.#refusedNow];
      this.#refusedNow.clear();
      for (const one of topics) {
        if (this.#topics.get(one.channel) === one && !one.asked && !one.live) this.#ask(one);
      }
    }, wait);
    this.#retry = { at, timer };
  }

  #end(topic: Topic | undefined, error: Error): void {
    if (!topic) return;
    const subscribers = [...topic.subscribers, ...topic.arriving];
    this.#drop(topic);
    for (const subscriber of subscribers) subscriber.to.ended(error);
  }

  #drop(topic: Topic): void {
    this.#topics.delete(topic.channel);
    this.#dirty.delete(topic);
    this.#acked.delete(topic);
    topic.subscribers.clear();
    topic.arriving.clear();
  }

  #gap(message: any): void {
    const { channel, from, to, reason } = message;
    const gap: Gap = { channel, from, to, reason };
    for (const topic of [this.#topics.get(channel), ...this.#patterns(channel)]) topic?.miss(gap);
  }

  #presence(message: any): void {
    const { channel, user, type } = message;
    const change: PresenceChange = { channel, user, joined: type === "presence_joined" };
    for (const topic of [this.#topics.get(channel), ...this.#patterns(channel)]) {
      for (const subscriber of [...(topic?.subscribers ?? [])]) subscriber.to.presence(change);
    }
  }
}
