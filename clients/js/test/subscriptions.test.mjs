// The events and states that subscriptions pass on, for every sequence of server messages.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { connect } from "../dist/index.js";
import { fakeSockets, settle } from "./support/fake.mjs";

describe("subscriptions", () => {
  let sockets, client;

  beforeEach(async () => {
    const fake = fakeSockets();
    sockets = fake.sockets;
    client = connect("ws://test/ws", { WebSocket: fake.Fake, transports: ["websocket"], minDelayMs: 0 });
    await settle();
    sockets[0].welcome();
    await settle();
  });

  afterEach(() => client.close());

  /** Loses the connection; returns the next one after its first message. */
  async function again() {
    const before = sockets.length;
    sockets.at(-1).end(1006);
    await new Promise((resolve) => client.on("state", ({ state }) => state === "connecting" && resolve()));
    await settle();
    assert.equal(sockets.length, before + 1);
    sockets.at(-1).welcome();
    await settle();
    return sockets.at(-1);
  }

  it("made in one turn are one message, and resume in one message", async () => {
    for (const channel of ["a", "b", "c"]) client.subscribe(channel, { rewind: 2 }, () => {});
    await settle();
    assert.deepEqual(sockets[0].of("subscribe").map(({ channels, rewind }) => [channels, rewind]), [[["a", "b", "c"], 2]]);
    sockets[0].subscribed({ a: 5, b: 7, c: 0 });
    sockets[0].event("b", 8);
    const socket = await again();
    const [{ channels, since, rewind }, ...more] = socket.of("subscribe");
    assert.deepEqual(more, []);
    assert.deepEqual(channels, ["a", "b", "c"]);
    // Events that were not replayed before the drop are requested again.
    assert.deepEqual(since, { a: { epoch: "e1", offset: 3 }, b: { epoch: "e1", offset: 8 }, c: { epoch: "e1", offset: 0 } });
    assert.equal(rewind, undefined);
  });

  it("that differ in filter or types are one message per kind", async () => {
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

  it("are split into messages below the server's size limit", async () => {
    const names = Array.from({ length: 400 }, (_, n) => `room:${"x".repeat(240)}${n}`);
    for (const name of names) client.subscribe(name, () => {});
    await settle();
    const messages = sockets[0].of("subscribe");
    assert.deepEqual(messages.flatMap(({ channels }) => channels), names);
    assert.equal(messages.length, 3);
    for (const message of messages) assert.ok(JSON.stringify(message).length < 65_536);
  });

  it("deliver every event once, even if the server repeats it", async () => {
    const got = [];
    client.subscribe("a", ({ offset }) => got.push(offset));
    await settle();
    sockets[0].subscribed({ a: 5 });
    for (const offset of [6, 6, 7, 6, 7, 9]) sockets[0].event("a", offset);
    const socket = await again();
    // Subscribed automatically: live events before the reply must not move the position.
    socket.event("a", 12);
    assert.deepEqual(socket.of("subscribe")[0].since.a, { epoch: "e1", offset: 9 });
    socket.subscribed({ a: 12 }, { recovered: true });
    for (const offset of [10, 11, 12, 12, 13]) socket.event("a", offset);
    assert.deepEqual(got, [6, 7, 9, 10, 11, 12, 13]);
  });

  it("deliver every event without an offset, because repeats can't be detected", async () => {
    const got = [];
    client.subscribe("a", ({ id }) => got.push(id));
    await settle();
    sockets[0].subscribed({ a: undefined }, { epoch: undefined });
    for (const id of ["1", "1"]) sockets[0].event("a", undefined, { id });
    assert.deepEqual(got, ["1", "1"]);
  });

  it("report recovered: false, and continue in the new epoch", async () => {
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

  it("without history report recovered: false after every drop", async () => {
    const how = [];
    client.subscribe("a", { onSubscribed: ({ recovered }) => how.push(recovered) }, () => {});
    await settle();
    sockets[0].subscribed({ a: undefined }, { epoch: undefined });
    const socket = await again();
    socket.subscribed({ a: undefined }, { epoch: undefined });
    assert.deepEqual(how, [undefined, false]);
  });

  it("report a gap, and do not request its events again", async () => {
    const gaps = [];
    const stale = [];
    client.subscribe("a", { onGap: (gap) => gaps.push(gap), onStale: (why) => stale.push(why) }, () => {});
    await settle();
    sockets[0].subscribed({ a: 5 });
    for (let times = 0; times < 2; times++) {
      sockets[0].say({ type: "gap", channel: "a", from: 6, to: 8, reason: "slow_consumer" });
    }
    sockets[0].say({ type: "gap", channel: "a", from: 9, to: 9, reason: "conflated" });
    assert.deepEqual(gaps.map(({ to }) => to), [8, 9]);
    assert.deepEqual(stale.map(({ reason }) => reason), ["slow_consumer"]);
    const socket = await again();
    assert.equal(socket.of("subscribe")[0].since.a.offset, 9);
  });

  it("adopt a new epoch while they are active", async () => {
    const stale = [];
    const got = [];
    client.subscribe("a", { onStale: (why) => stale.push(why) }, ({ offset }) => got.push(offset));
    await settle();
    sockets[0].subscribed({ a: 5 });
    const anew = { channel: "a", epoch: "e2", offset: 3, recovered: false, replayed: 0 };
    sockets[0].say({ type: "subscribed", channels: [anew], errors: [] });
    sockets[0].event("a", 4);
    assert.deepEqual(stale, [{ recovered: false, channel: "a" }]);
    assert.deepEqual(got, [4]);
  });

  it("of one channel share the server's, each with its types and position", async () => {
    const got = { one: [], two: [], live: [] };
    client.subscribe("a", { eventTypes: ["count"] }, ({ offset }) => got.one.push(offset));
    await settle();
    sockets[0].subscribed({ a: 5 });
    sockets[0].event("a", 6);
    client.subscribe("a", { eventTypes: ["x.*"], since: { epoch: "e1", offset: 3 } }, ({ offset }) => got.two.push(offset));
    await settle();
    const asked = sockets[0].of("subscribe").at(-1);
    assert.deepEqual([asked.event_types, asked.since], [["count", "x.*"], { a: { epoch: "e1", offset: 3 } }]);
    sockets[0].event("a", 7); // From the earlier subscription; it is sent again.
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

  it("an expired position of one does not affect another", async () => {
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

  it("positions of several epochs are checked separately", async () => {
    const how = [];
    for (const epoch of ["e0", "e1"]) {
      client.subscribe("a", { since: { epoch, offset: 5 }, onSubscribed: ({ recovered }) => how.push([epoch, recovered]) }, () => {});
    }
    await settle();
    sockets[0].subscribed({ a: 8 });
    await settle();
    sockets[0].subscribed({ a: 8 }, { recovered: true });
    assert.deepEqual(how, [["e0", false], ["e0", true], ["e1", true]]);
  });

  it("with rewind read history if others are already subscribed", async () => {
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
    // History has fewer than ten events.
    assert.deepEqual(sockets[0].of("subscribe").at(-1).since, { a: { epoch: "e1", offset: 44 } });
    sockets[0].subscribed({ a: 50 }, { recovered: true });
    for (const offset of [45, 50, 51]) sockets[0].event("a", offset);
    assert.deepEqual(got, [45, 50, 51]);
  });

  it("by a pattern do not repeat events that a channel's own subscription replays", async () => {
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

  it("of one channel with two filters use a second connection", async () => {
    const got = { odd: [], even: [] };
    const odd = client.subscribe("a", { filter: "odd" }, ({ offset }) => got.odd.push(offset));
    const even = client.subscribe("a", { filter: "even" }, ({ offset }) => got.even.push(offset));
    client.subscribe("a", { filter: "even" }, () => {}).unsubscribe();
    client.subscribe("b", { filter: "odd" }, () => {});
    await settle();
    assert.equal(sockets.length, 2);
    sockets[1].welcome();
    await settle();
    assert.deepEqual(sockets.map((socket) => socket.of("subscribe").map(({ channels, filter }) => [channels, filter])), [[[["a", "b"], "odd"]], [[["a"], "even"]]]);
    sockets[0].subscribed({ a: 0, b: 0 });
    sockets[1].subscribed({ a: 0 });
    sockets[0].event("a", 1);
    sockets[1].event("a", 2);
    assert.deepEqual(got, { odd: [1], even: [2] });
    assert.deepEqual([(await odd.ready).offset, (await even.ready).offset], [0, 0]);
  });

  it("close the second connection with its last subscription", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    client.subscribe("a", { filter: "odd" }, () => {});
    const even = client.subscribe("a", { filter: "even" }, () => {});
    await settle();
    sockets[1].welcome();
    await settle();
    even.unsubscribe();
    t.mock.timers.tick(2000);
    assert.deepEqual(sockets.map(({ closed }) => closed), [undefined, 1000]);
    assert.equal(client.state, "open");
    t.mock.timers.reset();
  });

  it("that are refused temporarily are retried in one message", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.mock.method(Math, "random", () => 0);
    const names = Array.from({ length: 30 }, (_, n) => `c${n}`);
    for (const name of names) client.subscribe(name, () => {});
    await settle();
    const { id } = sockets[0].of("subscribe")[0];
    const errors = names.map((channel) => ({ channel, code: "resource_exhausted", message: "slowly", retry_after_ms: 50 }));
    sockets[0].say({ type: "subscribed", id, channels: [], errors });
    t.mock.timers.tick(50);
    await settle();
    assert.deepEqual(sockets[0].of("subscribe").map(({ channels }) => channels.length), [30, 30]);
    t.mock.timers.reset();
  });

  it("that the server refuses report the reason, and do not affect others", async () => {
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

  it("that the server revokes end with the reason", async () => {
    const errors = [];
    client.subscribe("a", { onError: ({ code }) => errors.push(code) }, () => {});
    await settle();
    sockets[0].subscribed({ a: 0 });
    sockets[0].say({ type: "unsubscribed", channels: ["a"], reason: { code: "permission_denied", message: "no more" } });
    assert.deepEqual(errors, ["permission_denied"]);
  });

  it("are retried after temporary errors", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.mock.method(Math, "random", () => 0);
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
    // Earlier timers are cleared with the functions that created them.
    t.mock.timers.reset();
  });

  it("unsubscribe with the last subscription of a channel", async () => {
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

  it("continue after a handler that throws or rejects", async () => {
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

  it("that are automatic emit `event`, as do direct events", () => {
    const got = [];
    client.on("event", ({ channel, offset }) => got.push([channel, offset]));
    sockets[0].event("user:ann", 3);
    sockets[0].event(undefined, undefined);
    assert.deepEqual(got, [["user:ann", 3], [undefined, undefined]]);
  });

  it("confirm events with `confirm` after the handler, at most ten a second", async (t) => {
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
