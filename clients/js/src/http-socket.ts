import type { WebSocketLike } from "./types.js";

/** The most characters of the channels in one stream's URL: servers and proxies accept about 8,000. */
const QUERY = 5_000;
const CODES: Record<number, string> = { 400: "invalid_argument", 401: "unauthenticated", 403: "permission_denied", 404: "not_found", 429: "resource_exhausted" };

/** A stream of server-sent events, for channels that were subscribed together. */
interface Stream {
  channels: Set<string>;
  abort: AbortController;
}

/**
 * A socket over plain HTTP, for networks that block WebSockets: server-sent events carry the
 * server's messages, and requests are POSTs. To the connection it looks like the server's socket.
 */
export class HttpSocket implements WebSocketLike {
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;
  readonly #base: string;
  readonly #streams = new Set<Stream>();
  readonly #all = new AbortController();
  #token: string | undefined;

  constructor(url: string) {
    this.#base = url.replace(/^ws/, "http").replace(/\/[^/]*$/, "");
    void this.#welcome();
  }

  send(text: string): void {
    const message = JSON.parse(text);
    void this.#take(message).catch((error) => {
      if (!this.#all.signal.aborted) this.#say({ type: "error", id: message.id, code: "unavailable", message: String(error), retry_after_ms: 1000 });
    });
  }

  close(): void {
    this.onclose = this.onmessage = null;
    this.#all.abort();
    for (const { abort } of this.#streams) abort.abort();
  }

  #say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  #end(code: number, reason: string): void {
    const { onclose } = this;
    this.close();
    onclose?.({ code, reason });
  }

  async #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers: Record<string, string> = { ...(init.headers as object) };
    if (this.#token) headers["authorization"] = `Bearer ${this.#token}`;
    return fetch(this.#base + path, { cache: "no-store", signal: this.#all.signal, ...init, headers });
  }

  /** The server is reachable once it responds. */
  async #welcome(): Promise<void> {
    try {
      const { ok, status } = await this.#fetch("/readyz");
      // A proxy that forwards only the streams answers that it does not know this page.
      if (!ok && status !== 404 && status !== 403) return this.#end(status === 503 ? 1013 : 1006, `${status}`);
      this.#say({ type: "connection_established", heartbeat_interval_ms: 30_000, timestamp: new Date().toISOString() });
    } catch {
      this.#end(1006, "the server can't be reached over HTTP");
    }
  }

  async #take(message: any): Promise<void> {
    const { type, id } = message;
    switch (type) {
      case "authenticate":
        // The token is verified with the first request that uses it.
        this.#token = message.token;
        return this.#say({ type: "authenticated", id, expires_at: expiryOf(message.token) });
      case "ping":
        await this.#fetch("/readyz");
        return this.#say({ type: "pong" });
      case "subscribe":
        return this.#subscribe(message);
      case "unsubscribe":
        for (const channel of message.channels) this.#leave(channel);
        return this.#say({ type: "unsubscribed", id, channels: message.channels });
      case "publish":
        return this.#publish(message);
      case "history":
        return this.#history(message);
      case "rpc": {
        const headers = { "content-type": "application/json" };
        const body = JSON.stringify({ method: message.method, data: message.data });
        const reply = await this.#reply(id, this.#fetch("/api/v1/rpc", { method: "POST", headers, body }));
        if (reply) this.#say({ ...reply, type, id });
        return;
      }
      case "presence": {
        const reply = await this.#reply(id, this.#fetch(`/api/v1/channels/${encodeURIComponent(message.channel)}/presence`));
        if (reply) this.#say({ ...reply, type, id });
      }
    }
  }

  /** The body of a successful response; an error is emitted. */
  async #reply(id: unknown, asked: Promise<Response>): Promise<any> {
    const response = await asked;
    if (response.ok) return response.json();
    this.#say({ ...(await errorOfResponse(response)), type: "error", id });
  }

  async #publish({ id, channel, event_type, data, traceparent, tracestate, ...rest }: any): Promise<void> {
    delete rest.type;
    const headers = { "content-type": "application/json", ...(traceparent && { traceparent }), ...(tracestate && { tracestate }) };
    const body = JSON.stringify({ ...rest, channels: [channel], type: event_type, data });
    const reply = await this.#reply(id, this.#fetch("/api/v1/events", { method: "POST", headers, body }));
    if (!reply) return;
    const [{ epoch, offset, duplicate } = {} as any] = reply.results;
    this.#say({ type: "published", id, event_id: reply.id, epoch, offset, ...(duplicate && { duplicate }) });
  }

  /** History for every user: the page's own request is only for services. A stream delivers it and is closed. */
  async #history({ id, channel, limit = 100, since, reverse }: any): Promise<void> {
    const query = new URLSearchParams({ channel });
    if (since && !reverse) query.set("last_event_id", `${since.epoch}/${since.offset}`);
    else query.set("rewind", `${reverse && !since ? limit : 10_000}`);
    const abort = new AbortController();
    const fail = (code: string, message: string) => this.#say({ type: "error", id, code, message });
    let top: any;
    let events: any[] = [];
    try {
      await this.#read(query, abort, {
        failed: (error) => this.#say({ ...error, type: "error", id }),
        message: (message) => {
          if (message.type === "subscribed") {
            const [entry] = message.channels;
            const [error] = message.errors;
            if (error) fail(error.code, error.message);
            else if (entry.epoch === undefined) fail("failed_precondition", `${channel} keeps no history`);
            else if (since && since.epoch !== entry.epoch) fail("out_of_range", "the position is of another epoch");
            else top = entry;
            if (!top || !top.replayed) abort.abort();
          } else if (message.offset !== undefined && message.offset <= top.offset) {
            events.push(message);
            if (events.length >= top.replayed) abort.abort();
          } else if (message.offset !== undefined) {
            abort.abort();
          }
        },
      });
    } catch (error) {
      if (!abort.signal.aborted) throw error;
    }
    if (!top) return;
    if (reverse) events = events.reverse().filter(({ offset }) => !since || offset < since.offset);
    this.#say({ type: "history", id, channel, epoch: top.epoch, offset: top.offset, events: events.slice(0, limit) });
  }

  #subscribe({ id, channels, since = {}, event_types, filter, presence, rewind }: any): void {
    const terms = new URLSearchParams();
    if (event_types) terms.set("event_types", event_types.join(","));
    if (filter) terms.set("filter", filter);
    if (presence) terms.set("presence", "true");
    const resumed = channels.filter((channel: string) => since[channel]);
    const fresh = channels.filter((channel: string) => !since[channel]);
    for (const [names, resumes] of [[resumed, true], [fresh, false]] as [string[], boolean][]) {
      for (const part of parts(names, QUERY)) {
        const query = new URLSearchParams(terms);
        for (const channel of part) query.append("channel", channel);
        const at = part.map((channel) => `${since[channel]?.epoch}/${since[channel]?.offset}`);
        if (resumes) query.set("last_event_id", at.join(","));
        else if (rewind) query.set("rewind", `${rewind}`);
        void this.#follow(id, part, query);
      }
    }
  }

  async #follow(id: unknown, channels: string[], query: URLSearchParams): Promise<void> {
    for (const channel of channels) this.#leave(channel);
    const stream: Stream = { channels: new Set(channels), abort: new AbortController() };
    this.#streams.add(stream);
    const refuse = ({ code, message, retry_after_ms }: any) => {
      this.#streams.delete(stream);
      // The token is verified here first.
      if (code === "unauthenticated") return this.#end(4401, message);
      const errors = channels.map((channel) => ({ channel, code, message, retry_after_ms }));
      this.#say({ type: "subscribed", id, channels: [], errors });
    };
    let begun = false;
    try {
      await this.#read(query, stream.abort, {
        failed: refuse,
        message: (message) => {
          if (message.type === "close") return this.#end(message.code, message.reason);
          // A new token needs a new stream: the close follows, and the client reconnects with it.
          if (message.type === "token_expiring") return;
          if (message.type === "subscribed" && !begun) {
            begun = true;
            return this.#say({ ...message, id });
          }
          // Other channels of the stream may have been unsubscribed since.
          const mine = message.channel === undefined || stream.channels.has(message.channel) || [...stream.channels].some((name) => name.endsWith("*"));
          if (mine) this.#say(message);
        },
      });
    } catch {
      if (stream.abort.signal.aborted) return;
    }
    if (this.#streams.delete(stream) && !stream.abort.signal.aborted) this.#end(1006, "the stream has ended");
  }

  /** Reads a stream until it ends. */
  async #read(query: URLSearchParams, abort: AbortController, to: { message(message: any): void; failed(error: any): void }): Promise<void> {
    const response = await this.#fetch(`/sse?${query}`, { headers: { accept: "text/event-stream" }, signal: abort.signal });
    if (!response.ok) return to.failed(await errorOfResponse(response));
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true }).replace(/\r/g, "")).split("\n\n");
      rest = blocks.pop()!;
      for (const block of blocks) {
        const data = block.split("\n").flatMap((line) => (line.startsWith("data:") ? [line.slice(5)] : [])).join("\n");
        if (abort.signal.aborted) return;
        if (data) to.message(JSON.parse(data));
        // A comment: the server is alive.
        else this.#say({ type: "pong" });
      }
    }
  }

  #leave(channel: string): void {
    for (const stream of this.#streams) {
      if (!stream.channels.delete(channel) || stream.channels.size) continue;
      this.#streams.delete(stream);
      stream.abort.abort();
    }
  }
}

/** Splits names into parts of about this many characters. */
function parts(names: string[], size: number): string[][] {
  const found: string[][] = [];
  let left = 0;
  for (const name of names) {
    const length = name.length + 50;
    if (!found.length || left < length) {
      found.push([]);
      left = size;
    }
    left -= length;
    found.at(-1)!.push(name);
  }
  return found;
}

async function errorOfResponse(response: Response): Promise<object> {
  const problem: any = await response.json().catch(() => ({}));
  const after = Number(response.headers.get("retry-after"));
  const [wrong] = problem.errors ?? [];
  return {
    code: problem.code ?? CODES[response.status] ?? "unavailable",
    message: problem.detail ?? problem.title ?? `the server answered ${response.status}`,
    ...(wrong && { details: wrong }),
    ...(after > 0 && { retry_after_ms: after * 1000 }),
  };
}

/** When a token expires, by its own claim. */
function expiryOf(token: string): string | undefined {
  try {
    const { exp } = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")));
    return exp && new Date(exp * 1000).toISOString();
  } catch {
    return undefined;
  }
}
