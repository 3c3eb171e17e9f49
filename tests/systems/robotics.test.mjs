// A client of robotics as its write-up describes it (it shows none): a session that it follows, and
// what goes to everyone.
import assert from "node:assert/strict";
import { it } from "node:test";
import { until } from "../socketio/support/until.mjs";
import { system } from "./support/system.mjs";

system({ preset: "robotics", address: "localhost:8000", connection: "socket" }, (at) => {
  it("shows the progress of its session, and of no other", async () => {
    const page = await at.open("robotics");
    assert.deepEqual(await page.called("console.log"), ["Subscribed to session:", "session-1"]);
    await until("it has left polling", () => page.evaluate(() => socket.io.engine.transport.name === "websocket"));
    for (const session_id of ["session-2", "session-1"]) {
      const channel = `session:${session_id}`;
      await at.publish(channel, "session_started", { session_id });
      await at.publish(channel, "session_progress", { session_id, progress: 62.5, estimated_remaining_seconds: 180 });
      await at.publish(channel, "session_completed", { session_id, results: { accuracy: 0.97 } });
      await at.publish(channel, "session_failed", { session_id, error_message: "out of memory" });
      await at.publish(channel, "session_cancelled", { session_id });
    }
    await page.called("console.log", (text) => text === "Session cancelled:");
    assert.deepEqual(await page.calls(), [
      ["console.log", "Subscribed to session:", "session-1"],
      ["console.log", "Session started:", "session-1"],
      ["updateProgress", "session-1", 62.5, 180],
      ["showResults", "session-1", { accuracy: 0.97 }],
      ["showError", "session-1", "out of memory"],
      ["console.log", "Session cancelled:", "session-1"],
    ]);
  });

  it("shows notifications, alerts and the system's status", async () => {
    const page = await at.open("robotics");
    await page.hears("connected");
    await at.publish("global", "notification", { notification_type: "success", title: "Done", message: "43 % smaller" });
    await at.publish("global", "alert", { severity: "high", title: "GPU is hot" });
    await at.publish("global", "system_status", { status: "degraded" });
    assert.deepEqual(await page.called("showStatus"), ["degraded"]);
    assert.deepEqual(await page.calls("showNotification"), [["success", "Done", "43 % smaller"]]);
    assert.deepEqual(await page.calls("showAlert"), [["high", "GPU is hot"]]);
  });

  it("gets pongs and errors, and no event of a session that it left", async () => {
    const page = await at.open("robotics");
    await page.hears("subscribed");
    await page.evaluate(() => timers.forEach(({ callback }) => callback()));
    await page.called("console.log", (text) => text === "The server is there");
    assert.ok(Date.parse((await page.hears("pong")).timestamp));
    await page.evaluate(() => socket.emit("subscribe_session", {}));
    assert.match((await page.called("console.error"))[1], /session_id/);
    await page.evaluate(() => socket.emit("unsubscribe_session", { session_id: "session-1" }));
    assert.equal((await page.hears("unsubscribed")).session_id, "session-1");
    await at.publish("session:session-1", "session_started", { session_id: "session-1" });
    await at.publish("global", "system_status", { status: "healthy" });
    await page.hears("system_status");
    assert.ok(!(await page.types()).includes("session_started"));
  });

  it("gets every event type with its own fields", async () => {
    const page = await at.open("robotics");
    await page.hears("subscribed");
    const types = await at.types();
    assert.equal(types.length, 8);
    for (const { name, namespace, example } of types) {
      await at.publish(namespace === "session" ? "session:session-1" : "global", name, example);
      const { timestamp, position, ...event } = await page.hears(name);
      assert.deepEqual(event, example);
      assert.ok(Date.parse(timestamp));
    }
    await at.refuses("global", "notification", { notification_type: "loud" }, /notification_type/);
  });
});
