// The back-end client over gRPC against the real server.
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { connect, TidingsError } from "../dist/node.js";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const offsets = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

describe("over gRPC", () => {
  let server, backend;
  const clients = [];
  const start = (options = {}) => {
    const roles = ["service", "admin"];
    const client = connect(`http://${server.internal}`, { token: () => token({ user: "backend", roles }), ...options });
    clients.push(client);
    return client;
  };

  before(async () => {
    server = await startServer();
    backend = start();
  });
  after(async () => {
    for (const client of clients) client.close();
    await server.close();
  });

  it("publishes and receives JSON and bytes", async () => {
    const events = backend.subscribe("room:grpc");
    await events.ready;
    const { id, results } = await backend.publish("room:grpc", "note", { text: "hello" }, { headers: { region: "eu" }, source: "shop" });
    assert.deepEqual([results.length, results[0].channel, results[0].position.offset, results[0].duplicate], [1, "room:grpc", 1, false]);
    await backend.publish("room:grpc", "picture", new Uint8Array([0, 255, 1]), { contentType: "image/png" });
    const got = [];
    for await (const event of events) {
      got.push(event);
      if (got.length === 2) break;
    }
    assert.deepEqual([got[0].id, got[0].type, got[0].data, got[0].headers, got[0].source, got[0].offset], [id, "note", { text: "hello" }, { region: "eu" }, "shop", 1]);
    assert.deepEqual([[...got[1].data], got[1].content_type], [[0, 255, 1], "image/png"]);
    assert.deepEqual(events.position("room:grpc"), { epoch: got[0].epoch, offset: 2 });
  });

  it("publishes batches and streams, each event with its own outcome", async () => {
    const [good, bad, other] = await backend.publishBatch([
      { channel: "room:batch", type: "count", data: 1 },
      { channel: "room:batch", type: "subscribe", data: 2 },
      { channel: ["room:batch", "room:batch2"], type: "count", data: 3 },
    ]);
    assert.equal(good.results[0].position.offset, 1);
    assert.ok(bad.error instanceof TidingsError && bad.error.code === "invalid_argument");
    assert.deepEqual(other.results.map(({ channel, position }) => [channel, position.offset]), [["room:batch", 2], ["room:batch2", 1]]);
    const stream = backend.publishStream();
    const receipts = offsets(1, 5000).map((n) => stream.publish({ channel: "room:stream", type: "count", data: n }));
    const refused = stream.publish({ channel: "room:stream", type: "subscribe", data: 0 });
    await assert.rejects(refused, { code: "invalid_argument" });
    assert.deepEqual((await Promise.all(receipts)).map(({ results }) => results[0].position.offset), offsets(1, 5000));
    await stream.end();
    await assert.rejects(stream.publish({ channel: "room:stream", type: "count", data: 0 }));
  });

  it("publishes far faster than the message rate limit of a socket", async () => {
    const begun = performance.now();
    await Promise.all(offsets(1, 2000).map((n) => backend.publish("room:many", "count", n)));
    const rate = 2000 / ((performance.now() - begun) / 1000);
    assert.ok(rate > 500, `${rate} events/s`);
  });

  it("publishes to an audience without a channel, with no idempotency key", async () => {
    const { results } = await backend.publish({ type: "hello", data: {}, audience: { users: ["nobody"] } });
    assert.equal(results[0].channel, "");
  });

  it("names the invalid field", async () => {
    await assert.rejects(backend.publish("room:x", "subscribe", 1), (error) => error.code === "invalid_argument" && error.details.field === "type");
    await assert.rejects(backend.connection("nonsense"), (error) => error instanceof TidingsError);
    const user = start({ token: token({ user: "ann" }) });
    await assert.rejects(user.stats(), { code: "permission_denied" });
  });

  it("returns the first position for a repeated idempotency key", async () => {
    const options = { idempotencyKey: "k1" };
    const first = await backend.publish("room:idem", "a", 1, options);
    const second = await backend.publish("room:idem", "a", 1, options);
    assert.deepEqual([second.id, second.results[0].duplicate], [first.id, true]);
  });

  it("reads history in pages, and resumes after a position", async () => {
    await backend.publishBatch(offsets(1, 25).map((n) => ({ channel: "room:pages", type: "count", data: n })));
    const all = [];
    for await (const event of backend.history("room:pages", { pageSize: 10 })) all.push(event);
    assert.deepEqual(all.map(({ data }) => data), offsets(1, 25));
    const got = [];
    for await (const { offset } of backend.subscribe([{ channel: "room:pages", since: { epoch: all[0].epoch, offset: 20 } }])) {
      got.push(offset);
      if (offset === 25) break;
    }
    assert.deepEqual(got, offsets(21, 25));
  });

  it("reads stats, connections, channels and presence", async () => {
    const events = backend.subscribe("room:admin");
    await events.ready;
    const stats = await backend.stats();
    assert.ok(stats.connections.now >= 1 && stats.uptimeMs > 0 && stats.events.published > 0);
    for await (const { node } of backend.watchStats(100)) {
      assert.equal(node, stats.node);
      break;
    }
    const found = [];
    for await (const connection of backend.connections({ channel: "room:admin", pageSize: 1 })) found.push(connection);
    assert.equal(found.length, 1);
    assert.deepEqual([found[0].user, found[0].transport], ["backend", "grpc"]);
    assert.equal((await backend.connection(found[0].id)).id, found[0].id);
    const names = [];
    for await (const { channel } of backend.channels({ prefix: "room:adm" })) names.push(channel);
    assert.deepEqual(names, ["room:admin"]);
    assert.equal((await backend.presence("room:admin")).total, 1);
    await assert.rejects(backend.validate("anything", { a: 1 }), { code: "not_found" });
    events.unsubscribe();
    assert.deepEqual(await events.next().then(({ done }) => done), true);
    await until(async () => (await backend.presence("room:admin")).total === 0, "the stream to end at the server");
  });

  it("reports refused channels, and ends if all are refused", async () => {
    const user = start({ token: token({ user: "ann" }) });
    const refused = [];
    const both = user.subscribe(["secret:1", "room:ok"], { onError: ({ code }, channel) => refused.push([channel, code]) });
    await both.ready;
    assert.deepEqual(refused, [["secret:1", "permission_denied"]]);
    const none = user.subscribe("secret:1");
    await assert.rejects(none.next(), { code: "permission_denied" });
    await assert.rejects(none.ready, { code: "permission_denied" });
    both.unsubscribe();
  });

  it("requests another token if one is refused", async () => {
    const why = [];
    const client = start({ token: ({ refused }) => (why.push(refused), refused ? token({ roles: ["service"] }) : "rubbish") });
    await client.publish("room:token", "a", 1);
    assert.deepEqual(why, [false, true]);
  });

  it("resumes every channel after its connection broke, each event once", async () => {
    const target = Number(server.internal.split(":").at(-1));
    const sockets = new Set();
    const proxy = net.createServer((socket) => {
      const to = net.connect(target, "127.0.0.1");
      for (const one of [socket, to]) sockets.add(one.on("error", () => {}));
      socket.pipe(to).pipe(socket);
    });
    await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    try {
      const client = connect(`http://127.0.0.1:${proxy.address().port}`, { token: token({ roles: ["service"] }) });
      clients.push(client);
      const how = [];
      const events = client.subscribe(["room:cut1", "room:cut2"], { onSubscribed: ({ recovered }) => how.push(recovered) });
      await events.ready;
      const got = [];
      const reading = (async () => {
        for await (const { channel, data } of events) {
          got.push([channel, data]);
          if (got.length === 40) break;
        }
      })();
      for (let round = 0; round < 2; round++) {
        for (const n of offsets(round * 10 + 1, round * 10 + 10)) {
          for (const channel of ["room:cut1", "room:cut2"]) await backend.publish(channel, "count", n);
          if (n % 10 === 4) for (const socket of sockets) socket.destroy();
        }
      }
      await reading;
      for (const name of ["room:cut1", "room:cut2"]) {
        assert.deepEqual(got.filter(([channel]) => channel === name).map(([, n]) => n), offsets(1, 20));
      }
      assert.ok(how.includes(true) && !how.includes(false), JSON.stringify(how));
    } finally {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    }
  });
});

