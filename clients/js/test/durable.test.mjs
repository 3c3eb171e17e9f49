// Durable subscriptions: what was not acknowledged comes again, on any connection, device and transport.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import WebSocket from "ws";
import { connect } from "../dist/index.js";
import { connect as connectBackend } from "../dist/node.js";
import { fakeSockets, settle } from "./support/fake.mjs";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

describe("durable subscriptions", () => {
  let server;
  let backend;
  const clients = [];
  before(async () => {
    server = await startServer();
    backend = connectBackend(`http://${server.internal}`, { token: token({ user: "backend", roles: ["service", "admin"] }) });
  });
  after(() => {
    backend.close();
    return server.close();
  });
  afterEach(() => clients.splice(0).forEach((client) => client.close()));

  function start(options = {}) {
    const client = connect(server.url, { WebSocket, token: () => token(), minDelayMs: 10, ...options });
    clients.push(client);
    return client;
  }

  async function cursor(channel) {
    for await (const { position } of backend.getCursors({ channel })) return position.offset;
  }

  /** Another device of the same user: the offsets that it gets, and its `subscribed`. */
  async function device(channel, options = {}, transports = undefined) {
    const client = start({ ...(transports && { transports }) });
    const got = [];
    const subscription = client.subscribe(channel, { durable: "inbox", ...options }, ({ offset }) => void got.push(offset));
    return { client, got, subscription, how: await subscription.ready };
  }

  it("resume on another device behind what was acknowledged", async () => {
    const phone = await device("room:d1");
    assert.deepEqual([phone.how.recovered, phone.how.cursor], [false, 0]);
    await server.publishMany("room:d1", 1, 4);
    await until(() => phone.got.length === 4, "the events");
    phone.subscription.ack(2);
    phone.client.ack("room:d1", 1);
    await until(async () => (await cursor("room:d1")) === 2, "the cursor");
    phone.client.close();
    await server.publishMany("room:d1", 5, 5);
    const desk = await device("room:d1");
    await until(() => desk.got.length === 3, "what is not acknowledged");
    assert.deepEqual([desk.got, desk.how.cursor, desk.how.recovered], [[3, 4, 5], 2, true]);
  });

  it("acknowledge what handlers have handled, in order, also when the client closes", async () => {
    const phone = start();
    const slow = [];
    let count = 0;
    const handler = () => (++count === 1 ? new Promise((resolve) => slow.push(resolve)) : undefined);
    await phone.subscribe("room:d2", { durable: "inbox", autoAck: true }, handler).ready;
    await server.publishMany("room:d2", 1, 3);
    await until(() => count === 3, "the events");
    assert.equal(await cursor("room:d2"), 0);
    slow[0]();
    await settle();
    phone.close();
    await until(async () => (await cursor("room:d2")) === 3, "the cursor");
  });

  it("deliver an event again whose handler has failed", async () => {
    const client = start();
    const got = [];
    const errors = [];
    client.on("error", ({ message }) => errors.push(message));
    const handler = ({ offset }) => {
      got.push(offset);
      if (got.length === 2) throw new Error("the database is away");
    };
    await client.subscribe("room:d3", { durable: "inbox", autoAck: true }, handler).ready;
    await server.publishMany("room:d3", 1, 3);
    await until(() => got.length === 3, "the events");
    await until(async () => (await cursor("room:d3")) === 1, "the first acknowledgement");
    server.proxy.cut();
    await until(() => got.length === 5, "the events again");
    assert.deepEqual([got, errors], [[1, 2, 3, 2, 3], ["the database is away"]]);
    await until(async () => (await cursor("room:d3")) === 3, "the last acknowledgement");
  });

  it("acknowledge an event of a loop when it asks for the next one", async () => {
    const client = start();
    const stream = client.subscribe("room:d4", { durable: "inbox", autoAck: true });
    await stream.ready;
    await server.publishMany("room:d4", 1, 3);
    for await (const { offset } of stream) if (offset === 2) break;
    await until(async () => (await cursor("room:d4")) === 1, "the cursor");
    const again = await device("room:d4");
    await until(() => again.got.length === 2, "the events that were not handled");
    assert.deepEqual(again.got, [2, 3]);
  });

  it("resume over HTTP too, and acknowledge once there is a WebSocket", async () => {
    await device("room:d5");
    await server.publishMany("room:d5", 1, 2);
    const sse = await device("room:d5", { autoAck: true }, ["sse"]);
    await until(() => sse.got.length === 2, "the events");
    assert.deepEqual([sse.got, sse.how.cursor], [[1, 2], 0]);
  });

  it("with different names are independent, and a back end sees and moves both", async () => {
    const client = start();
    const seen = { a: [], b: [] };
    const subscribe = (durable) => client.subscribe("room:d6", { durable, autoAck: durable === "a" }, ({ offset }) => void seen[durable].push(offset)).ready;
    await Promise.all([subscribe("a"), subscribe("b")]);
    await server.publishMany("room:d6", 1, 2);
    await until(() => seen.a.length === 2 && seen.b.length === 2, "the events");
    const all = async () => {
      const found = [];
      for await (const { user, durable, position, usedAt } of backend.getCursors({ channel: "room:d6", pageSize: 1 })) {
        assert.ok(usedAt.getTime() > 0);
        found.push([user, durable, position.offset]);
      }
      return found;
    };
    await until(async () => JSON.stringify(await all()) === '[["ann","a",2],["ann","b",0]]', "the cursor of a");
    await backend.ack("room:d6", 1, { durable: "b", user: "ann" });
    assert.deepEqual(await all(), [["ann", "a", 2], ["ann", "b", 1]]);
  });

  it("of a back end resume behind the cursor", async () => {
    const first = backend.subscribe("room:d7", { durable: "worker", autoAck: true });
    await first.ready;
    await server.publishMany("room:d7", 1, 3);
    for await (const { offset } of first) if (offset === 2) break;
    await until(async () => (await cursor("room:d7")) === 1, "the cursor");
    const got = [];
    const second = backend.subscribe("room:d7", { durable: "worker" });
    for await (const { offset } of second) {
      got.push(offset);
      if (offset === 3) {
        await second.ack("room:d7", 3);
        break;
      }
    }
    assert.deepEqual([got, await cursor("room:d7")], [[2, 3], 3]);
    await assert.rejects(backend.subscribe("room:d7").ack("room:d7", 1), { code: "failed_precondition" });
  });

  it("are refused without history", async () => {
    await assert.rejects(start().subscribe("plain:d", { durable: "inbox", onError: () => {} }, () => {}).ready, { code: "failed_precondition" });
  });
});

