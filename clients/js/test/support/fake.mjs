// The server's side of a socket, for messages that a real server sends only rarely.

/** A class to pass as `WebSocket`; `sockets` has every created socket. */
export function fakeSockets() {
  const sockets = [];
  class Fake {
    onmessage = null;
    onclose = null;
    sent = [];
    closed = undefined;

    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      sockets.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close(code) {
      this.closed = code ?? true;
    }

    /** The server sends a message. */
    say(message) {
      this.onmessage?.({ data: JSON.stringify(message) });
    }

    /** The server, or the network, ends the connection. */
    end(code, reason = "") {
      this.onclose?.({ code, reason });
    }

    welcome(more = {}) {
      const timestamp = new Date().toISOString();
      this.say({ type: "connection_established", heartbeat_interval_ms: 30_000, timestamp, ...more });
    }

    of(type) {
      return this.sent.filter((message) => message.type === type);
    }

    /** Answers the newest `subscribe` with the offset of each channel. */
    subscribed(offsets, more = {}) {
      const { id } = this.of("subscribe").at(-1);
      const channels = Object.entries(offsets).map(([channel, offset]) => ({
        ...{ channel, epoch: "e1", offset, recovered: false, replayed: 0 },
        ...more,
      }));
      this.say({ type: "subscribed", id, channels, errors: [] });
    }

    event(channel, offset, more = {}) {
      this.say({ type: "count", channel, id: `event-${offset}`, timestamp: "2026-01-01T00:00:00.000Z", offset, data: offset, ...more });
    }
  }
  return { Fake, sockets };
}

/** Runs all pending promise callbacks. */
export async function settle() {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}
