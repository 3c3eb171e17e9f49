// Loops and requests: their limits, and the behaviour at the limits.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { connect, TidingsError } from "../dist/index.js";
import { fakeSockets, settle } from "./support/fake.mjs";

describe("loops", () => {
  let socket, client;

  beforeEach(async () => {
    const fake = fakeSockets();
    client = connect("ws://test/ws", { WebSocket: fake.Fake, transports: ["websocket"] });
    await settle();
    [socket] = fake.sockets;
    socket.welcome();
    await settle();
  });

  afterEach(() => client.close());

  async function stream(options) {
    const events = client.subscribe("a", options);
    await settle();
    socket.subscribed({ a: 0 });
    return events;
  }

  it("receive every event in order, and unsubscribe on exit", async () => {
    const events = await stream({});
    const got = [];
    for (const offset of [1, 2, 3]) socket.event("a", offset);
    for await (const { offset } of events) {
      got.push(offset);
      if (offset === 3) queueMicrotask(() => socket.event("a", 4));
      if (offset === 4) break;
    }
    await settle();
    assert.deepEqual(got, [1, 2, 3, 4]);
    assert.deepEqual(socket.of("unsubscribe").map(({ channels }) => channels), [["a"]]);
  });

  it("that are too slow end with an error after the queued events", async () => {
    const events = await stream({ bufferLimit: 2 });
    for (const offset of [1, 2, 3, 4]) socket.event("a", offset);
    const got = [];
    await assert.rejects(async () => {
      for await (const { offset } of events) got.push(offset);
    }, { code: "resource_exhausted" });
    assert.deepEqual(got, [1, 2]);
  });

  it("that may lose the oldest events get a gap for them", async () => {
    const gaps = [];
    const events = await stream({ bufferLimit: 2, overflow: "drop_oldest", onGap: ({ from, reason }) => gaps.push([from, reason]) });
    for (const offset of [1, 2, 3, 4]) socket.event("a", offset);
    assert.deepEqual(gaps, [[1, "buffer_full"], [2, "buffer_full"]]);
    const got = [];
    for await (const { offset } of events) {
      got.push(offset);
      if (offset === 4) break;
    }
    assert.deepEqual(got, [3, 4]);
  });

  it("end without an error on close, and with the error of a refusal", async () => {
    const events = await stream({});
    const refused = client.subscribe("b", { onError: () => {} });
    await settle();
    const { id } = socket.of("subscribe").at(-1);
    socket.say({ type: "subscribed", id, channels: [], errors: [{ channel: "b", code: "permission_denied", message: "no" }] });
    await assert.rejects(refused[Symbol.asyncIterator]().next(), { code: "permission_denied" });
    const next = events[Symbol.asyncIterator]().next();
    client.close();
    assert.deepEqual(await next, { value: undefined, done: true });
  });
});

