// Driver of the client for JavaScript, over gRPC.
import { Backend } from "../../js/dist/node.js";

const given = JSON.parse(process.argv[2]);
const say = (...words) => console.log(...words);
const token = given.tokens ? () => given.tokens.shift() : given.token;
const backend = new Backend(given.server, { token });

for (let n = 0; n < (given.publish ?? 0); n++) {
  try {
    const receipt = await backend.publish("project:1", "n", n);
    say("published", n, receipt.results[0].position.offset);
  } catch (error) {
    say("failed", error.code);
  }
}

if (given.subscribe) {
  const { channels, since = {}, rewind, durable, auto_ack: autoAck, min_interval_ms: minIntervalMs, acks = [] } = given.subscribe;
  const wanted = channels.map((channel) => {
    const [epoch, offset] = since[channel]?.split("/") ?? [];
    return { channel, ...(epoch && { since: { epoch, offset: Number(offset) } }) };
  });
  const options = { durable, autoAck, minIntervalMs, ...(rewind && { rewind }), onStale: ({ channel }) => say("stale", channel) };
  try {
    const events = backend.subscribe(wanted, options);
    for await (const event of events) {
      say("event", event.channel, event.offset ?? "-");
      // Not awaited: an answer that is lost would hold the loop.
      for (const [at, offset] of acks) if (at === event.offset) void events.ack(event.channel, offset);
    }
  } catch (error) {
    say("failed", error.code);
  }
}
