// What the client does, moment by moment, against a server that says what the test wants.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { connect, TidingsError } from "../dist/index.js";
import { fakeSockets, settle } from "./support/fake.mjs";

describe("reconnecting", () => {
  let sockets, client, states;

  function start(t, options = {}) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    const fake = fakeSockets();
    sockets = fake.sockets;
    client = connect("ws://test/ws", { WebSocket: fake.Fake, ...options });
    states = [];
    client.on("state", (state) => states.push(state));
    t.after(() => client.close());
    return settle();
  }

  async function open() {
    sockets.at(-1).greet();
    await settle();
    assert.equal(client.state, "open");
  }

  it("waits a random part of a time that doubles up to the limit", async (t) => {
    await start(t, { minDelayMs: 1000, maxDelayMs: 6000 });
    t.mock.method(Math, "random", () => 0.5);
    for (const delay of [500, 1000, 2000, 3000, 3000]) {
      sockets.at(-1).end(1006);
      assert.equal(states.at(-1).delayMs, delay);
      const before = sockets.length;
      t.mock.timers.tick(delay - 1);
      await settle();
      assert.equal(sockets.length, before);
      t.mock.timers.tick(1);
      await settle();
      assert.equal(sockets.length, before + 1);
    }
  });

  it("begins with small pauses again only after a connection that held", async (t) => {
    await start(t);
    t.mock.method(Math, "random", () => 1);
    const delays = [];
    for (const held of [0, 9_000, 11_000]) {
      await open();
      for (let passed = 0; passed < held; passed += 1000) {
        t.mock.timers.tick(1000);
        sockets.at(-1).say({ type: "pong" });
      }
      sockets.at(-1).end(1006);
      delays.push(states.at(-1).delayMs);
      t.mock.timers.tick(delays.at(-1));
      await settle();
    }
    assert.deepEqual(delays, [1000, 2000, 1000]);
  });

  it("comes back when the server has said, not before", async (t) => {
    await start(t);
    await open();
    sockets[0].say({ type: "reconnect", after_ms: 3120, reason: "restart" });
    sockets[0].end(1012, "restart");
    assert.deepEqual(states.at(-1), { state: "waiting", code: 1012, reason: "restart", delayMs: 3120 });
    t.mock.timers.tick(3119);
    await settle();
    assert.equal(sockets.length, 1);
    t.mock.timers.tick(1);
    await settle();
    assert.equal(sockets.length, 2);
  });

  it("leaves by itself where the close that was announced does not come", async (t) => {
    await start(t);
    await open();
    sockets[0].say({ type: "reconnect", after_ms: 2000, reason: "restart" });
    t.mock.timers.tick(2000);
    assert.equal(sockets[0].closed, true);
    t.mock.timers.tick(0);
    await settle();
    assert.equal(sockets.length, 2);
  });

  it("waits at least retry_after_ms of the error before a close", async (t) => {
    await start(t);
    t.mock.method(Math, "random", () => 0);
    await open();
    sockets[0].say({ type: "error", code: "resource_exhausted", message: "too many", retry_after_ms: 7000 });
    sockets[0].end(4429);
    assert.equal(states.at(-1).delayMs, 7000);
  });

  for (const [code, least] of [[1001, 500], [1013, 1000], [4429, 5000], [4408, 0], [4411, 0], [1011, 0]]) {
    it(`comes back after ${code}, after ${least} ms at least`, async (t) => {
      await start(t);
      t.mock.method(Math, "random", () => 0);
      await open();
      sockets[0].end(code);
      assert.equal(states.at(-1).state, "waiting");
      assert.equal(states.at(-1).delayMs, least);
    });
  }

  for (const code of [4403, 4410]) {
    it(`ends with ${code}, and says so to everyone`, async (t) => {
      await start(t);
      await open();
      const refused = [];
      client.subscribe("a", { onError: (error) => refused.push(error) }, () => {});
      const asked = client.presence("a");
      sockets[0].end(code, "go away");
      assert.equal(client.state, "closed");
      assert.equal(refused.length, 1);
      await assert.rejects(asked, { code: "permission_denied" });
      t.mock.timers.tick(60_000);
      await settle();
      assert.equal(sockets.length, 1);
    });

    it(`goes on after ${code} where the application wants that`, async (t) => {
      const asked = [];
      await start(t, { reconnect: (close) => asked.push(close) });
      await open();
      sockets[0].end(code, "go away");
      assert.deepEqual(asked, [{ code, reason: "go away" }]);
      assert.equal(client.state, "waiting");
    });
  }

  it("notices a server that is silent, and hangs up on it", async (t) => {
    await start(t);
    await open();
    t.mock.timers.tick(38_500);
    assert.equal(sockets[0].of("ping").length, 1);
    t.mock.timers.tick(9_999);
    assert.equal(client.state, "open");
    t.mock.timers.tick(1);
    assert.equal(client.state, "waiting");
    assert.equal(sockets[0].closed, true);
  });

  it("takes any message for a sign of life, and answers heartbeats", async (t) => {
    await start(t);
    await open();
    for (let passed = 0; passed < 20; passed++) {
      t.mock.timers.tick(30_000);
      sockets[0].say({ type: "heartbeat", timestamp: "2026-01-01T00:00:00Z" });
    }
    assert.equal(client.state, "open");
    assert.equal(sockets[0].of("ping").length, 0);
    assert.equal(sockets[0].of("heartbeat_response").length, 20);
  });

  it("keeps a server whose pong came late because the page was blocked", async (t) => {
    await start(t);
    await open();
    t.mock.timers.tick(38_500);
    // The page is blocked over the time of the pong: the timer is late, the pong behind it.
    t.mock.timers.setTime(Date.now() + 60_000);
    assert.equal(client.state, "open");
    sockets[0].say({ type: "pong" });
    t.mock.timers.tick(1000);
    assert.equal(client.state, "open");
  });

  it("gives up on a connection that does not come to stand", async (t) => {
    await start(t, { connectTimeoutMs: 5000 });
    t.mock.timers.tick(5000);
    assert.equal(states.at(-1).state, "waiting");
    assert.equal(sockets[0].closed, true);
  });

  it("survives something that is no JSON", async (t) => {
    await start(t);
    await open();
    sockets[0].onmessage({ data: "<html>" });
    assert.equal(client.state, "waiting");
  });

  it("does nothing more after close()", async (t) => {
    await start(t);
    await open();
    const asked = client.presence("a");
    client.close();
    assert.equal(sockets[0].closed, 1000);
    await assert.rejects(asked, { code: "cancelled" });
    await assert.rejects(client.presence("a"), { code: "cancelled" });
    assert.throws(() => client.subscribe("a", () => {}), { code: "cancelled" });
    t.mock.timers.tick(60_000);
    await settle();
    assert.equal(sockets.length, 1);
  });
});