describe("a back end's management", () => {
  let server;
  let backend;
  before(async () => {
    server = await startServer();
    backend = connect(`http://${server.internal}`, { token: token({ user: "backend", roles: ["service", "admin"] }) });
  });
  after(() => {
    backend.close();
    return server.close();
  });
  const history = async (channel) => {
    const found = [];
    for await (const { data } of backend.history(channel)) found.push(data);
    return found;
  };

  it("publishes with a ttl, without history, and only at an expected offset", async () => {
    const first = await backend.publish("room:p1", "a", 1, { expectedOffset: 0 });
    assert.equal(first.results[0].position.offset, 1);
    await assert.rejects(backend.publish("room:p1", "a", 2, { expectedOffset: 0 }), { code: "failed_precondition" });
    const second = await backend.publish("room:p1", "a", 2, { skipHistory: true });
    assert.equal(second.results[0].position, undefined);
    await backend.publish("room:p1", "a", 3, { ttlMs: 1 });
    await until(async () => JSON.stringify(await history("room:p1")) === "[1]", "the ttl");
    await assert.rejects(backend.publish("room:p1", "a", 4, { ttlMs: -1 }), { code: "invalid_argument" });
  });

  it("purges history up to an offset, and of one user", async () => {
    for (const n of [1, 2, 3, 4]) await backend.publish("room:p2", "a", n, { source: n % 2 ? "odd" : "even" });
    assert.equal((await backend.purgeHistory("room:p2", { untilOffset: 1 })).purged, 1);
    const { purged, position } = await backend.purgeHistory("room:p2");
    assert.deepEqual([purged, position.offset, await history("room:p2")], [3, 4, []]);
  });

  it("subscribes a user's connections, and ends that", async () => {
    const reader = connect(`http://${server.internal}`, { token: token({ user: "bob" }) });
    const got = [];
    const own = reader.subscribe("room:p3");
    await own.ready;
    (async () => {
      for await (const { channel, data } of own) got.push([channel, data]);
    })().catch(() => {});
    assert.equal(await backend.subscribeUser({ user: "bob" }, "room:p4", { eventTypes: ["a"] }), 1);
    await backend.publish("room:p4", "b", 0);
    await backend.publish("room:p4", "a", 1);
    await until(() => got.length === 1, "the event");
    assert.deepEqual(got, [["room:p4", 1]]);
    assert.equal(await backend.unsubscribeUser({ user: "bob" }, ["room:p4"]), 1);
    await backend.publish("room:p4", "a", 2);
    await backend.publish("room:p3", "a", 3);
    await until(() => got.length === 2, "the event of its own channel");
    assert.deepEqual(got[1], ["room:p3", 3]);
    await assert.rejects(reader.subscribeUser({ user: "ann" }, "room:p4"), { code: "permission_denied" });
    reader.close();
  });

  it("names the nodes of counters and connections", async () => {
    const { node, nodes, unreachable } = await backend.stats();
    assert.deepEqual([nodes.map((one) => one.node), unreachable], [[node], []]);
    assert.equal((await backend.stats({ node })).nodes.length, 1);
    await assert.rejects(backend.stats({ node: "nobody" }), { code: "not_found" });
    const events = backend.subscribe("room:p5");
    await events.ready;
    const missing = [];
    for await (const connection of backend.connections({ channel: "room:p5", node, onUnreachable: (names) => missing.push(...names) })) {
      assert.equal(connection.node, node);
    }
    assert.deepEqual(missing, []);
    events.unsubscribe();
  });
});
