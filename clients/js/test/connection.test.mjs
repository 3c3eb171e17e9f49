// How the client connects, reconnects and authenticates, step by step, against a fake server that the
// test controls.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { connect } from "../dist/index.js";
import { fakeSockets, settle } from "./support/fake.mjs";

describe("reconnecting", () => {
  let sockets, client, states;

  function start(t, options = {}) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    const fake = fakeSockets();
    sockets = fake.sockets;
    client = connect("ws://test/ws", { WebSocket: fake.Fake, transports: ["websocket"], ...options });
    states = [];
    client.on("state", (state) => states.push(state));
    t.after(() => client.close());
    return settle();
  }

  async function open() {
    sockets.at(-1).welcome();
    await settle();
    assert.equal(client.state, "open");
  }

  it("waits a random part of a delay that doubles up to the limit", async (t) => {
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

  it("resets the delay only after a connection that lasted", async (t) => {
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

  it("reconnects after the delay of the server, not earlier", async (t) => {
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

  it("closes by itself if the announced close does not arrive", async (t) => {
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
    it(`reconnects after ${code}, after at least ${least} ms`, async (t) => {
      await start(t);
      t.mock.method(Math, "random", () => 0);
      await open();
      sockets[0].end(code);
      assert.equal(states.at(-1).state, "waiting");
      assert.equal(states.at(-1).delayMs, least);
    });
  }

  for (const code of [4403, 4410]) {
    it(`ends with ${code}, and notifies every subscription`, async (t) => {
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

    it(`reconnects after ${code} if the application requests it`, async (t) => {
      const asked = [];
      await start(t, { reconnect: (close) => asked.push(close) });
      await open();
      sockets[0].end(code, "go away");
      assert.deepEqual(asked, [{ code, reason: "go away" }]);
      assert.equal(client.state, "waiting");
    });
  }

  it("detects a silent server, and closes the connection", async (t) => {
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

  it("accepts any message as a sign of life, and answers heartbeats", async (t) => {
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

  it("keeps a connection whose pong is late because the page was blocked", async (t) => {
    await start(t);
    await open();
    t.mock.timers.tick(38_500);
    // The page is blocked while the pong is due: the timer fires late, before the queued pong is read.
    t.mock.timers.setTime(Date.now() + 60_000);
    assert.equal(client.state, "open");
    sockets[0].say({ type: "pong" });
    t.mock.timers.tick(1000);
    assert.equal(client.state, "open");
  });

  it("gives up on a connection that is not established in time", async (t) => {
    await start(t, { connectTimeoutMs: 5000 });
    t.mock.timers.tick(5000);
    assert.equal(states.at(-1).state, "waiting");
    assert.equal(sockets[0].closed, true);
  });

  it("ignores a message that is not JSON", async (t) => {
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
    client = connect("ws://test/ws", { WebSocket: fake.Fake, transports: ["websocket"], token: (why) => give(why), ...options });
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

  it("are sent before any other message", async (t) => {
    await start(t);
    client.subscribe("a", () => {});
    sockets[0].welcome();
    await settle();
    assert.deepEqual(sockets[0].sent.map(({ type }) => type), ["authenticate"]);
    await accept();
    assert.deepEqual(sockets[0].sent.map(({ type }) => type), ["authenticate", "subscribe"]);
  });

  it("are reused while they are valid for long enough", async (t) => {
    await start(t);
    sockets[0].welcome();
    await accept();
    sockets[0].end(1006);
    t.mock.timers.tick(1000);
    await settle();
    sockets[1].welcome();
    await settle();
    assert.deepEqual([calls.length, sockets[1].of("authenticate")[0].token], [1, "token-1"]);
    await accept(29_000);
    sockets[1].end(1006);
    t.mock.timers.tick(2000);
    await settle();
    assert.deepEqual(calls, [{ refused: false }, { refused: false }]);
  });

  it("are renewed on the open connection, with one call at a time", async (t) => {
    await start(t);
    sockets[0].welcome();
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

  it("are requested again after the provider failed", async (t) => {
    await start(t);
    sockets[0].welcome();
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

  it("are renewed at once after 4401, and with pauses if that fails", async (t) => {
    await start(t);
    const delays = [];
    client.on("state", ({ delayMs }) => delayMs !== undefined && delays.push(delayMs));
    sockets[0].welcome();
    await accept();
    sockets[0].end(4401, "expired");
    for (let times = 0; times < 3; times++) {
      t.mock.timers.tick(delays.at(-1));
      await settle();
      sockets.at(-1).welcome();
      await settle();
      await refuse();
    }
    assert.deepEqual(delays, [0, 2000, 4000, 8000]);
    assert.deepEqual(calls.map(({ refused }) => refused), [false, true, true, true]);
  });

  it("end the client if the provider has no other one", async (t) => {
    await start(t);
    sockets[0].welcome();
    await accept();
    give = () => null;
    sockets[0].end(4401, "expired");
    t.mock.timers.tick(0);
    await settle();
    assert.equal(client.state, "closed");
  });

  it("that can't be verified yet are sent again later, and end nothing", async (t) => {
    await start(t, { token: "fixed" });
    const delays = [];
    client.on("state", ({ code, delayMs }) => delayMs !== undefined && delays.push([code, delayMs]));
    sockets[0].welcome();
    await settle();
    const { id } = sockets[0].of("authenticate").at(-1);
    const error = { type: "error", code: "unavailable", message: "no keys" };
    sockets[0].say({ ...error, id, retry_after_ms: 3000 });
    assert.deepEqual(delays.at(-1), [1013, 4000]);
    t.mock.timers.tick(4000);
    await settle();
    // If the token was part of the handshake, the server closes the connection.
    sockets[1].say({ ...error, retry_after_ms: 5000 });
    sockets[1].end(1013, "no keys");
    assert.deepEqual(delays.at(-1), [1013, 7000]);
    t.mock.timers.tick(7000);
    await settle();
    // If the upgrade is answered 503, a page only sees that the connection failed.
    sockets[2].end(1006);
    assert.equal(client.state, "waiting");
    t.mock.timers.tick(delays.at(-1)[1]);
    await settle();
    sockets[3].welcome();
    await settle();
    assert.equal(sockets[3].of("authenticate")[0].token, "fixed");
    await accept();
    assert.equal(client.state, "open");
  });

  it("whose renewal can't be verified leave the connection open", async (t) => {
    await start(t);
    sockets[0].welcome();
    await accept();
    sockets[0].say({ type: "token_expiring", expires_at: "2026-01-01T00:00:00Z" });
    await settle();
    await refuse("unavailable");
    assert.equal(client.state, "open");
    t.mock.timers.tick(1000);
    await settle();
    assert.equal(sockets[0].of("authenticate").length, 3);
    await accept();
    assert.deepEqual([client.state, sockets.length], ["open", 1]);
  });

  it("that are fixed end the client when they are refused", async (t) => {
    await start(t, { token: "fixed" });
    sockets[0].welcome();
    await settle();
    assert.equal(sockets[0].of("authenticate")[0].token, "fixed");
    await refuse();
    assert.equal(client.state, "closed");
  });
});