describe("tokens", () => {
  let sockets, client, calls, give;

  function start(t, options = {}) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    t.mock.method(Math, "random", () => 1);
    const fake = fakeSockets();
    sockets = fake.sockets;
    calls = [];
    give = (why) => `token-${calls.push(why)}`;
    client = connect("ws://test/ws", { WebSocket: fake.Fake, token: (why) => give(why), ...options });
    client.on("error", () => {});
    t.after(() => client.close());
    return settle();
  }

  function accept(expiresIn = 3_600_000) {
    const socket = sockets.at(-1);
    const { id } = socket.of("authenticate").at(-1);
    const expires_at = new Date(Date.now() + expiresIn).toISOString();
    socket.say({ type: "authenticated", id, user: "ann", roles: [], expires_at });
    return settle();
  }

  function refuse(code = "unauthenticated") {
    const socket = sockets.at(-1);
    const { id } = socket.of("authenticate").at(-1);
    socket.say({ type: "error", id, code, message: "no" });
    return settle();
  }

  it("come before anything else is said", async (t) => {
    await start(t);
    client.subscribe("a", () => {});
    sockets[0].greet();
    await settle();
    assert.deepEqual(sockets[0].sent.map(({ type }) => type), ["authenticate"]);
    await accept();
    assert.deepEqual(sockets[0].sent.map(({ type }) => type), ["authenticate", "subscribe"]);
  });

  it("are used again while they are good for long enough", async (t) => {
    await start(t);
    sockets[0].greet();
    await accept();
    sockets[0].end(1006);
    t.mock.timers.tick(1000);
    await settle();
    sockets[1].greet();
    await settle();
    assert.deepEqual([calls.length, sockets[1].of("authenticate")[0].token], [1, "token-1"]);
    await accept(29_000);
    sockets[1].end(1006);
    t.mock.timers.tick(2000);
    await settle();
    assert.deepEqual(calls, [{ refused: false }, { refused: false }]);
  });

  it("are renewed on the connection that stands, with one call at a time", async (t) => {
    await start(t);
    sockets[0].greet();
    await accept();
    let done;
    give = (why) => (calls.push(why), new Promise((resolve) => (done = resolve)));
    sockets[0].say({ type: "token_expiring", expires_at: "2026-01-01T00:00:00Z" });
    sockets[0].say({ type: "token_expiring", expires_at: "2026-01-01T00:00:00Z" });
    await settle();
    assert.equal(calls.length, 2);
    done("fresh");
    await settle();
    assert.equal(sockets[0].of("authenticate").at(-1).token, "fresh");
    await accept();
    assert.equal(client.state, "open");
    assert.equal(sockets.length, 1);
  });

  it("are asked for again where the provider failed", async (t) => {
    await start(t);
    sockets[0].greet();
    await accept();
    const errors = [];
    client.on("error", (error) => errors.push(error.message));
    give = () => Promise.reject(new Error("login is down"));
    sockets[0].say({ type: "token_expiring", expires_at: "2026-01-01T00:00:00Z" });
    await settle();
    assert.deepEqual(errors, ["login is down"]);
    give = () => "fresh";
    t.mock.timers.tick(1000);
    await settle();
    assert.equal(sockets[0].of("authenticate").at(-1).token, "fresh");
  });

  it("are renewed at once after 4401, and with pauses where that does not help", async (t) => {
    await start(t);
    const delays = [];
    client.on("state", ({ delayMs }) => delayMs !== undefined && delays.push(delayMs));
    sockets[0].greet();
    await accept();
    sockets[0].end(4401, "expired");
    for (let times = 0; times < 3; times++) {
      t.mock.timers.tick(delays.at(-1));
      await settle();
      sockets.at(-1).greet();
      await settle();
      await refuse();
    }
    assert.deepEqual(delays, [0, 2000, 4000, 8000]);
    assert.deepEqual(calls.map(({ refused }) => refused), [false, true, true, true]);
  });

  it("end the client where there is no other one", async (t) => {
    await start(t);
    sockets[0].greet();
    await accept();
    give = () => null;
    sockets[0].end(4401, "expired");
    t.mock.timers.tick(0);
    await settle();
    assert.equal(client.state, "closed");
  });

  it("that are fixed end the client when they are refused", async (t) => {
    await start(t, { token: "fixed" });
    sockets[0].greet();
    await settle();
    assert.equal(sockets[0].of("authenticate")[0].token, "fixed");
    await refuse();
    assert.equal(client.state, "closed");
  });
});