describe("requests", () => {
  async function start(t, options = {}) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    t.mock.method(Math, "random", () => 0);
    const { Fake, sockets } = fakeSockets();
    const client = connect("ws://test/ws", { WebSocket: Fake, transports: ["websocket"], ...options });
    t.after(() => client.close());
    await settle();
    return { client, sockets };
  }

  it("wait for a connection, up to the limit", async (t) => {
    const { client, sockets } = await start(t, { queueLimit: 2 });
    const kept = [client.presence("a"), client.presence("b")];
    await assert.rejects(client.presence("c"), { code: "resource_exhausted", message: /queueLimit/ });
    sockets[0].welcome();
    await settle();
    for (const { id, channel } of sockets[0].of("presence")) sockets[0].say({ type: "presence", id, channel, users: [], total: 0 });
    assert.deepEqual((await Promise.all(kept)).map(({ channel }) => channel), ["a", "b"]);
  });

  it("are repeated after a drop, a publish with the same idempotency key", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].welcome();
    await settle();
    const published = client.publish("a", "count", 1);
    client.publish("a", "count", 2).catch(() => {});
    await settle();
    sockets[0].end(1006);
    t.mock.timers.tick(0);
    await settle();
    sockets[1].welcome();
    await settle();
    assert.deepEqual(sockets[1].of("publish"), sockets[0].of("publish"));
    const [first, second] = sockets[1].of("publish");
    assert.notEqual(first.idempotency_key, second.idempotency_key);
    sockets[1].say({ type: "published", id: first.id, event_id: "e", epoch: "e1", offset: 4, duplicate: true });
    assert.deepEqual(await published, { id: "e", epoch: "e1", offset: 4, duplicate: true });
  });

  it("that call the application are sent once, and fail if the connection is lost", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].welcome();
    await settle();
    const sum = client.rpc("add", [1, 2]);
    await settle();
    const [{ id, method, data }] = sockets[0].of("rpc");
    assert.deepEqual([method, data], ["add", [1, 2]]);
    sockets[0].say({ type: "rpc", id, data: { sum: 3 } });
    assert.deepEqual(await sum, { sum: 3 });
    const down = client.rpc("add");
    await settle();
    sockets[0].say({ type: "error", id: sockets[0].of("rpc")[1].id, code: "unavailable", message: "down", retry_after_ms: 5 });
    await assert.rejects(down, { code: "unavailable", message: "down" });
    const lost = client.rpc("add");
    await settle();
    sockets[0].end(1006);
    await assert.rejects(lost, { code: "unavailable", message: /unknown whether/ });
    t.mock.timers.tick(0);
    await settle();
    sockets[1].welcome();
    await settle();
    assert.equal(sockets[1].of("rpc").length, 0);
  });

  it("above the rate limit are repeated after the server's delay", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].welcome();
    await settle();
    const asked = client.presence("a");
    await settle();
    const [{ id }] = sockets[0].of("presence");
    sockets[0].say({ type: "error", id, code: "resource_exhausted", message: "slowly", retry_after_ms: 40 });
    client.presence("b").catch(() => {});
    t.mock.timers.tick(39);
    assert.equal(sockets[0].of("presence").length, 1);
    t.mock.timers.tick(1);
    // One at a time from now on: the token bucket has one token.
    assert.deepEqual(sockets[0].of("presence").map(({ channel }) => channel), ["a", "a"]);
    t.mock.timers.tick(40);
    assert.deepEqual(sockets[0].of("presence").map(({ channel }) => channel), ["a", "a", "b"]);
    sockets[0].say({ type: "presence", id, channel: "a", users: [], total: 0 });
    assert.equal((await asked).total, 0);
  });

  it("refused together slow down once, and are then sent one at a time", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].welcome();
    await settle();
    for (let n = 0; n < 100; n++) client.presence("a").catch(() => {});
    await settle();
    const refuse = ({ id }) => sockets[0].say({ type: "error", id, code: "resource_exhausted", message: "slowly", retry_after_ms: 20 });
    sockets[0].of("presence").forEach(refuse);
    for (let passed = 0; passed < 200; passed += 20) t.mock.timers.tick(20);
    assert.equal(sockets[0].of("presence").length, 32 + 10);
  });

  it("have delays that differ between clients", async (t) => {
    const { client, sockets } = await start(t);
    t.mock.method(Math, "random", () => 0.8);
    sockets[0].welcome();
    await settle();
    client.presence("a").catch(() => {});
    await settle();
    const [{ id }] = sockets[0].of("presence");
    sockets[0].say({ type: "error", id, code: "resource_exhausted", message: "slowly", retry_after_ms: 1000 });
    t.mock.timers.tick(1199);
    assert.equal(sockets[0].of("presence").length, 1);
    t.mock.timers.tick(1);
    assert.equal(sockets[0].of("presence").length, 2);
  });

  it("speed up again when the server answers", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].welcome();
    await settle();
    const answer = ({ id }) => sockets[0].say({ type: "presence", id, channel: "a", users: [], total: 0 });
    client.presence("a");
    await settle();
    const [{ id }] = sockets[0].of("presence");
    sockets[0].say({ type: "error", id, code: "resource_exhausted", message: "slowly", retry_after_ms: 20 });
    for (let n = 0; n < 400; n++) client.presence("a").catch(() => {});
    let answered = 1;
    for (let passed = 0; passed < 4000; passed++) {
      t.mock.timers.tick(1);
      const sent = sockets[0].of("presence");
      while (answered < sent.length) answer(sent[answered++]);
    }
    assert.equal(answered, 402);
  });

  it("are in flight up to 32 at a time", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].welcome();
    await settle();
    for (let n = 0; n < 40; n++) client.presence("a").catch(() => {});
    await settle();
    const sent = sockets[0].of("presence");
    assert.equal(sent.length, 32);
    sockets[0].say({ type: "presence", id: sent[0].id, channel: "a", users: [], total: 0 });
    assert.equal(sockets[0].of("presence").length, 33);
  });

  it("fail on a timeout, on the server's error, or if too big", async (t) => {
    const { client, sockets } = await start(t, { requestTimeoutMs: 5000 });
    sockets[0].welcome();
    await settle();
    const late = client.presence("a");
    t.mock.timers.tick(5000);
    await assert.rejects(late, { code: "deadline_exceeded" });
    const refused = client.publish("a", "no", {});
    await settle();
    const { id } = sockets[0].of("publish")[0];
    sockets[0].say({ type: "error", id, code: "invalid_argument", message: "event_type: no", details: { field: "event_type" } });
    await assert.rejects(refused, (error) => error instanceof TidingsError && error.details.field === "event_type");
    const big = client.publish("a", "big", "x".repeat(1000));
    const small = client.publish("a", "small", "x");
    small.catch(() => {});
    await settle();
    sockets[0].end(1009, "too big");
    await assert.rejects(big, { code: "invalid_argument", message: /message_bytes/ });
    t.mock.timers.tick(1);
    await settle();
    sockets[1].welcome();
    await settle();
    assert.deepEqual(sockets[1].of("publish").map(({ event_type }) => event_type), ["small"]);
  });
});
