// Type tests of events. `npm run types` compiles this file; it is never executed.
import WebSocket from "ws";
import { connect, type EventOf } from "../dist/index.js";
import { connectShared } from "../dist/shared.js";
import { createHooks, useEvents } from "../dist/react.js";
import { eventsStore } from "../dist/svelte.js";
import { connect as connectBackend } from "../dist/node.js";

interface Events {
  "project.updated": { status: "open" | "done" };
  "project.removed": { by: string };
  ping: number;
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(..._: Same<A, B> extends true ? [] : [never]): void {}

const client = connect<Events>("ws://localhost/ws", { WebSocket });

client.subscribe("project:42", { eventTypes: ["project.updated"] }, (event) => {
  same<typeof event.type, "project.updated">();
  same<typeof event.data, { status: "open" | "done" }>();
  // @ts-expect-error: there is no such member
  event.data.state;
});

client.subscribe("project:42", { eventTypes: ["project.*"] }, (event) => {
  same<typeof event.type, "project.updated" | "project.removed">();
  if (event.type === "project.removed") same<typeof event.data, { by: string }>();
});

client.subscribe("project:42", (event) => {
  same<typeof event, EventOf<Events>>();
  same<typeof event.type, keyof Events>();
});

// @ts-expect-error: no such type
client.subscribe("project:42", { eventTypes: ["project.moved"] }, () => {});

async function read(): Promise<void> {
  for await (const event of client.subscribe("project:42", { eventTypes: ["ping"], bufferLimit: 10 })) {
    same<typeof event.data, number>();
  }
  const { events } = await client.history("project:42");
  same<(typeof events)[number], EventOf<Events>>();
}

void read();
void client.publish("project:42", "project.updated", { status: "done" });
// @ts-expect-error: wrong data
void client.publish("project:42", "project.updated", { status: "gone" });
// @ts-expect-error: wrong type
void client.publish("project:42", "project.moved", {});

// Without a type map every event is allowed.
const loose = connect("ws://localhost/ws");
loose.subscribe("a", { eventTypes: ["x", "y.*"] }, (event) => void event.data.anything);
void loose.publish("a", "x", { y: 1 });

connectShared<Events>("/ws").subscribe("a", { eventTypes: ["ping"] }, ({ data }) => same<typeof data, number>());

export function Component(): number {
  const events = useEvents<Events>("a");
  same<(typeof events)[number]["type"], keyof Events>();
  return events.length;
}

const hooks = createHooks<Events>();

export function Narrowed(): void {
  const events = hooks.useEvents("a", { eventTypes: ["project.updated"] });
  same<(typeof events)[number]["data"], { status: "open" | "done" }>();
  hooks.useChannel("a", { eventTypes: ["ping"] }, (event) => same<typeof event.data, number>());
  // @ts-expect-error: no such type
  hooks.useEvents("a", { eventTypes: ["project.moved"] });
}

eventsStore(client, "a", { eventTypes: ["ping"] }).subscribe(({ events }) => same<(typeof events)[number]["data"], number>());

const inbox = client.subscribe("a", { durable: "inbox", autoAck: true, minIntervalMs: 200, onSubscribed: ({ cursor }) => same<typeof cursor, number | undefined>() }, () => {});
inbox.ack(3);
void client.rpc<{ items: number }>("cart.get", { id: 1 }, { idempotent: true, timeoutMs: 100 }).then((cart) => same<typeof cart, { items: number }>());

const backend = connectBackend<Events>("http://localhost:50051");
void backend.publish("a", "ping", 1);
void backend.publish({ channel: ["a", "b"], type: "ping", data: 1, audience: { users: ["ann"] } });
// @ts-expect-error: wrong data
void backend.publish("a", "ping", "1");
void backend.publish("a", "ping", 1, { ttlMs: 1000, skipHistory: true, expectedOffset: 3 });
void backend.purgeHistory("a", { untilOffset: 3 }).then(({ purged }) => same<typeof purged, number>());
void backend.subscribeUser({ user: "ann" }, "a");
// @ts-expect-error: a user or a connection
void backend.subscribeUser({}, "a");
void backend.stats({ node: "1" }).then(({ nodes, unreachable }) => [nodes[0]?.node, unreachable[0]]);
void backend.subscribe("a", { durable: "worker", autoAck: true }).ack("a", 1);
