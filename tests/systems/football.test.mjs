// Football's sample client: progress and errors; and, with a token, what goes to a user or a role.
import assert from "node:assert/strict";
import { it } from "node:test";
import { token } from "../socketio/support/server.mjs";
import { system } from "./support/system.mjs";

const AUTHENTICATED = ["football", "football-authenticate"];
// As Python's datetime.isoformat() writes it.
const progress = { job_id: "job-123", progress: 75.0, stage: "team_normalization", timestamp: "2026-11-21T10:06:53.118204+00:00" };

system({ preset: "football", address: "localhost:8000", connection: "ws" }, (at) => {
  it("shows progress and errors, and nothing else", async () => {
    const page = await at.open("football");
    await page.hears("subscribed");
    await at.publish("global", "system_alert", { message: "not asked for" });
    await at.publish("global", "config_updated", { changes: {} });
    await at.publish("global", "processing_progress", progress);
    await at.publish("global", "system_error", { error: "the source directory is gone" });
    assert.deepEqual(await page.called("showErrorNotification"), ["the source directory is gone"]);
    assert.deepEqual(await page.calls("updateProgressBar"), [[75]]);
    assert.deepEqual(await page.calls("console.log"), [
      ["Connected to WebSocket"],
      ...(await page.heard()).map(({ type, data }) => ["Received:", type, data]),
    ]);
    for (const { position, ...message } of await page.heard()) assert.deepEqual(Object.keys(message).sort(), ["data", "timestamp", "type"]);
    assert.deepEqual(await page.types(), ["connection_established", "subscribed", "processing_progress", "system_error"]);
  });

  it("delivers the events of a user and of a role only to them", async () => {
    const [user, admin, stranger] = [
      await at.open(AUTHENTICATED, { token: token("user-123") }),
      await at.open(AUTHENTICATED, { token: token("root", { roles: ["admin"] }) }),
      await at.open("football"),
    ];
    assert.equal((await user.hears("authenticated")).data.user, "user-123");
    assert.deepEqual((await admin.hears("authenticated")).data.roles, ["admin"]);
    await stranger.hears("subscribed");
    await at.publish("user:user-123", "user_notification", { message: "Your job is complete!" });
    await at.publish("", "user_notification", { message: "straight to you" }, "--user", "user-123");
    await at.publish("global", "config_updated", { changes: { poll_interval: 30 } });
    await at.publish("global", "system_alert", { message: "for operators", level: "warning" }, "--role", "admin");
    await at.publish("global", "system_error", { error: "the last" });
    for (const page of [user, admin, stranger]) await page.hears("system_error");
    const events = async (page) => (await page.types()).filter((type) => !/^connection_|authenticated|subscribed/.test(type));
    assert.deepEqual(await events(user), ["user_notification", "user_notification", "system_error"]);
    assert.deepEqual(await events(admin), ["config_updated", "system_alert", "system_error"]);
    assert.deepEqual(await events(stranger), ["system_error"]);
  });

  it("gets errors for an invalid token and a forbidden subscription", async () => {
    const page = await at.open(AUTHENTICATED, { token: "not.a.token" });
    assert.equal((await page.hears("error")).data.code, "unauthenticated");
    const other = await at.open("football");
    await other.hears("subscribed");
    await other.evaluate(() => ws.send(JSON.stringify({ type: "subscribe", data: { channels: ["user:user-123"] } })));
    assert.equal((await other.hears("error")).data.code, "permission_denied");
  });

  it("gets every event type in its envelope", async () => {
    const page = await at.open(AUTHENTICATED, { token: token("root", { roles: ["admin"] }) });
    await page.hears("authenticated");
    const types = await at.types();
    assert.equal(types.length, 16);
    for (const { name, namespace, example } of types) {
      await at.publish(namespace === "user" ? "user:root" : namespace, name, example);
      assert.deepEqual((await page.hears(name)).data, example);
    }
    await at.refuses("global", "processing_progress", { ...progress, progress: 101 }, /progress/);
  });

  it("is managed over HTTP by an admin", async () => {
    const page = await at.open("football");
    await page.hears("subscribed");
    const shown = await at.http("GET", "/api/v1/websocket/connections");
    assert.equal(shown.body.total, 1);
    assert.equal(shown.body.statistics.active_connections, 1);
    const event = { event_type: "processing_progress", data: progress };
    assert.equal((await at.http("POST", "/api/v1/websocket/broadcast", event, [])).status, 403);
    assert.equal((await at.http("POST", "/api/v1/websocket/broadcast", event)).body.success, true);
    assert.deepEqual(await page.called("updateProgressBar"), [75]);
  });

  it("can't connect from a page of an unlisted origin", async () => {
    const page = await at.open("football", { origin: at.site.elsewhere });
    await page.called("closed");
    assert.deepEqual(await page.heard(), []);
  });
});