describe("subscriptions", () => {
  let sockets, client;

  beforeEach(async () => {
    const fake = fakeSockets();
    sockets = fake.sockets;
    client = connect("ws://test/ws", { WebSocket: fake.Fake, minDelayMs: 0 });
    await settle();
    sockets[0].greet();
    await settle();
  });

  afterEach(() => client.close());

  /** Loses the connection; answers the next one, greeted. */
  async function again() {
    const before = sockets.length;
    sockets.at(-1).end(1006);
    await new Promise((resolve) => client.on("state", ({ state }) => state === "connecting" && resolve()));
    await settle();
    assert.equal(sockets.length, before + 1);
    sockets.at(-1).greet();
    await settle();
    return sockets.at(-1);
  }

  it("made together are one message, and resume in one message", async () => {
    for (const channel of ["a", "b", "c"]) client.subscribe(channel, { rewind: 2 }, () => {});
    await settle();
    assert.deepEqual(sockets[0].of("subscribe").map(({ channels, rewind }) => [channels, rewind]), [[["a", "b", "c"], 2]]);
    sockets[0].subscribed({ a: 5, b: 7, c: 0 });
    sockets[0].event("b", 8);
    const socket = await again();
    const [{ channels, since, rewind }, ...more] = socket.of("subscribe");
    assert.deepEqual(more, []);
    assert.deepEqual(channels, ["a", "b", "c"]);
    // What was not replayed before the drop is asked for again.
    assert.deepEqual(since, { a: { epoch: "e1", offset: 3 }, b: { epoch: "e1", offset: 8 }, c: { epoch: "e1", offset: 0 } });
    assert.equal(rewind, undefined);
  });

  it("that differ in filter or types are a message for each kind", async () => {
    client.subscribe("a", { filter: "data.n > 1" }, () => {});
    client.subscribe("b", { eventTypes: ["x"] }, () => {});
    client.subscribe("c", { filter: "data.n > 1" }, () => {});
    await settle();
    const sent = sockets[0].of("subscribe").map(({ channels, filter, event_types }) => ({ channels, filter, event_types }));
    assert.deepEqual(sent, [
      { channels: ["a", "c"], filter: "data.n > 1", event_types: undefined },
      { channels: ["b"], filter: undefined, event_types: ["x"] },
    ]);
  });

  it("too many for a message are several, each below the server's limit", async () => {
    const names = Array.from({ length: 400 }, (_, n) => `room:${"x".repeat(240)}${n}`);
    for (const name of names) client.subscribe(name, () => {});
    await settle();
    const messages = sockets[0].of("subscribe");
    assert.deepEqual(messages.flatMap(({ channels }) => channels), names);
    assert.equal(messages.length, 3);
    for (const message of messages) assert.ok(JSON.stringify(message).length < 65_536);
  });

  it("hand every event on once, whatever the server repeats", async () => {
    const got = [];
    client.subscribe("a", ({ offset }) => got.push(offset));
    await settle();
    sockets[0].subscribed({ a: 5 });
    for (const offset of [6, 6, 7, 6, 7, 9]) sockets[0].event("a", offset);
    const socket = await again();
    // Followed automatically: live events before the answer must not move the position.
    socket.event("a", 12);
    assert.deepEqual(socket.of("subscribe")[0].since.a, { epoch: "e1", offset: 9 });
    socket.subscribed({ a: 12 }, { recovered: true });
    for (const offset of [10, 11, 12, 12, 13]) socket.event("a", offset);
    assert.deepEqual(got, [6, 7, 9, 10, 11, 12, 13]);
  });

  it("hand on every event without an offset: there is nothing to tell repeats by", async () => {
    const got = [];
    client.subscribe("a", ({ id }) => got.push(id));
    await settle();
    sockets[0].subscribed({ a: undefined }, { epoch: undefined });
    for (const id of ["1", "1"]) sockets[0].event("a", undefined, { id });
    assert.deepEqual(got, ["1", "1"]);
  });

  it("say recovered: false, take the new position and go on in the new epoch", async () => {
    const got = [];
    const stale = [];
    client.subscribe("a", { onStale: (why) => stale.push(why) }, ({ offset, epoch }) => got.push([epoch, offset]));
    await settle();
    sockets[0].subscribed({ a: 5 });
    sockets[0].event("a", 6);
    const socket = await again();
    socket.subscribed({ a: 2 }, { epoch: "e2" });
    for (const offset of [2, 3]) socket.event("a", offset);
    assert.deepEqual(stale, [{ recovered: false, channel: "a" }]);
    assert.deepEqual(got, [["e1", 6], ["e2", 3]]);
  });

  it("without history say recovered: false after every drop", async () => {
    const how = [];
    client.subscribe("a", { onSubscribed: ({ recovered }) => how.push(recovered) }, () => {});
    await settle();
    sockets[0].subscribed({ a: undefined }, { epoch: undefined });
    const socket = await again();
    socket.subscribed({ a: undefined }, { epoch: undefined });
    assert.deepEqual(how, [undefined, false]);
  });

  it("tell of a gap, and do not ask for what is in it again", async () => {
    const gaps = [];
    const stale = [];
    client.subscribe("a", { onGap: (gap) => gaps.push(gap), onStale: (why) => stale.push(why) }, () => {});
    await settle();
    sockets[0].subscribed({ a: 5 });
    sockets[0].say({ type: "gap", channel: "a", from: 6, to: 8, reason: "slow_consumer" });
    sockets[0].say({ type: "gap", channel: "a", from: 9, to: 9, reason: "conflated" });
    assert.deepEqual(gaps.map(({ to }) => to), [8, 9]);
    assert.deepEqual(stale.map(({ reason }) => reason), ["slow_consumer"]);
    const socket = await again();
    assert.equal(socket.of("subscribe")[0].since.a.offset, 9);
  });

  it("learn the new numbering where the epoch changes under them", async () => {
    const stale = [];
    const got = [];
    client.subscribe("a", { onStale: (why) => stale.push(why) }, ({ offset }) => got.push(offset));
    await settle();
    sockets[0].subscribed({ a: 5 });
    sockets[0].say({ type: "gap", channel: "a", from: 1, to: 2, reason: "epoch_changed" });
    await settle();
    assert.equal(sockets[0].of("subscribe").at(-1).since.a, undefined);
    sockets[0].subscribed({ a: 3 }, { epoch: "e2" });
    sockets[0].event("a", 4);
    assert.deepEqual(stale, [{ recovered: false, channel: "a" }]);
    assert.deepEqual(got, [4]);
  });

  it("of one channel share the server's, each with its types and its place", async () => {
    const got = { one: [], two: [], live: [] };
    client.subscribe("a", { eventTypes: ["count"] }, ({ offset }) => got.one.push(offset));
    await settle();
    sockets[0].subscribed({ a: 5 });
    sockets[0].event("a", 6);
    client.subscribe("a", { eventTypes: ["x.*"], since: { epoch: "e1", offset: 3 } }, ({ offset }) => got.two.push(offset));
    await settle();
    const asked = sockets[0].of("subscribe").at(-1);
    assert.deepEqual([asked.event_types, asked.since], [["count", "x.*"], { a: { epoch: "e1", offset: 3 } }]);
    sockets[0].event("a", 7); // Of the subscription before; it comes again.
    sockets[0].subscribed({ a: 7 }, { recovered: true });
    sockets[0].event("a", 4);
    sockets[0].event("a", 5, { type: "x.y" });
    for (const offset of [6, 7, 8]) sockets[0].event("a", offset);
    client.subscribe("a", { eventTypes: ["count"] }, ({ offset }) => got.live.push(offset));
    await settle();
    assert.equal(sockets[0].of("subscribe").length, 2);
    sockets[0].event("a", 9);
    assert.deepEqual(got, { one: [6, 7, 8, 9], two: [5], live: [9] });
  });

  it("a position too old of one does not cost another one its own", async () => {
    const how = { old: [], good: [] };
    client.subscribe("a", { onSubscribed: ({ recovered }) => how.good.push(recovered) }, () => {});
    await settle();
    sockets[0].subscribed({ a: 5 });
    client.subscribe("a", { since: { epoch: "e1", offset: 1 }, onSubscribed: ({ recovered }) => how.old.push(recovered) }, () => {});
    await settle();
    sockets[0].subscribed({ a: 8 });
    await settle();
    assert.deepEqual(sockets[0].of("subscribe").at(-1).since, { a: { epoch: "e1", offset: 5 } });
    sockets[0].subscribed({ a: 8 }, { recovered: true });
    assert.deepEqual(how, { old: [false, true], good: [undefined, true] });
  });

  it("with rewind come in behind others by way of history", async () => {
    const got = [];
    client.subscribe("a", () => {});
    await settle();
    sockets[0].subscribed({ a: 50 });
    client.subscribe("a", { rewind: 10 }, ({ offset }) => got.push(offset));
    await settle();
    const [{ id, limit }] = sockets[0].of("history");
    assert.equal(limit, 1);
    sockets[0].say({ type: "history", id, channel: "a", epoch: "e1", offset: 50, events: [{ offset: 45 }] });
    await settle();
    // History does not reach back ten.
    assert.deepEqual(sockets[0].of("subscribe").at(-1).since, { a: { epoch: "e1", offset: 44 } });
    sockets[0].subscribed({ a: 50 }, { recovered: true });
    for (const offset of [45, 50, 51]) sockets[0].event("a", offset);
    assert.deepEqual(got, [45, 50, 51]);
  });

  it("by a pattern do not get again what a channel of its own replays", async () => {
    const got = [];
    client.subscribe("a:*", ({ offset }) => got.push(offset));
    await settle();
    sockets[0].subscribed({ "a:*": undefined }, { epoch: undefined });
    sockets[0].event("a:1", 5);
    client.subscribe("a:1", { rewind: 3 }, () => {});
    await settle();
    sockets[0].subscribed({ "a:1": 5 });
    for (const offset of [3, 4, 5, 6]) sockets[0].event("a:1", offset);
    assert.deepEqual(got, [5, 6]);
  });

  it("of one channel with two filters are refused", () => {
    client.subscribe("a", { filter: "true" }, () => {});
    assert.throws(() => client.subscribe("a", { filter: "false" }, () => {}), { code: "failed_precondition" });
  });

  it("that the server refuses say why, and leave the others alone", async () => {
    const got = [];
    const bad = client.subscribe("bad", {}, () => {});
    client.subscribe("good", ({ offset }) => got.push(offset));
    await settle();
    const { id } = sockets[0].of("subscribe")[0];
    const errors = [{ channel: "bad", code: "permission_denied", message: "no" }];
    const channels = [{ channel: "good", epoch: "e1", offset: 0, recovered: false, replayed: 0 }];
    sockets[0].say({ type: "subscribed", id, channels, errors });
    sockets[0].event("good", 1);
    await assert.rejects(bad.ready, { code: "permission_denied" });
    assert.deepEqual(got, [1]);
    const socket = await again();
    assert.deepEqual(socket.of("subscribe")[0].channels, ["good"]);
  });

  it("that are taken away by the server end with the reason", async () => {
    const errors = [];
    client.subscribe("a", { onError: ({ code }) => errors.push(code) }, () => {});
    await settle();
    sockets[0].subscribed({ a: 0 });
    sockets[0].say({ type: "unsubscribed", channels: ["a"], reason: { code: "permission_denied", message: "no more" } });
    assert.deepEqual(errors, ["permission_denied"]);
  });

  it("are asked for again where that may help", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    client.subscribe("a", () => {});
    await settle();
    const { id } = sockets[0].of("subscribe")[0];
    sockets[0].say({ type: "error", id, code: "resource_exhausted", message: "slowly", retry_after_ms: 70 });
    t.mock.timers.tick(69);
    await settle();
    assert.equal(sockets[0].of("subscribe").length, 1);
    t.mock.timers.tick(1);
    await settle();
    assert.equal(sockets[0].of("subscribe").length, 2);
    // Timers of before are to be ended by what they were made with.
    t.mock.timers.reset();
  });

  it("end at the server with the last of a channel", async () => {
    const one = client.subscribe("a", () => {});
    const two = client.subscribe("a", () => {});
    await settle();
    sockets[0].subscribed({ a: 0 });
    one.unsubscribe();
    await settle();
    assert.equal(sockets[0].of("unsubscribe").length, 0);
    two.unsubscribe();
    client.subscribe("b", () => {}).unsubscribe();
    client.subscribe("c", () => {});
    await settle();
    assert.deepEqual(sockets[0].of("unsubscribe").map(({ channels }) => channels), [["a", "b"]]);
    assert.deepEqual(sockets[0].of("subscribe").at(-1).channels, ["c"]);
  });

  it("go on after a handler that throws or rejects", async () => {
    const errors = [];
    const got = [];
    client.on("error", ({ message }) => errors.push(message));
    client.subscribe("a", ({ offset }) => {
      got.push(offset);
      if (offset === 1) throw new Error("thrown");
      return offset === 2 ? Promise.reject(new Error("rejected")) : undefined;
    });
    await settle();
    sockets[0].subscribed({ a: 0 });
    for (const offset of [1, 2, 3]) sockets[0].event("a", offset);
    await settle();
    assert.deepEqual([errors, got], [["thrown", "rejected"], [1, 2, 3]]);
  });

  it("that nobody made are heard as `event`, as is what comes straight to the user", () => {
    const got = [];
    client.on("event", ({ channel, offset }) => got.push([channel, offset]));
    sockets[0].event("user:ann", 3);
    sockets[0].event(undefined, undefined);
    assert.deepEqual(got, [["user:ann", 3], [undefined, undefined]]);
  });

  it("confirm what asks for it, after the handler, and no more than ten in a second", async (t) => {
    t.mock.timers.enable({ apis: ["Date"], now: 1_000_000 });
    let done;
    client.subscribe("a", ({ offset }) => (offset === 2 ? new Promise((resolve) => (done = resolve)) : undefined));
    await settle();
    sockets[0].subscribed({ a: 0 });
    sockets[0].event("a", 1);
    sockets[0].event("a", 2, { confirm: true });
    await settle();
    assert.deepEqual(sockets[0].of("receive"), []);
    t.mock.timers.setTime(1_000_250);
    done();
    await settle();
    assert.deepEqual(sockets[0].of("receive"), [
      { type: "receive", id: "event-2", channel: "a", received_at: "1970-01-01T00:16:40.000Z", handled_at: "1970-01-01T00:16:40.250Z" },
    ]);
    for (let offset = 3; offset < 30; offset++) sockets[0].event("a", offset, { confirm: true });
    assert.equal(sockets[0].of("receive").length, 10);
  });
});

