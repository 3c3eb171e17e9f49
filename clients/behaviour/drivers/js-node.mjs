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
  const { channels, since = {}, rewind } = given.subscribe;
  const wanted = channels.map((channel) => {
    const [epoch, offset] = since[channel]?.split("/") ?? [];
    return { channel, ...(epoch && { since: { epoch, offset: Number(offset) } }) };
  });
  const options = { ...(rewind && { rewind }), onStale: ({ channel }) => say("stale", channel) };
  try {
    for await (const event of backend.subscribe(wanted, options)) say("event", event.channel, event.offset ?? "-");
  } catch (error) {
    say("failed", error.code);
  }
}