describe("acknowledgements", () => {
  it("a further subscription begins behind the cursor, and the first one gets no event twice", async (t) => {
    const { Fake, sockets } = fakeSockets();
    const client = connect("ws://test/ws", { WebSocket: Fake, transports: ["websocket"] });
    t.after(() => client.close());
    await settle();
    sockets[0].welcome();
    const got = { one: [], two: [] };
    client.subscribe("a", { durable: "inbox", eventTypes: ["count"] }, ({ offset }) => void got.one.push(offset));
    await settle();
    sockets[0].subscribed({ a: 2 }, { recovered: true, cursor: 0 });
    for (const offset of [1, 2]) sockets[0].event("a", offset);
    client.subscribe("a", { durable: "inbox" }, ({ offset }) => void got.two.push(offset));
    await settle();
    assert.deepEqual(sockets[0].of("subscribe").at(-1).since, {});
    sockets[0].subscribed({ a: 2 }, { recovered: true, cursor: 0 });
    for (const offset of [1, 2, 3]) sockets[0].event("a", offset);
    assert.deepEqual(got, { one: [1, 2, 3], two: [1, 2, 3] });
  });

  it("are sent rarely, and only the newest of each channel", async (t) => {
    const { Fake, sockets } = fakeSockets();
    const client = connect("ws://test/ws", { WebSocket: Fake, transports: ["websocket"] });
    t.after(() => client.close());
    await settle();
    sockets[0].welcome();
    const one = client.subscribe("a", { durable: "inbox" }, () => {});
    await settle();
    sockets[0].subscribed({ a: 0 }, { recovered: true, cursor: 0 });
    for (let offset = 1; offset <= 100; offset++) {
      sockets[0].event("a", offset);
      one.ack(offset);
    }
    await until(() => sockets[0].of("ack").length === 2, "the second acknowledgement");
    assert.deepEqual(sockets[0].of("ack").map(({ channel, durable, offset }) => [channel, durable, offset]), [["a", "inbox", 1], ["a", "inbox", 100]]);
  });

  it("wait for all subscriptions of the channel", async (t) => {
    const { Fake, sockets } = fakeSockets();
    const client = connect("ws://test/ws", { WebSocket: Fake, transports: ["websocket"] });
    t.after(() => client.close());
    await settle();
    sockets[0].welcome();
    const [one, two] = [1, 2].map(() => client.subscribe("a", { durable: "inbox", minIntervalMs: 200 }, () => {}));
    await settle();
    assert.deepEqual(sockets[0].of("subscribe").map(({ durable, min_interval, channels }) => [durable, min_interval, channels]), [["inbox", "200ms", ["a"]]]);
    sockets[0].subscribed({ a: 0 }, { recovered: true, cursor: 0 });
    sockets[0].event("a", 1);
    sockets[0].event("a", 2);
    one.ack(2);
    assert.deepEqual(sockets[0].of("ack"), []);
    two.ack(1);
    assert.deepEqual(sockets[0].of("ack").map(({ offset }) => offset), [1]);
  });
});
