// The client in Node against the real server, through a proxy that fails as networks do.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import WebSocket from "ws";
import { connect } from "../dist/index.js";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

/** A socket whose reading can be stopped: a slow client. */
class Slow extends WebSocket {
  static last;

  constructor(...args) {
    super(...args);
    Slow.last = this;
  }
}

/** Text that can't be compressed much. */
const noise = (length) => randomBytes(length).toString("base64").slice(0, length);

const offsets = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

describe("against the server", () => {
  let server;
  const clients = [];

  before(async () => (server = await startServer()));
  after(() => server.close());
  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
    server.proxy.heal();
  });

  function start(options = {}) {
    const client = connect(server.url, { WebSocket, transports: ["websocket"], token: () => token(), minDelayMs: 20, ...options });
    client.states = [];
    client.errors = [];
    client.on("state", (state) => client.states.push(state));
    client.on("error", (error) => client.errors.push(error));
    clients.push(client);
    return client;
  }

  /** A subscription that records everything. */
  async function follow(client, channel, options = {}) {
    const notes = { offsets: [], how: [], stale: [], gaps: [] };
    const subscription = client.subscribe(
      channel,
      {
        ...options,
        onSubscribed: (how) => notes.how.push(how),
        onStale: (why) => notes.stale.push(why),
        onGap: (gap) => notes.gaps.push(gap),
      },
      ({ offset }) => void notes.offsets.push(offset),
    );
    await subscription.ready;
    return Object.assign(notes, { subscription });
  }

  /** Publishes until the server detects a slow consumer; returns the number of events. */
  async function overwhelm(channel) {
    const data = noise(30_000);
    const slow = async () => (await server.api("GET", "/stats")).slow_consumers;
    const before = await slow();
    let count = 0;
    while ((await slow()) === before) {
      for (let n = 0; n < 20; n++, count++) await server.publish(channel, "big", data);
      assert.ok(count < 1000, "the server finds nobody too slow");
    }
    return count;
  }

  it("publishes, subscribes, reads history and presence", async () => {
    const client = start({ clientType: "test", clientName: "desk 7" });
    const events = client.subscribe("room:basic", { eventTypes: ["note.*"] });
    await events.ready;
    const published = await client.publish("room:basic", "note.added", { text: "hello" }, { headers: { region: "eu" } });
    await client.publish("room:basic", "other", 1);
    await client.publish("room:basic", "note.removed", false);
    const got = [];
    for await (const event of events) {
      got.push(event);
      if (got.length === 2) break;
    }
    assert.equal(got[0].id, published.id);
    assert.deepEqual([got[0].type, got[0].data, got[0].headers, got[0].offset], ["note.added", { text: "hello" }, { region: "eu" }, 1]);
    assert.deepEqual([got[1].type, got[1].data, got[1].offset], ["note.removed", false, 3]);
    const history = await client.history("room:basic", { limit: 2, since: { epoch: got[0].epoch, offset: 1 } });
    assert.deepEqual(history.events.map(({ offset }) => offset), [2, 3]);
    await follow(client, "room:basic");
    assert.deepEqual(await client.presence("room:basic"), { channel: "room:basic", users: [{ user: "ann", connections: 1 }], total: 1 });
    const { connections } = await server.api("GET", "/connections?client_type=test");
    assert.equal(connections.length, 1);
  });

  it("publishes an idempotency key once, and reports errors", async () => {
    const client = start();
    const options = { idempotencyKey: "k1" };
    const first = await client.publish("room:idem", "a", 1, options);
    const second = await client.publish("room:idem", "a", 1, options);
    assert.deepEqual([second.id, second.offset, second.duplicate], [first.id, 1, true]);
    await assert.rejects(client.publish("room:idem", "subscribe", 1), (error) => error.code === "invalid_argument" && error.details.field === "event_type");
    await assert.rejects(client.publish("secret:1", "a", 1), { code: "permission_denied" });
    await assert.rejects(client.history("plain:1"), { code: "failed_precondition" });
    const refused = client.subscribe("secret:1", { onError: () => {} }, () => {});
    await assert.rejects(refused.ready, { code: "permission_denied" });
    const wrong = client.subscribe("room:idem", { filter: "nonsense(", onError: () => {} }, () => {});
    await assert.rejects(wrong.ready, { code: "invalid_argument" });
    assert.equal(client.state, "open");
  });

  it("recovers all events published while the network was cut, with one message", async () => {
    const client = start();
    const channels = ["room:cut1", "room:cut2", "room:cut3"];
    const notes = await Promise.all(channels.map((channel) => follow(client, channel)));
    for (const channel of channels) await server.publishMany(channel, 1, 3);
    await until(() => notes.every(({ offsets }) => offsets.length === 3), "the first events");
    for (let round = 1; round <= 3; round++) {
      server.proxy.refuse();
      for (const channel of channels) await server.publishMany(channel, 1, 10);
      server.proxy.heal();
      await until(() => notes.every(({ offsets }) => offsets.length >= 3 + round * 10), "what was missed");
    }
    for (const { offsets: got, how, stale } of notes) {
      assert.deepEqual(got, offsets(1, 33));
      assert.deepEqual(how.map(({ recovered }) => recovered), [undefined, true, true, true]);
      assert.deepEqual(stale, []);
    }
  });

  it("loses and repeats nothing while connections are cut under load", async () => {
    const client = start();
    const notes = await follow(client, "room:load");
    let cuts = 0;
    let count = 0;
    const publishing = (async () => {
      while (cuts < 5) {
        await server.publish("room:load", "count", { n: ++count });
        // No further ahead than the length of history.
        await until(() => count - notes.offsets.length < 500 || cuts === 5, "the client to recover");
      }
    })();
    for (; cuts < 5; cuts++) {
      const seen = notes.offsets.length;
      await until(() => notes.offsets.length > seen + 10, "events between two cuts");
      server.proxy.cut();
      await until(() => client.state !== "open", "the cut to be noticed");
    }
    await publishing;
    await until(() => notes.offsets.length >= count, "all events");
    assert.deepEqual(notes.offsets, offsets(1, count));
    assert.deepEqual(notes.stale, []);
  });

  it("publishes exactly once over a cut", async () => {
    const client = start();
    await follow(client, "room:once");
    const published = [];
    for (let n = 1; n <= 60; n++) {
      published.push(client.publish("room:once", "count", { n }));
      if (n % 20 === 0) {
        await Promise.race(published.slice(-20));
        server.proxy.cut();
      }
    }
    await Promise.all(published);
    const { events } = await client.history("room:once", { limit: 1000 });
    assert.deepEqual(events.map(({ data }) => data.n).sort((a, b) => a - b), offsets(1, 60));
  });

  it("reports recovered: false after a drop of a channel without history", async () => {
    const client = start();
    const notes = await follow(client, "plain:1");
    assert.deepEqual(notes.how, [{ channel: "plain:1" }]);
    server.proxy.cut();
    await until(() => notes.how.length === 2, "the second beginning");
    assert.equal(notes.how[1].recovered, false);
    assert.deepEqual(notes.stale, [{ recovered: false, channel: "plain:1" }]);
  });

  it("starts with rewind or since, also the second subscription of a channel", async () => {
    const client = start();
    await server.publishMany("room:begin", 1, 20);
    const filter = "data.n % 2 == 0";
    const first = await follow(client, "room:begin", { rewind: 4, filter });
    await until(() => first.offsets.length === 2, "the rewound events");
    const second = await follow(client, "room:begin", { rewind: 10, filter });
    const epoch = first.how[0].epoch;
    const third = await follow(client, "room:begin", { since: { epoch, offset: 15 }, filter });
    const far = await follow(client, "room:begin", { rewind: 500, filter });
    const old = await follow(client, "room:begin", { since: { epoch: "0000000000000001", offset: 3 }, filter });
    await server.publishMany("room:begin", 21, 22);
    const all = [first, second, third, far, old];
    await until(() => all.every(({ offsets }) => offsets.at(-1) === 22), "the live events");
    assert.deepEqual(all.map(({ offsets }) => offsets), [
      [18, 20, 22],
      [12, 14, 16, 18, 20, 22],
      [16, 18, 20, 22],
      [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22],
      [22],
    ]);
    assert.deepEqual([third.how[0].recovered, old.how[0].recovered], [true, false]);
    assert.deepEqual([first, second, third, far].flatMap(({ stale }) => stale), []);
    server.proxy.refuse();
    await server.publishMany("room:begin", 23, 24);
    server.proxy.heal();
    await until(() => all.every(({ offsets }) => offsets.at(-1) === 24), "what was missed");
    assert.ok(all.every(({ how }) => how.at(-1).recovered));
  });

  it("receives each event of a pattern once, as a service", async () => {
    const client = start({ token: () => token({ user: "backend", roles: ["service"] }) });
    const all = await follow(client, "room:*");
    await server.publishMany("room:pattern", 1, 2);
    await until(() => all.offsets.length === 2, "the events by the pattern");
    const exact = await follow(client, "room:pattern", { rewind: 2 });
    await server.publishMany("room:pattern", 3, 4);
    await until(() => exact.offsets.length === 4 && all.offsets.length >= 4, "the events");
    assert.deepEqual([all.offsets, exact.offsets], [offsets(1, 4), offsets(1, 4)]);
  });

  it("receives presence joins and leaves", async () => {
    const client = start();
    const changes = [];
    await client.subscribe("room:people", { onPresence: ({ user, joined }) => changes.push([user, joined]) }, () => {}).ready;
    const bob = start({ token: () => token({ user: "bob" }) });
    await follow(bob, "room:people");
    bob.close();
    await until(() => changes.length === 2, "bob to come and go");
    assert.deepEqual(changes, [["bob", true], ["bob", false]]);
  });

  it("detects a silent server, and recovers on another connection", async () => {
    const client = start();
    const notes = await follow(client, "room:silent");
    server.proxy.stall();
    await server.publishMany("room:silent", 1, 5);
    await until(() => client.state !== "open", "the silence to be noticed");
    assert.match(client.states.at(-1).reason ?? client.states.at(-2).reason, /silent/);
    server.proxy.cut();
    server.proxy.heal();
    await until(() => notes.offsets.length === 5, "what was missed");
    assert.equal(notes.how.at(-1).recovered, true);
  });

  it("renews its token on the open connection", async () => {
    let calls = 0;
    // The first token is valid for three seconds: the server announces the expiry after half of them.
    const client = start({ token: () => token({ ttl: ++calls === 1 ? 3 : 3600 }) });
    const notes = await follow(client, "room:renew");
    await until(() => calls === 2, "the renewal");
    const [{ id }] = (await server.api("GET", "/connections?user=ann")).connections;
    const expired = Date.now() + 3000;
    await until(() => Date.now() > expired, "the first token to expire");
    await server.publishMany("room:renew", 1, 1);
    await until(() => notes.offsets.length === 1, "an event after the expiry");
    assert.equal((await server.api("GET", `/connections/${id}`)).id, id);
    assert.equal(client.states.filter(({ state }) => state === "open").length, 1);
    assert.equal(calls, 2);
  });

  it("reconnects with a new token after 4401", async () => {
    let calls = 0;
    const why = [];
    let failing = false;
    const client = start({
      token: (reason) => {
        why.push(reason.refused);
        if (failing) throw new Error("login is down");
        return token({ ttl: ++calls === 1 ? 2 : 3600 });
      },
    });
    const notes = await follow(client, "room:expire");
    failing = true;
    await until(() => client.states.some(({ code }) => code === 4401), "the expiry");
    failing = false;
    await server.publishMany("room:expire", 1, 1);
    await until(() => notes.offsets.length === 1, "the event after the expiry");
    assert.equal(notes.how.at(-1).recovered, true);
    assert.equal(why.at(-1), true);
    assert.ok(client.errors.some(({ message }) => message === "login is down"));
  });

  it("requests another token if one is refused, and ends if it is fixed", async () => {
    let calls = 0;
    const client = start({ token: () => (++calls < 3 ? "rubbish" : token()) });
    await until(() => client.state === "open", "a good token");
    assert.equal(calls, 3);
    const fixed = start({ token: "rubbish" });
    await until(() => fixed.state === "closed", "the end");
    assert.equal(fixed.states.at(-1).code, 4401);
    assert.equal(fixed.errors.at(-1).code, "unauthenticated");
  });

  it("does not reconnect after an operator's disconnect", async () => {
    const client = start({ token: () => token({ user: "carl" }) });
    const notes = await follow(client, "room:operator");
    const [{ id }] = (await server.api("GET", "/connections?user=carl")).connections;
    const accepted = server.proxy.accepted;
    await server.api("DELETE", `/connections/${id}`, { reason: "enough" });
    await until(() => client.state === "closed", "the end");
    assert.equal(client.states.at(-1).code, 4410);
    assert.throws(() => client.subscribe("room:operator", () => {}));
    assert.equal(server.proxy.accepted, accepted);
    assert.equal(notes.stale.length, 0);
  });

  it("reports a slow consumer's losses in gaps, and has the rest in order", async () => {
    const client = start({ WebSocket: Slow });
    const notes = await follow(client, "lossy:1");
    Slow.last.pause();
    const count = await overwhelm("lossy:1");
    Slow.last.resume();
    await server.publish("lossy:1", "end", {});
    await until(() => notes.offsets.at(-1) === count + 1, "the last event");
    assert.ok(notes.gaps.length > 0);
    const missed = notes.gaps.flatMap(({ from, to }) => offsets(from, to));
    assert.deepEqual([...notes.offsets, ...missed].sort((a, b) => a - b), offsets(1, count + 1));
    assert.deepEqual(notes.offsets, [...notes.offsets].sort((a, b) => a - b));
    assert.deepEqual(notes.stale, notes.gaps);
  });

  it("reconnects after 4411 and has every event", async () => {
    const client = start({ WebSocket: Slow });
    const notes = await follow(client, "strict:1");
    Slow.last.pause();
    const count = await overwhelm("strict:1");
    Slow.last.resume();
    await until(() => notes.offsets.length >= count, "all events");
    assert.deepEqual(notes.offsets, offsets(1, count));
    assert.ok(client.states.some(({ code }) => code === 4411), JSON.stringify(client.states));
    assert.deepEqual(notes.stale, []);
  });

  it("slows down when it publishes above the server's rate limit", async () => {
    const client = start();
    await until(() => client.state === "open", "the connection");
    const published = await Promise.all(offsets(1, 180).map((n) => client.publish("room:fast", "count", { n })));
    assert.deepEqual(published.map(({ offset }) => offset).sort((a, b) => a - b), offsets(1, 180));
    assert.equal(client.states.filter(({ state }) => state === "open").length, 1);
  });

  it("repeats few publishes under a low rate limit", async () => {
    let sent = 0;
    class Counting extends WebSocket {
      send(text) {
        sent += 1;
        super.send(text);
      }
    }
    const client = start({ WebSocket: Counting });
    await until(() => client.state === "open", "the connection");
    await Promise.all(offsets(1, 500).map((n) => client.publish("room:paced", "count", { n })));
    assert.ok(sent < 750, `${sent} messages for 500 publishes`);
    assert.equal((await client.history("room:paced", { limit: 1, reverse: true })).offset, 500);
  });

  it("delivers to each filter on one channel its own events", async () => {
    const client = start();
    const odd = await follow(client, "room:filters", { filter: "data.n % 2 == 1" });
    const even = await follow(client, "room:filters", { filter: "data.n % 2 == 0" });
    await server.publishMany("room:filters", 1, 4);
    server.proxy.cut();
    await server.publishMany("room:filters", 5, 6);
    await until(() => odd.offsets.length === 3 && even.offsets.length === 3, "the events");
    assert.deepEqual([odd.offsets, even.offsets], [[1, 3, 5], [2, 4, 6]]);
  });

  it("fails only the message that is too big", async () => {
    const client = start();
    await assert.rejects(client.publish("room:big", "big", "x".repeat(70_000)), { code: "invalid_argument", message: /message_bytes/ });
    assert.equal((await client.publish("room:big", "small", 1)).offset, 1);
  });
});