describe("loops", () => {
  let socket, client;

  beforeEach(async () => {
    const fake = fakeSockets();
    client = connect("ws://test/ws", { WebSocket: fake.Fake });
    await settle();
    [socket] = fake.sockets;
    socket.greet();
    await settle();
  });

  afterEach(() => client.close());

  async function stream(options) {
    const events = client.subscribe("a", options);
    await settle();
    socket.subscribed({ a: 0 });
    return events;
  }

  it("get every event in order, and unsubscribe when they are left", async () => {
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

  it("that are too slow end with an error after what waits", async () => {
    const events = await stream({ bufferLimit: 2 });
    for (const offset of [1, 2, 3, 4]) socket.event("a", offset);
    const got = [];
    await assert.rejects(async () => {
      for await (const { offset } of events) got.push(offset);
    }, { code: "resource_exhausted" });
    assert.deepEqual(got, [1, 2]);
  });

  it("that may lose the oldest are told which", async () => {
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

  it("end quietly with the client, and with the error of a refusal", async () => {
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
    const client = connect("ws://test/ws", { WebSocket: Fake, ...options });
    t.after(() => client.close());
    await settle();
    return { client, sockets };
  }

  it("wait for a connection, so many and no more", async (t) => {
    const { client, sockets } = await start(t, { queueLimit: 2 });
    const kept = [client.presence("a"), client.presence("b")];
    await assert.rejects(client.presence("c"), { code: "resource_exhausted", message: /queueLimit/ });
    sockets[0].greet();
    await settle();
    for (const { id, channel } of sockets[0].of("presence")) sockets[0].say({ type: "presence", id, channel, users: [], total: 0 });
    assert.deepEqual((await Promise.all(kept)).map(({ channel }) => channel), ["a", "b"]);
  });

  it("are asked again after a drop, a publish with the same idempotency key", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].greet();
    await settle();
    const published = client.publish("a", "count", 1);
    client.publish("a", "count", 2).catch(() => {});
    await settle();
    sockets[0].end(1006);
    t.mock.timers.tick(0);
    await settle();
    sockets[1].greet();
    await settle();
    assert.deepEqual(sockets[1].of("publish"), sockets[0].of("publish"));
    const [first, second] = sockets[1].of("publish");
    assert.notEqual(first.idempotency_key, second.idempotency_key);
    sockets[1].say({ type: "published", id: first.id, event_id: "e", epoch: "e1", offset: 4, duplicate: true });
    assert.deepEqual(await published, { id: "e", epoch: "e1", offset: 4, duplicate: true });
  });

  it("that come too fast are repeated when the server says", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].greet();
    await settle();
    const asked = client.presence("a");
    await settle();
    const [{ id }] = sockets[0].of("presence");
    sockets[0].say({ type: "error", id, code: "resource_exhausted", message: "slowly", retry_after_ms: 40 });
    client.presence("b").catch(() => {});
    t.mock.timers.tick(39);
    assert.equal(sockets[0].of("presence").length, 1);
    t.mock.timers.tick(1);
    assert.deepEqual(sockets[0].of("presence").map(({ channel }) => channel), ["a", "a", "b"]);
    sockets[0].say({ type: "presence", id, channel: "a", users: [], total: 0 });
    assert.equal((await asked).total, 0);
  });

  it("are on their way 32 at a time", async (t) => {
    const { client, sockets } = await start(t);
    sockets[0].greet();
    await settle();
    for (let n = 0; n < 40; n++) client.presence("a").catch(() => {});
    await settle();
    const sent = sockets[0].of("presence");
    assert.equal(sent.length, 32);
    sockets[0].say({ type: "presence", id: sent[0].id, channel: "a", users: [], total: 0 });
    assert.equal(sockets[0].of("presence").length, 33);
  });

  it("fail where no answer comes in time, with the server's error, or too big", async (t) => {
    const { client, sockets } = await start(t, { requestTimeoutMs: 5000 });
    sockets[0].greet();
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
    sockets[1].greet();
    await settle();
    assert.deepEqual(sockets[1].of("publish").map(({ event_type }) => event_type), ["small"]);
  });
});
