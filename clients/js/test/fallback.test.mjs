// A network that blocks WebSockets: the client over server-sent events and POSTs.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import WebSocket from "ws";
import { connect } from "../dist/index.js";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const offsets = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

/** A network that drops every upgrade, while `blocked`. */
class Blocked extends WebSocket {
  static blocked = true;
  static tried = 0;

  constructor(url, protocols) {
    Blocked.tried += 1;
    super(Blocked.blocked ? "ws://127.0.0.1:1/ws" : url, protocols);
  }
}

describe("without WebSockets", () => {
  let server;
  const clients = [];
  before(async () => (server = await startServer()));
  after(() => server.close());
  afterEach(() => clients.splice(0).forEach((client) => client.close()));

  function start(options = {}) {
    const client = connect(server.url, { WebSocket: Blocked, token: () => token(), minDelayMs: 10, ...options });
    clients.push(client);
    return client;
  }

  it("subscribes, publishes, reads history, and resumes after a cut", async () => {
    const client = start();
    const got = [];
    const how = [];
    const one = client.subscribe("room:sse1", { onSubscribed: ({ recovered }) => how.push(recovered) }, ({ offset }) => got.push(offset));
    const two = client.subscribe("room:sse2", { eventTypes: ["count"] });
    await Promise.all([one.ready, two.ready]);
    assert.ok(Blocked.tried >= 2);
    const { offset, id } = await client.publish("room:sse1", "count", { n: 1 }, { idempotencyKey: "k" });
    assert.deepEqual([offset, (await client.publish("room:sse1", "count", { n: 1 }, { idempotencyKey: "k" })).id], [1, id]);
    await server.publishMany("room:sse1", 2, 3);
    await until(() => got.length === 3, "the events");
    server.proxy.refuse();
    await server.publishMany("room:sse1", 4, 6);
    server.proxy.heal();
    await until(() => got.length === 6, "what was missed");
    assert.deepEqual(got, offsets(1, 6));
    assert.equal(how.at(-1), true);
    const { epoch } = one.position;
    assert.deepEqual((await client.history("room:sse1", { limit: 2, since: { epoch, offset: 3 } })).events.map(({ offset }) => offset), [4, 5]);
    assert.deepEqual((await client.history("room:sse1", { limit: 2, reverse: true })).events.map(({ offset }) => offset), [6, 5]);
    await assert.rejects(client.history("plain:1"), { code: "failed_precondition" });
    await server.publish("room:sse2", "count", 1);
    for await (const event of two) {
      assert.equal(event.data, 1);
      break;
    }
  });

  it("reports refusals as over a WebSocket", async () => {
    const client = start();
    await assert.rejects(client.subscribe("secret:1", { onError: () => {} }, () => {}).ready, { code: "permission_denied" });
    await assert.rejects(client.publish("secret:1", "a", 1), { code: "permission_denied" });
    await assert.rejects(client.publish("room:sse", "subscribe", 1), { code: "invalid_argument" });
    assert.equal(client.state, "open");
  });

  it("requests another token if one is refused", async () => {
    const why = [];
    const client = start({ token: ({ refused }) => (why.push(refused), refused ? token() : "rubbish") });
    await client.subscribe("room:sse3", () => {}).ready;
    assert.deepEqual(why, [false, true]);
  });

  it("works in Node 20 without a WebSocket class", async (t) => {
    const { WebSocket } = globalThis;
    globalThis.WebSocket = undefined;
    t.after(() => (globalThis.WebSocket = WebSocket));
    const client = start({ WebSocket: undefined });
    const got = [];
    await client.subscribe("room:sse4", ({ offset }) => got.push(offset)).ready;
    await client.publish("room:sse4", "count", 1);
    await until(() => got.length === 1, "the event");
  });

  it("returns to a WebSocket once one succeeds, and misses nothing", async (t) => {
    const real = globalThis.setTimeout;
    // It does not wait half a minute.
    t.mock.method(globalThis, "setTimeout", (run, wait, ...rest) => real(run, wait >= 30_000 && wait < 31_000 ? wait / 100 : wait, ...rest));
    const client = start({ requestTimeoutMs: 20_000 });
    const got = [];
    const stale = [];
    await client.subscribe("room:sse5", { onStale: (why) => stale.push(why) }, ({ offset }) => got.push(offset)).ready;
    Blocked.blocked = false;
    t.after(() => (Blocked.blocked = true));
    const transport = async () => (await server.api("GET", "/connections?channel=room:sse5")).connections.map((one) => one.transport).join();
    let count = 0;
    await until(async () => (await server.publishMany("room:sse5", ++count, count), (await transport()) === "websocket"), "the socket");
    await until(() => got.length === count, "the events");
    assert.deepEqual([got, stale], [offsets(1, count), []]);
  });
});

describe("rendered on a server", () => {
  it("a client with a relative address does nothing, and throws nothing", async () => {
    const client = connect("/ws");
    client.subscribe("room:1", () => {});
    assert.equal(client.state, "connecting");
    await assert.rejects(client.presence("room:1"), { code: "failed_precondition" });
    client.close();
  });
});
