// The sample clients of the two systems that spoke Socket.IO, as their write-ups show them, with
// the presets that stand in for those systems; and every event type that these declare.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { startPreset, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

/** What both systems' tests have in common. */
function system(preset, tests) {
  describe(`the preset ${preset}`, () => {
    const at = { sockets: [] };

    before(async () => (at.server = await startPreset(preset)));
    after(() => at.server.close());
    afterEach(() => at.sockets.splice(0).forEach((socket) => socket.disconnect()));

    /** A client that writes down what it hears. */
    at.open = (path, options) => {
      const socket = io(at.server.url + path, { forceNew: true, ...options });
      socket.heard = [];
      socket.onAny((name, ...args) => socket.heard.push([name, ...args]));
      socket.on("connect_error", (error) => (socket.refusal = error));
      at.sockets.push(socket);
      return socket;
    };

    at.heard = (socket, name) => until(name, () => socket.heard.find(([heard]) => heard === name)?.[1]);

    at.publish = async (channels, type, data, expected = 200) => {
      const headers = { authorization: `Bearer ${token("backend", { roles: ["service"] })}`, "content-type": "application/json" };
      const body = JSON.stringify({ channels, type, data });
      const answer = await fetch(`${at.server.url}/api/v1/events`, { method: "POST", headers, body });
      assert.equal(answer.status, expected, await answer.clone().text());
      return answer.json();
    };

    /** The event types that can be published, each with its home and its example. */
    at.types = async () => {
      const headers = { authorization: `Bearer ${token("backend", { roles: ["service"] })}` };
      const answer = await fetch(`${at.server.url}/api/v1/catalog`, { headers });
      const own = new Set(at.server.control);
      return (await answer.json()).event_types.filter(({ name }) => !own.has(name));
    };

    tests(at);
  });
}

const PROJECT = "6f1c2a34-9b7d-4e58-8c21-0a5b6c7d8e9f";

system("devplatform", (at) => {
  const member = () => ({ auth: { token: token("u-1", { projects: [PROJECT, "123"], agents: ["a-1"] }) } });

  it("serves the sample client", async () => {
    const socket = at.open("/ws", member());
    const hello = await at.heard(socket, "connection_established");
    assert.equal(hello.data.user, "u-1");
    await at.heard(socket, "connection.established");
    socket.emit("subscribe", { room: "project:123" });
    assert.equal((await at.heard(socket, "subscribed")).data.room, "project:123");
    const changed = {
      project_id: PROJECT, project_name: "My Project", repository_url: null, status: "active",
      updated_by: PROJECT, changes: { status: "updated" },
    };
    await at.publish(["project:123"], "project.updated", changed);
    const event = await at.heard(socket, "project.updated");
    assert.deepEqual(Object.keys(event).sort(), ["data", "timestamp", "type"]);
    assert.deepEqual(event.data, changed);
    socket.emit("unsubscribe", { room: "project:123" });
    await at.heard(socket, "unsubscribed");
    await at.publish(["project:123"], "project.deleted", { project_id: PROJECT });
    assert.equal((await socket.timeout(5000).emitWithAck("ping", {})).data.timestamp.length, 24);
    assert.ok(!socket.heard.some(([name]) => name === "project.deleted"));
  });

  it("accepts the token in the header, the auth object or the query, and requires one", async () => {
    const jwt = token("u-2");
    for (const options of [
      { auth: { token: jwt } },
      { query: { token: jwt } },
      { extraHeaders: { Authorization: `Bearer ${jwt}` } },
    ]) {
      const socket = at.open("/ws", options);
      assert.equal((await at.heard(socket, "connection_established")).data.user, "u-2");
    }
    for (const options of [{}, { auth: { token: "x.y.z" } }]) {
      const socket = at.open("/ws", options);
      const refusal = await until("a refusal", () => socket.refusal);
      assert.equal(refusal.data?.code, "unauthenticated", refusal.message);
    }
  });

  it("checks the right to each room", async () => {
    const socket = at.open("/ws", member());
    await at.heard(socket, "connection_established");
    for (const room of ["project:124", "agent:a-2", "user:u-2"]) {
      const answer = await socket.timeout(5000).emitWithAck("subscribe", { room });
      assert.equal(answer.data?.error?.code, "permission_denied", JSON.stringify(answer));
    }
    socket.emit("subscribe", { room: "project:124" });
    assert.equal((await at.heard(socket, "connection.error")).data.code, "permission_denied");
  });

  it("is reachable at the old server's path", async () => {
    for (const path of ["/ws/socket.io/", "/socket.io/", "/ws/", "/ws"]) {
      const socket = at.open("", { path, ...member() });
      await at.heard(socket, "connection_established");
    }
  });

  it("sends every event in its envelope", async () => {
    const socket = at.open("/ws", member());
    await at.heard(socket, "connection_established");
    const rooms = { project: `project:${PROJECT}`, agent: "agent:a-1", "": "user:u-1" };
    for (const room of [rooms.project, rooms.agent]) await socket.timeout(5000).emitWithAck("subscribe", { room });
    const types = await at.types();
    assert.equal(types.length, 17);
    for (const { name, namespace, example } of types) {
      await at.publish([rooms[namespace]], name, example);
      const event = await at.heard(socket, name);
      assert.deepEqual([event.type, event.data], [name, example]);
      const refused = await at.publish([rooms[namespace]], name, [], 400);
      assert.deepEqual(refused.errors, [{ field: "data", path: "", message: "expected the type object" }]);
    }
  });
});

system("robotics", (at) => {
  it("serves a page that shows a session", async () => {
    const socket = at.open("");
    assert.ok((await at.heard(socket, "connected")).connection_id);
    socket.emit("subscribe_session", { session_id: "session-1" });
    assert.equal((await at.heard(socket, "subscribed")).session_id, "session-1");
    await at.publish(["session:session-2"], "session_started", { session_id: "session-2" });
    const progress = { session_id: "session-1", progress: 62.5, estimated_remaining_seconds: 180 };
    await at.publish(["session:session-1"], "session_progress", progress);
    const { timestamp, ...event } = await at.heard(socket, "session_progress");
    assert.deepEqual(event, progress);
    assert.ok(Date.parse(timestamp));
    assert.ok(!socket.heard.some(([name]) => name === "session_started"));
    socket.emit("ping");
    assert.ok((await at.heard(socket, "pong")).timestamp);
    socket.emit("unsubscribe_session", { session_id: "session-1" });
    assert.equal((await at.heard(socket, "unsubscribed")).session_id, "session-1");
    socket.emit("subscribe_session", {});
    assert.equal((await at.heard(socket, "error")).code, "invalid_argument");
  });

  it("sends every event in its envelope", async () => {
    const socket = at.open("");
    await at.heard(socket, "connected");
    await socket.timeout(5000).emitWithAck("subscribe_session", { session_id: "session-1" });
    const types = await at.types();
    assert.equal(types.length, 8);
    for (const { name, namespace, example } of types) {
      await at.publish([namespace === "session" ? "session:session-1" : "global"], name, example);
      const { timestamp, ...event } = await at.heard(socket, name);
      assert.ok(timestamp);
      assert.deepEqual(event, example, name);
    }
  });
});
