// Photo's sample client: flat events of the channels that it asked for; and the paths to manage it.
import assert from "node:assert/strict";
import { it } from "node:test";
import { system } from "./support/system.mjs";

system({ preset: "photo", address: "localhost:5100", connection: "ws" }, (at) => {
  it("shows photos, progress and sessions", async () => {
    const page = await at.open("photo");
    await page.hears("subscribed");
    const photo = { photo_id: "photo-42", session_id: "session-3", file_name: "IMG_0042.CR3", file_path: "2026/11/IMG_0042.CR3" };
    await at.publish("queue", "queue_status", { pending: 1 });
    await at.publish("photos", "photo_imported", photo);
    await at.publish("jobs", "job_progress", { job_id: "job-7", progress: 45.5 });
    await at.publish("sessions", "session_updated", { session_id: "session-3", progress_percent: 25 });
    assert.deepEqual(await page.called("updateSessionCard"), ["session-3", 25]);
    assert.deepEqual(await page.calls("updateProgressBar"), [["job-7", 45.5]]);
    const [[{ type, timestamp, position, ...shown }]] = await page.calls("addPhotoToGallery");
    assert.deepEqual([type, shown], ["photo_imported", photo]);
    assert.ok(Date.parse(timestamp));
    assert.ok(!(await page.types()).includes("queue_status"));
  });

  it("gets every event type of its channels, and the others only as broadcasts to all", async () => {
    const page = await at.open("photo");
    await page.hears("subscribed");
    const types = await at.types();
    assert.equal(types.length, 25);
    for (const { name, namespace, example } of types) {
      await at.publish(namespace, name, example);
      if (["jobs", "photos", "sessions"].includes(namespace)) {
        const { type, timestamp, position, ...event } = await page.hears(name);
        assert.deepEqual([type, event], [name, example]);
        assert.ok(Date.parse(timestamp));
      }
    }
    const silent = types.filter(({ namespace }) => !["jobs", "photos", "sessions"].includes(namespace));
    for (const { name, example } of silent) {
      assert.ok(!(await page.types()).includes(name), name);
      await at.publish("global", name, example);
      await page.hears(name);
    }
    await at.refuses("photos", "photo_imported", { photo_id: 42 }, /photo_id/);
  });

  it("is listed, counted, addressed and ended over HTTP", async () => {
    const page = await at.open("photo");
    await page.hears("subscribed");
    const { body: listed } = await at.http("GET", "/websocket/clients");
    assert.equal(listed.clients.length, 1);
    const [client] = listed.clients;
    assert.deepEqual([client.type, client.name], ["mobile", "Mobile Web"]);
    for (const channel of ["jobs", "photos", "sessions"]) assert.ok(client.subscriptions.includes(channel), channel);
    assert.ok(Date.parse(client.connected_at));

    const { body: stats } = await at.http("GET", "/websocket/stats");
    assert.deepEqual(stats.clients_by_type, { mobile: 1 });
    assert.equal(stats.subscriptions_per_channel.photos, 1);
    assert.ok(stats.active_channels.includes("jobs"));

    const event = { type: "job_progress", channel: "jobs", job_id: "job-8", progress: 50 };
    assert.equal((await at.http("POST", "/websocket/broadcast", event, [])).status, 403);
    assert.equal((await at.http("POST", "/websocket/broadcast", event)).body.recipients, 1);
    assert.deepEqual(await page.called("updateProgressBar"), ["job-8", 50]);
    const unheard = { type: "queue_status", channel: "queue", pending: 3 };
    assert.equal((await at.http("POST", "/websocket/broadcast", unheard)).body.recipients, 0);
    const all = { type: "system_status", status: "batch_started" };
    assert.equal((await at.http("POST", "/websocket/broadcast", all)).body.recipients, 1);
    await page.hears("system_status");
    assert.ok(!(await page.types()).includes("queue_status"));

    const path = `/websocket/disconnect/${client.client_id}`;
    assert.equal((await at.http("POST", path, {}, [])).status, 403);
    assert.equal((await at.http("POST", path, {})).body.success, true);
    assert.deepEqual(await page.called("closed"), [4410]);
  });
});
