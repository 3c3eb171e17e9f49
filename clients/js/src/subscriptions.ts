import { errorOf, type TidingsError } from "./errors.js";
import type { Follower } from "./follower.js";
import { type Terms, Topic } from "./topic.js";
import type { Gap, PresenceChange, TidingsEvent } from "./types.js";

/** What may stand in one `subscribe`, in characters: with filter and types under the server's limit of 64 KiB. */
const MESSAGE = 50_000;
/** Refusals after which the same may be asked again. */
const PASSING = new Set(["unavailable", "internal", "resource_exhausted"]);

/** What the subscriptions need of the connection. */
export interface Wire {
  readonly ready: boolean;
  send(message: object): void;
  ask(message: object): Promise<any>;
  nextId(): number;
}

/** All that is followed, and who of the application gets what. */
export class Subscriptions {
  readonly #topics = new Map<string, Topic>();
  readonly #dirty = new Set<Topic>();
  readonly #left = new Set<string>();
  /** Refused for now: asked for again together, as one message. */
  readonly #refusedNow = new Set<Topic>();
  #retry: { at: number; timer: ReturnType<typeof setTimeout> } | undefined;
  #flushing = false;
  #message = MESSAGE;

  constructor(readonly wire: Wire) {}

  /** Whether nothing is followed. */
  get empty(): boolean {
    return this.#topics.size === 0;
  }

  /** Whether a subscription can be added: a connection has one filter for each channel. */
  takes(channel: string, follower: Follower): boolean {
    const topic = this.#topics.get(channel);
    return !topic || topic.filter === (follower.options.filter ?? "");
  }

  /** Adds a subscription that it `takes`. */
  add(channel: string, follower: Follower): void {
    const filter = follower.options.filter ?? "";
    let topic = this.#topics.get(channel);
    if (!topic) this.#topics.set(channel, (topic = new Topic(channel, filter)));
    const begun = topic.asked || [...topic.followers].some((other) => other.at || other.stood);
    topic.followers.add(follower);
    if (begun && follower.rewind) return void this.#rewind(topic, follower);
    if (topic.needs(follower)) return this.#ask(topic);
    const stands = topic;
    queueMicrotask(() => {
      if (!stands.followers.has(follower)) return;
      if (stands.live) stands.join(follower);
      else this.#ask(stands);
    });
  }

  /** Takes a subscription away. */
  remove(channel: string, follower: Follower): void {
    const topic = this.#topics.get(channel);
    if (!topic) return;
    const was = topic.followers.delete(follower) || topic.arriving.delete(follower);
    if (!was || topic.followers.size || topic.arriving.size) return;
    this.#drop(topic);
    this.#left.add(channel);
    this.#flushSoon();
  }

  /** There is a connection: resumes everything. */
  opened(): void {
    for (const topic of this.#topics.values()) this.#dirty.add(topic);
    this.#left.clear();
    this.#flush();
  }

  /** The connection is lost. `tooBig`: because a message was. */
  lost(tooBig: boolean): void {
    for (const topic of this.#topics.values()) topic.lost();
    if (tooBig) this.#message = Math.max(1024, this.#message / 2);
  }

  /** The end of every subscription. */
  fail(error: Error): void {
    clearTimeout(this.#retry?.timer);
    for (const topic of [...this.#topics.values()]) this.#end(topic, error);
  }

  /** Takes a message of the server; false if it is none for a subscription. */
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

  /** Hands an event on; false if nobody has asked for it. */
  event(event: TidingsEvent): boolean {
    const { channel, offset } = event;
    if (channel === undefined) return false;
    const exact = this.#topics.get(channel);
    // Read first: `take` moves on.
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

  /** A `rewind` where others are further already: finds out from where, and resumes from there. */
  async #rewind(topic: Topic, follower: Follower): Promise<void> {
    const { channel } = topic;
    const count = follower.rewind;
    // Until then it takes no part.
    topic.followers.delete(follower);
    topic.arriving.add(follower);
    let failure: TidingsError | undefined;
    try {
      const { epoch, offset, events } = await this.wire.ask({ type: "history", channel, limit: 1 });
      const oldest = events[0]?.offset ?? offset + 1;
      follower.at = { epoch, offset: Math.max(0, offset - count, oldest - 1) };
    } catch (error) {
      // Without history there is nothing to go back to.
      if ((error as TidingsError).code !== "failed_precondition") failure = error as TidingsError;
    }
    follower.rewind = 0;
    if (!topic.arriving.delete(follower)) return;
    if (failure) {
      follower.to.ended(failure);
      if (!topic.followers.size && !topic.arriving.size) this.#end(topic, failure);
      return;
    }
    topic.followers.add(follower);
    if (topic.needs(follower)) this.#ask(topic);
    else topic.join(follower);
  }

  #ask(topic: Topic): void {
    this.#dirty.add(topic);
    this.#flushSoon();
  }

  /** Later in this turn: what is subscribed to together is asked for together. */
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
      if (!topic.followers.size) continue;
      const terms = topic.terms();
      const key = JSON.stringify(terms);
      const group = groups.get(key);
      if (group) group.topics.push(topic);
      else groups.set(key, { terms, topics: [topic] });
    }
    this.#dirty.clear();
    for (const { terms, topics } of groups.values()) this.#subscribe(terms, topics);
  }

  /** One message for all channels with the same terms, unless it would be too big. */
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
    // Grows with each refusal in a row, whatever the server says.
    const grown = Math.random() * Math.min(30_000, 1000 * 2 ** topic.failures++);
    const advised = (error.retryAfterMs ?? 0) * (1 + Math.random() / 4);
    // The first time the server's word is enough.
    const first = error.retryAfterMs !== undefined && topic.failures === 1;
    this.#retryIn(topic, first ? advised : Math.max(advised, grown));
  }

  /** Asks again for a topic; all that wait are asked for when the last of them may be. */
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
    const followers = [...topic.followers, ...topic.arriving];
    this.#drop(topic);
    for (const follower of followers) follower.to.ended(error);
  }

  #drop(topic: Topic): void {
    this.#topics.delete(topic.channel);
    this.#dirty.delete(topic);
    topic.followers.clear();
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
      for (const follower of [...(topic?.followers ?? [])]) follower.to.presence(change);
    }
  }
}
