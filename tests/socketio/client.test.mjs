// socket.io-client as it comes from npm, unchanged, against the real server.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const projects = { projects: ["1", "2", "seam"] };

describe("socket.io-client", () => {
  let server;
  const sockets = [];

  before(async () => (server = await startServer()));
  after(() => server.close());
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.disconnect();
  });

  /** A client that writes down what it hears. */
  function open(path = "", options = {}) {
    const socket = io(server.url + path, {
      auth: { token: token("ada", projects) },
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 50,
      ...options,
    });
    socket.heard = [];
    socket.onAny((name, ...args) => socket.heard.push([name, ...args]));
    socket.errors = [];
    socket.on("connect_error", (error) => socket.errors.push(error));
    sockets.push(socket);
    return socket;
  }

  async function connected(path, options) {
    const socket = open(path, options);
    await until("the client is connected", () => {
      assert.deepEqual(socket.errors, [], `${socket.errors[0]?.message} ${JSON.stringify(socket.errors[0]?.data)}`);
      return socket.connected;
    });
    return socket;
  }

  const named = (socket, name) => socket.heard.filter(([heard]) => heard === name).map(([, arg]) => arg);
  const wayOf = (socket) => socket.io.engine.transport.name;

  async function refused(path, options) {
    const socket = open(path, options);
    await until("the client is refused", () => socket.errors.length > 0);
    assert.equal(socket.connected, false);
    return socket.errors[0];
  }

  for (const [name, transports, way] of [
    ["polling", ["polling"], "polling"],
    ["websocket", ["websocket"], "websocket"],
    ["the default", undefined, "websocket"],
  ]) {
    it(`connects, joins a room, and receives its events by ${name}`, async () => {
      const socket = await connected("/ws", transports ? { transports } : {});
      assert.match(socket.id, /./);
      const subscribed = await socket.emitWithAck("subscribe", { room: "project:1" });
      assert.equal(subscribed.channels[0].channel, "project:1");
      assert.equal(subscribed.room, "project:1");
      await server.publish("project:1", "project.updated", { project_id: "1", name: "Ünïcode \u{1f600}", way: name });
      const [event] = await until("the event is there", () => {
        const events = named(socket, "project.updated");
        return events.length > 0 && events;
      });
      assert.equal(event.data.way, name);
      assert.equal(event.data.name, "Ünïcode \u{1f600}");
      assert.equal(event.channel, "project:1");
      const [established] = named(socket, "connection_established");
      assert.equal(established.connection_id, socket.id);
      assert.equal(established.user, "ada");
      assert.equal(named(socket, "connection.established").length, 1, "under both of its names");
      await until(`the client is reached by ${way}`, () => wayOf(socket) === way);
    });
  }

  it("serves the unchanged sample client of the replaced system", async () => {
    const socket = io(`${server.url}/ws`, { auth: { token: token("ada", projects) } });
    sockets.push(socket);
    const heard = [];
    socket.on("connection_established", (event) => heard.push(event));
    socket.on("project.updated", (event) => heard.push(event.data));
    await until("it is connected", () => heard.length === 1);
    socket.emit("subscribe", { room: "project:2" });
    await until("it is subscribed", async () => {
      const { channels } = await server.api("GET", "/channels");
      return channels.some(({ channel, name }) => (channel ?? name) === "project:2");
    });
    await server.publish("project:2", "project.updated", { status: "active" });
    await until("the event is there", () => heard.length === 2);
    assert.deepEqual(heard[1], { status: "active" });
  });

  for (const path of ["/socket.io/", "/ws/socket.io", "/ws/"]) {
    it(`is reached at ${path}`, async () => {
      const socket = await connected("/", { path });
      await until("it has left polling", () => wayOf(socket) === "websocket");
    });
  }

  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    it(`accepts the token in each of its places by ${transports}`, async () => {
      const jwt = token("grace");
      for (const place of [
        { auth: { token: jwt } },
        { auth: (give) => give({ token: jwt }) },
        { auth: {}, extraHeaders: { Authorization: `Bearer ${jwt}` } },
        { auth: {}, query: { token: jwt } },
      ]) {
        const socket = await connected("/", { transports, ...place });
        const [established] = await until("it is greeted", () => {
          const greetings = named(socket, "connection_established");
          return greetings.length > 0 && greetings;
        });
        assert.equal(established.user, "grace", JSON.stringify(Object.keys(place)));
      }
    });

    it(`gets the reason of a refused connection by ${transports}`, async () => {
      for (const place of [
        { auth: { token: "not.a.token" } },
        { auth: { token: token("ada", { exp: 1 }) } },
        { auth: {} },
        { auth: {}, extraHeaders: { Authorization: "Bearer not.a.token" } },
        { auth: {}, query: { token: "not.a.token" } },
      ]) {
        const error = await refused("/", { transports, ...place });
        assert.equal(error.data?.code, "unauthenticated", `${error.message} ${JSON.stringify(place)}`);
      }
      const unknown = await refused("/elsewhere", { transports });
      assert.equal(unknown.message, "Invalid namespace");
    });
  }

  it("gets an error for a second namespace on a connection", async () => {
    const first = await connected("/ws", { forceNew: false, multiplex: true });
    const second = first.io.socket("/", { auth: { token: token("ada") } });
    sockets.push(second);
    const error = await new Promise((done) => second.once("connect_error", done));
    assert.match(error.message, /forceNew/);
    assert.ok(first.connected);
  });

  it("gets acknowledgements of requests and of refusals", async () => {
    const socket = await connected("/");
    const pong = await socket.emitWithAck("ping");
    assert.match(pong.timestamp, /^20/);
    const refusal = await socket.emitWithAck("subscribe", { room: "project:of-others" });
    assert.equal(refusal.errors[0].code, "permission_denied");
    const wrong = await socket.emitWithAck("no_such_command", {});
    assert.equal(wrong.error.code, "invalid_argument");
    const binary = await socket.emitWithAck("publish", { channel: "project:1", data: Buffer.from([1, 2]) });
    assert.equal(binary.error.code, "invalid_argument");
    assert.match(binary.error.message, /binary/);
    const published = await socket.emitWithAck("publish", {
      channel: "project:1",
      event_type: "note",
      data: { text: "by ack" },
    });
    assert.match(published.event_id, /-/);
    socket.emit("subscribe", { room: 7.5 });
    socket.emit("subscribe", "project:1");
    await until("refusals without an acknowledgement are emitted", () => named(socket, "error").length >= 1);
    assert.ok(socket.connected);
    assert.match((await socket.emitWithAck("ping")).timestamp, /^20/, "it lives on");
  });

  it("leaves a room", async () => {
    const socket = await connected("/", { transports: ["polling"] });
    await socket.emitWithAck("subscribe", { room: "project:1" });
    const left = await socket.emitWithAck("unsubscribe", { room: "project:1" });
    assert.deepEqual(left.channels, ["project:1"]);
    await server.publish("project:1", "note", { after: "leaving" });
    await socket.emitWithAck("ping");
    assert.equal(named(socket, "note").filter(({ data }) => data.after).length, 0);
  });

  it("loses and repeats no event during the upgrade from polling", async () => {
    const room = "project:seam";
    for (let round = 0; round < 12; round++) {
      // The client's own attempt to leave polling, put off until events stream in.
      const socket = await connected("/", { upgrade: false });
      const offsets = [];
      socket.on("tick", ({ offset }) => offsets.push(offset));
      const { channels } = await socket.emitWithAck("subscribe", { room });
      const first = channels[0].offset;
      let publishing = true;
      const publish = async () => {
        while (publishing) await server.publish(room, "tick", { round });
      };
      const publishers = Array.from({ length: 4 }, publish);
      await until("events come by polling", () => offsets.length > 20);
      assert.equal(wayOf(socket), "polling");
      socket.io.engine._probe("websocket");
      await until("it has left polling", () => wayOf(socket) === "websocket");
      const soFar = offsets.length;
      await until("more has come since", () => offsets.length > soFar + 20);
      publishing = false;
      await Promise.all(publishers);
      const { offset: end } = (await server.publish(room, "tick", { round })).results[0];
      await until("all has come", () => offsets.at(-1) >= end);
      const expected = Array.from({ length: end - first }, (_, n) => first + 1 + n);
      assert.deepEqual(offsets, expected);
      assert.match((await socket.emitWithAck("ping")).timestamp, /^20/);
      socket.disconnect();
    }
    assert.ok((await server.metric("tidings_transport_upgrades_total")) >= 12);
    await until("no polling session is left", async () => (await server.metric("tidings_polling_sessions")) === 0);
  });

  it("is removed from the server after a disconnect, by every transport", async () => {
    for (const transports of [["polling"], ["websocket"]]) {
      const socket = await connected("/", { transports });
      const { id } = socket;
      socket.disconnect();
      await until("the server has let go of it", async () => {
        const { connections } = await server.api("GET", "/connections");
        return connections.every((connection) => connection.id !== id);
      });
    }
  });

  it("is listed as socketio, and does not reconnect after an operator's disconnect", async () => {
    for (const transports of [["polling"], ["websocket"]]) {
      const socket = await connected("/", { transports });
      const reasons = [];
      socket.on("disconnect", (reason) => reasons.push(reason));
      const connection = await server.api("GET", `/connections/${socket.id}`);
      assert.equal(connection.transport, "socketio");
      await server.api("DELETE", `/connections/${socket.id}`);
      await until("it is disconnected", () => reasons.length > 0);
      assert.deepEqual(reasons, ["io server disconnect"], "which it does not reconnect from by itself");
    }
  });

  it("never treats an application event as a protocol event", async () => {
    const socket = await connected("/", { transports: ["websocket"] });
    await socket.emitWithAck("subscribe", { room: "project:1" });
    await server.publish("project:1", "disconnect", { not: "the end" });
    await until("the event is there under another name", () => named(socket, "event.disconnect").length === 1);
    assert.ok(socket.connected);
  });

  it("serves the other dialect at its own path: flat session events", async () => {
    const socket = await connected("/", { path: "/robotics/socket.io" });
    assert.equal(named(socket, "connected").length, 1);
    const reply = await socket.emitWithAck("subscribe_session", { session_id: "s1" });
    assert.equal(reply.session_id, "s1");
    await server.publish("session:s1", "progress", { percent: 40 });
    const [progress] = await until("the event is there", () => {
      const events = named(socket, "progress");
      return events.length > 0 && events;
    });
    assert.equal(progress.percent, 40);
    assert.match(progress.timestamp, /^20/);
  });
});

