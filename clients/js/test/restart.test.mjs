// The client in Node during restarts of the real server, and without WebSockets.
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import WebSocket from "ws";
import { connect } from "../dist/index.js";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

describe("over restarts", () => {
  let server, client;

  async function start() {
    server = await startServer({ args: ["--drain", "2s"] });
    client = connect(server.url, { WebSocket, transports: ["websocket"], token: () => token(), minDelayMs: 20, maxDelayMs: 200 });
    client.states = [];
    client.on("state", (state) => client.states.push({ ...state, at: performance.now() }));
    const notes = { got: [], stale: [] };
    const options = { onStale: (why) => notes.stale.push(why) };
    notes.subscription = client.subscribe("room:1", options, ({ epoch, offset }) => notes.got.push([epoch, offset]));
    notes.epoch = (await notes.subscription.ready).epoch;
    await server.publishMany("room:1", 1, 3);
    await until(() => notes.got.length === 3, "the first events");
    return notes;
  }

  afterEach(async () => {
    client.close();
    await server.close();
  });

  it("kill -9: reports recovered: false and continues in the new epoch", async () => {
    const notes = await start();
    await server.stop("SIGKILL");
    await server.start();
    await until(() => notes.stale.length, "recovered: false");
    assert.deepEqual(notes.stale, [{ recovered: false, channel: "room:1" }]);
    assert.notEqual(notes.subscription.position.epoch, notes.epoch);
    await server.publishMany("room:1", 1, 2);
    await until(() => notes.got.length === 5, "events of the new epoch");
    const { epoch } = notes.subscription.position;
    assert.deepEqual(notes.got, [...[1, 2, 3].map((n) => [notes.epoch, n]), [epoch, 1], [epoch, 2]]);
  });

  it("SIGTERM: reconnects after the announced delay", async () => {
    const notes = await start();
    server.signal("SIGTERM");
    await server.exited;
    await until(() => client.states.some(({ code }) => code === 1012), "1012");
    const told = client.states.find(({ code }) => code === 1012);
    assert.ok(told.delayMs >= 0 && told.delayMs <= 2000, `${told.delayMs} ms`);
    await server.start();
    await until(() => notes.stale.length, "recovered: false");
    const next = client.states.find(({ state, at }) => state === "connecting" && at > told.at);
    assert.ok(next.at - told.at >= told.delayMs - 2, `came ${told.delayMs - (next.at - told.at)} ms early`);
  });
});

describe("without a WebSocket", () => {
  it("names the missing WebSocket class", (t) => {
    const { WebSocket } = globalThis;
    globalThis.WebSocket = undefined;
    t.after(() => (globalThis.WebSocket = WebSocket));
    assert.throws(() => connect("ws://test/ws", { transports: ["websocket"] }), { code: "failed_precondition", message: /the option WebSocket/ });
  });
});
