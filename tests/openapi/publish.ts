// Publishes through the client that openapi-generator generated in ./client.
import { ChannelsApi, Configuration, ConnectionsApi, EventsApi } from "./client/index";

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
  // The first event has an audience of one user. With the role service, a history has all events.
  if (!ids.includes(second.id) || published.results[0]?.channel !== "project:ts") {
    throw new Error(`published ${published.id} and ${second.id}, and the history is ${ids}`);
  }
  const stats = await new ConnectionsApi(configuration).getStats();
  if (stats.events.published < 2) {
    throw new Error(`the statistics count ${stats.events.published} events`);
  }
  console.log("typescript:", second.id);
}

void main();