describe("socket.io-client and time", () => {
  it("stays connected over many heartbeats, active or idle", async () => {
    const server = await startServer({ heartbeat: { interval: "200ms", timeout: "600ms" } });
    const sockets = [["polling"], ["websocket"], ["polling", "websocket"]].map((transports) =>
      io(server.url, { forceNew: true, transports, auth: { token: token("ada") } }),
    );
    try {
      const pings = new Map(sockets.map((socket) => [socket, 0]));
      for (const socket of sockets) {
        socket.on("disconnect", (reason) => assert.fail(`disconnected: ${reason}`));
        socket.io.on("ping", () => pings.set(socket, pings.get(socket) + 1));
      }
      // One of them talks all the time: it is pinged none the less.
      await until("everyone has answered ten pings", async () => {
        if (sockets[1].connected) await sockets[1].emitWithAck("ping");
        return [...pings.values()].every((count) => count >= 10);
      });
    } finally {
      for (const socket of sockets) socket.off("disconnect").disconnect();
      await server.close();
    }
  });

  it("reconnects by itself after a server restart", async () => {
    const server = await startServer();
    const options = { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };
    const sockets = [["polling"], ["websocket"], undefined].map((transports) =>
      io(server.url, { ...options, ...(transports && { transports }), auth: { token: token("ada") } }),
    );
    try {
      const notes = sockets.map((socket) => {
        const note = { reasons: [], advice: [] };
        socket.on("disconnect", (reason) => note.reasons.push(reason));
        socket.on("reconnect", (advice) => note.advice.push(advice));
        return note;
      });
      await until("all are connected", () => sockets.every((socket) => socket.connected));
      await server.stop("SIGTERM");
      await until("all are disconnected", () => notes.every(({ reasons }) => reasons.length > 0));
      for (const { reasons, advice } of notes) {
        assert.ok(["transport close", "transport error"].includes(reasons[0]), reasons[0]);
        assert.equal(advice[0]?.reason, "restart");
      }
      await server.start();
      await until("all are connected again", () => sockets.every((socket) => socket.connected));
      await server.stop("SIGKILL");
      await until("all are disconnected again", () => sockets.every((socket) => !socket.connected));
      await server.start();
      await until("all are connected once more", () => sockets.every((socket) => socket.connected));
    } finally {
      for (const socket of sockets) socket.disconnect();
      await server.close();
    }
  });
});
