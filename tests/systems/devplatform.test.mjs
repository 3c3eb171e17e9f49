// Devplatform's sample client, in the browser over Socket.IO: a greeting, rooms, and rights to them.
import assert from "node:assert/strict";
import { it } from "node:test";
import { token } from "../socketio/support/server.mjs";
import { until } from "../socketio/support/until.mjs";
import { system } from "./support/system.mjs";

const SAMPLE = ["devplatform", "devplatform-subscribe"];
const PROJECT = "6f1c2a34-9b7d-4e58-8c21-0a5b6c7d8e9f";
const member = () => ({ token: token("u-1", { projects: ["123", PROJECT], agents: ["a-1"] }) });
const changed = {
  project_id: PROJECT, project_name: "My Project", repository_url: "https://git.example.com/my/project", status: "active",
  updated_by: "0b9f7c1e-3d52-4a86-9f10-2c4e6a8b0d13", changes: { status: "updated" },
};

system({ preset: "devplatform", address: "localhost:8000", connection: "socket" }, (at) => {
  const subscribe = (page, room) => page.evaluate((room) => socket.timeout(10_000).emitWithAck("subscribe", { room }), room);

  for (const way of ["once it speaks WebSocket", "while it polls"]) {
    it(`connects, and shows the updates of its project ${way}`, async () => {
      const page = await at.open(SAMPLE, member());
      await page.called("console.log", (text) => text === "Connected!");
      assert.equal((await page.hears("connection_established")).data.user, "u-1");
      await page.hears("connection.established");
      assert.equal((await page.hears("subscribed")).data.room, "project:123");
      if (way.includes("WebSocket")) {
        await until("it has left polling", () => page.evaluate(() => socket.io.engine.transport.name === "websocket"));
      } else {
        await page.evaluate(() => {
          socket.io.opts.transports = ["polling"];
          socket.disconnect().connect().emit("subscribe", { room: "project:123" });
        });
        await until("it is subscribed again", async () => (await page.types()).filter((name) => name === "subscribed").length === 2);
        assert.equal(await page.evaluate(() => socket.io.engine.transport.name), "polling");
      }
      await at.publish("project:124", "project.updated", { ...changed, project_name: "Another" });
      await at.publish("project:123", "project.updated", changed);
      assert.deepEqual(await page.called("console.log", (text) => text === "Project updated:"), ["Project updated:", changed]);
      const event = await page.hears("project.updated");
      assert.deepEqual(Object.keys(event).sort(), ["data", "position", "timestamp", "type"]);
      assert.equal((await page.types()).filter((name) => name === "project.updated").length, 1);
      // A page that polls may be closed without a word, and then it is missed only when it is silent.
      await page.evaluate(() => void socket.disconnect());
    });
  }

  it("gets an error and no event without the right to the room", async () => {
    const page = await at.open(SAMPLE, { token: token("u-2", { projects: ["7"] }) });
    await page.called("console.log", (text) => text === "Connected!");
    assert.equal((await page.hears("connection.error")).data.code, "permission_denied");
    for (const room of ["project:124", "agent:a-1", "user:u-1"]) {
      assert.equal((await subscribe(page, room)).data.error.code, "permission_denied", room);
    }
    await at.publish("project:123", "project.updated", changed);
    await at.publish("user:u-1", "ai.analysis_complete", { analysis_id: "an-1" });
    await at.publish("global", "ai.analysis_complete", { analysis_id: "an-2" });
    assert.equal((await page.hears("ai.analysis_complete")).data.analysis_id, "an-2", "global unasked, and another user's room not");
    assert.ok(!(await page.types()).includes("project.updated"));
  });

  it("gets no event of a room that it left, and gets pongs", async () => {
    const page = await at.open(SAMPLE, member());
    await page.hears("subscribed");
    await page.evaluate(() => socket.emit("unsubscribe", { room: "project:123" }));
    await page.hears("unsubscribed");
    await at.publish("project:123", "project.updated", changed);
    assert.ok(Date.parse((await page.evaluate(() => socket.timeout(10_000).emitWithAck("ping", {}))).data.timestamp));
    assert.ok(!(await page.types()).includes("project.updated"));
  });

  it("can't connect without a valid token, or after its expiry", async () => {
    for (const bad of ["", "not.a.token", token("u-1", { exp: 1 })]) {
      const page = await at.open(SAMPLE, { token: bad });
      const [, code] = await page.called("refused");
      assert.equal(code, "unauthenticated");
      assert.deepEqual(await page.heard(), []);
    }
  });

  it("can't connect from a page of an unlisted origin", async () => {
    const page = await at.open(SAMPLE, { ...member(), origin: at.site.elsewhere });
    await page.called("refused");
    assert.deepEqual(await page.heard(), []);
  });

  it("gets every event type in its envelope, and is counted", async () => {
    const page = await at.open(SAMPLE, member());
    await page.hears("subscribed");
    const rooms = { project: `project:${PROJECT}`, agent: "agent:a-1", "": "user:u-1" };
    for (const room of [rooms.project, rooms.agent]) assert.ok(!(await subscribe(page, room)).data.error, room);
    const types = await at.types();
    assert.equal(types.length, 17);
    for (const { name, namespace, example } of types) {
      await at.publish(rooms[namespace], name, example);
      const { type, data } = await page.hears(name);
      assert.deepEqual([type, data], [name, example]);
    }
    await at.refuses("agent:a-1", "agent.status_changed", { agent_id: "a-1", status: "asleep" }, /status/);
    await until("the pages before it are gone", async () => {
      const { rooms } = (await at.http("GET", "/api/v1/websocket/stats")).body;
      return rooms["project:123"] === 1 && rooms.global === 1;
    });
  });
});
