// Publishes through the client that openapi-generator made in ./client.
import { ChannelsApi, Configuration, EventsApi } from "./client/index";

const configuration = new Configuration({
  basePath: process.env.TIDINGS_URL!,
  accessToken: process.env.TIDINGS_TOKEN!,
});

async function main(): Promise<void> {
  const events = new EventsApi(configuration);
  const published = await events.publish({
    publishRequest: {
      type: "openapi.tried",
      channels: new Set(["project:ts"]),
      data: { from: "ts" },
      audience: { users: ["ann"] },
    },
  });
  const second = await events.publishCloudEvent({
    cloudEvent: {
      specversion: "1.0",
      id: "ts-1",
      source: "/ts",
      type: "openapi.tried",
      channel: "project:ts",
      data: { from: "ts" },
    },
  });
  const history = await new ChannelsApi(configuration).getHistory({ channel: "project:ts" });
  const ids = history.events.map((event) => event.id);
  // The first was for one user, and the role service sees every event of a history.
  if (!ids.includes(second.id) || published.results[0]?.channel !== "project:ts") {
    throw new Error(`published ${published.id} and ${second.id}, and the history is ${ids}`);
  }
  console.log("typescript:", second.id);
}

void main();
