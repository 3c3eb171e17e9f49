// SPC's sample client: samples of the characteristics that it asked for.
import assert from "node:assert/strict";
import { it } from "node:test";
import { system } from "./support/system.mjs";

const sample = (characteristic_id) => ({
  sample_id: 123, characteristic_id, timestamp: "2026-02-02T12:00:00Z", value: 10.5, zone: "zone_c_upper", in_control: true,
});

system({ preset: "spc", address: "localhost:8000", connection: "ws" }, (at) => {
  it("shows samples of three characteristics, and of no other", async () => {
    const page = await at.open("spc");
    await page.hears("subscribed");
    for (const id of [4, 1, 2, 3]) await at.publish(`characteristic:${id}`, "sample", sample(id));
    await page.called("console.log", (_, { characteristic_id }) => characteristic_id === 3);
    assert.deepEqual(await page.calls(), [1, 2, 3].map((id) => ["console.log", "New sample:", sample(id)]));
    const [, first] = await page.heard();
    const { position, ...envelope } = first;
    assert.deepEqual(envelope, { type: "sample", payload: sample(1) });
    assert.equal(position.channel, "characteristic:1");
  });

  it("gets a pong for its ping every 30 seconds", async () => {
    const page = await at.open("spc");
    await page.hears("subscribed");
    assert.deepEqual(await page.evaluate(() => timers.map(({ ms }) => ms)), [30000]);
    await page.evaluate(() => timers[0].callback());
    assert.equal((await page.hears("pong")).type, "pong");
  });

  it("gets every event type, in a room and for all, and leaves a room", async () => {
    const page = await at.open("spc");
    await page.hears("subscribed");
    const types = await at.types();
    assert.deepEqual(types.map(({ name }) => name).sort(), ["ack_update", "sample", "violation"]);
    for (const { name, example } of types) {
      await at.publish("characteristic:2", name, example);
      const { position, ...envelope } = await page.hears(name);
      assert.deepEqual(envelope, { type: name, payload: example });
      assert.equal(position.channel, "characteristic:2");
    }
    await page.evaluate(() => ws.send(JSON.stringify({ type: "unsubscribe", characteristic_ids: [1] })));
    await page.hears("unsubscribed");
    await at.publish("characteristic:1", "sample", { ...sample(1), value: -1 });
    await at.publish("global", "sample", sample(9));
    await page.called("console.log", (_, { characteristic_id }) => characteristic_id === 9);
    assert.ok((await page.heard()).every(({ payload }) => payload?.value !== -1));
    await at.refuses("characteristic:1", "sample", { ...sample(1), value: "10.5" }, /value/);
  });

  it("gets an error for an invalid request", async () => {
    const page = await at.open("spc");
    await page.hears("subscribed");
    await page.evaluate(() => ws.send(JSON.stringify({ type: "subscribe", characteristic_ids: {} })));
    const error = await page.hears("error");
    assert.equal(error.code, "invalid_argument");
    assert.match(error.message, /characteristic_ids/);
  });
});
