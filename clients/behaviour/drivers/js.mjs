// Driver of the client for JavaScript, over WebSocket.
import { connect } from "../../js/dist/index.js";
import { createRequire } from "node:module";

const WebSocket = createRequire(new URL("../../js/package.json", import.meta.url))("ws");
const given = JSON.parse(process.argv[2]);
const say = (...words) => console.log(...words);
const token = given.tokens ? () => given.tokens.shift() : given.token;
const client = connect(given.server, { WebSocket, transports: ["websocket"], token, minDelayMs: 20, maxDelayMs: 100 });
client.on("error", () => {});

for (let n = 0; n < (given.publish ?? 0); n++) {
  try {
    const { offset } = await client.publish("project:1", "n", n);
    say("published", n, offset);
  } catch (error) {
    say("failed", error.code);
  }
}

for (const { method, data, timeout_ms: timeoutMs, idempotent } of given.call ?? []) {
  try {
    say("result", JSON.stringify(await client.rpc(method, data, { timeoutMs, idempotent })));
  } catch (error) {
    say("failed", error.code);
  }
}

const { channels = [], since = {}, rewind, durable, auto_ack: autoAck, min_interval_ms: minIntervalMs, acks = [] } = given.subscribe ?? {};
for (const channel of channels) {
  const [epoch, offset] = since[channel]?.split("/") ?? [];
  const options = {
    ...(epoch && { since: { epoch, offset: Number(offset) } }),
    ...(rewind && { rewind }),
    ...{ durable, autoAck, minIntervalMs },
    onStale: () => say("stale", channel),
    onError: (error) => say("failed", error.code),
  };
  const subscription = client.subscribe(channel, options, (event) => {
    say("event", event.channel, event.offset ?? "-");
    for (const [at, offset] of acks) if (at === event.offset) subscription.ack(offset);
  });
}
