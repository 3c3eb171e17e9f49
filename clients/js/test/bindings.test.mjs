// Hooks and stores: the rendered state after each message of a fake server that the test controls.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { JSDOM } from "jsdom";
import { connect } from "../dist/index.js";
import { fakeSockets, settle } from "./support/fake.mjs";

const { window } = new JSDOM(`<div id="root"></div>`);
Object.assign(globalThis, { document: window.document, navigator: window.navigator, IS_REACT_ACT_ENVIRONMENT: true });
globalThis.window = window;
const { act, createElement, StrictMode } = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { TidingsProvider, useChannel, useConnection, useEvents, useHistory, usePresence } = await import("../dist/react.js");
const vue = await import("vue");
const forVue = await import("../dist/vue.js");
const { connectionStore, eventsStore, presenceStore } = await import("../dist/svelte.js");

let sockets, client;

beforeEach(async () => {
  const fake = fakeSockets();
  sockets = fake.sockets;
  client = connect("ws://test/ws", { WebSocket: fake.Fake, transports: ["websocket"], minDelayMs: 0 });
  await settle();
  sockets[0].welcome();
  await settle();
});

afterEach(() => client.close());

const values = (events) => events.map(({ data }) => data).join();
const answer = (socket, type, more) => socket.say({ type, id: socket.of(type).at(-1).id, ...more });

describe("React", () => {
  let root;
  const shown = {};
  const show = (name, value) => createElement("p", null, (shown[name] = value));

  beforeEach(() => (root = createRoot(document.getElementById("root"))));
  afterEach(() => act(() => root.unmount()));

  const render = (...children) =>
    act(async () => {
      root.render(createElement(TidingsProvider, { client }, ...children));
      await settle();
    });
  const say = (run) =>
    act(async () => {
      run();
      await settle();
    });

  function List({ name = "list", channel = "a", ...options }) {
    return show(name, values(useEvents(channel, options)));
  }

  it("clears the events at once when the filter changes, then shows only matching ones", async () => {
    await render(createElement(List, { filter: "one" }));
    await say(() => sockets[0].subscribed({ a: 0 }));
    await say(() => [1, 2].forEach((offset) => sockets[0].event("a", offset)));
    assert.equal(shown.list, "1,2");
    await render(createElement(List, { filter: "two" }));
    assert.equal(shown.list, "");
    const socket = sockets.find((one) => one.of("subscribe").some(({ filter }) => filter === "two")) ?? sockets[1];
    if (!socket.of("subscribe").length) await say(() => socket.welcome());
    await say(() => socket.subscribed({ a: 2 }));
    await say(() => socket.event("a", 2, { id: "event-2" }));
    assert.equal(shown.list, "2");
  });

  it("shows what is not acknowledged of a durable subscription, and acknowledges what is shown", async () => {
    await render(createElement(List, { durable: "inbox", autoAck: true }));
    const [{ durable, rewind, since }] = sockets[0].of("subscribe");
    assert.deepEqual([durable, rewind, since], ["inbox", undefined, {}]);
    await say(() => sockets[0].subscribed({ a: 5 }, { recovered: true, replayed: 2, cursor: 3 }));
    await say(() => [4, 5].forEach((offset) => sockets[0].event("a", offset)));
    assert.equal(shown.list, "4,5");
    assert.equal(sockets[0].of("ack")[0].offset, 4);
    // Another name is another subscription; the last acknowledgement of this one is not lost.
    await render(createElement(List, { durable: "outbox" }));
    assert.equal(shown.list, "");
    assert.deepEqual(sockets[0].of("ack").map(({ offset }) => offset), [4, 5]);
  });

  it("shows each event once during replays", async () => {
    await render(createElement(List));
    await say(() => sockets[0].subscribed({ a: undefined }, { epoch: undefined }));
    await say(() => [1, 1, 2].forEach((n) => sockets[0].event("a", undefined, { id: `e${n}`, data: n })));
    assert.equal(shown.list, "1,2");
  });

  it("shows two filters of one channel in two components", async () => {
    const both = [createElement(List, { key: 1, name: "one", filter: "one" }), createElement(List, { key: 2, name: "two", filter: "two" })];
    await render(...both);
    await say(() => sockets[1].welcome());
    for (const [n, socket] of sockets.entries()) {
      await say(() => socket.subscribed({ a: 0 }));
      await say(() => socket.event("a", n + 1));
    }
    assert.deepEqual([shown.one, shown.two], ["1", "2"]);
  });

  it("keeps the component tree when the client is closed, and shows the reason", async () => {
    client.close();
    function Status() {
      return show("status", useChannel("a", {}, () => {}).error?.code);
    }
    await render(createElement(Status));
    assert.equal(shown.status, "cancelled");
    assert.equal(document.querySelectorAll("p").length, 1);
  });

  it("shows the present users, and their joins and leaves", async () => {
    function Who() {
      const { users, total } = usePresence("a");
      return show("who", `${users.map(({ user }) => user).join()} ${total}`);
    }
    await render(createElement(Who));
    await say(() => sockets[0].subscribed({ a: 0 }));
    await say(() => answer(sockets[0], "presence", { channel: "a", users: [{ user: "ann", connections: 1 }], total: 1 }));
    assert.equal(shown.who, "ann 1");
    await say(() => sockets[0].say({ type: "presence_joined", channel: "a", user: "bob" }));
    assert.equal(shown.who, "ann,bob 2");
    await say(() => sockets[0].say({ type: "presence_left", channel: "a", user: "ann" }));
    assert.equal(shown.who, "bob 1");
  });

  it("reads history page by page", async () => {
    let more;
    function Past() {
      const history = useHistory("a", { limit: 2, reverse: true });
      ({ more } = history);
      return show("past", `${history.status} ${values(history.events)} ${history.hasMore}`);
    }
    const page = (...offsets) => ({ channel: "a", epoch: "e1", offset: 3, events: offsets.map((offset) => ({ id: `${offset}`, offset, data: offset })) });
    await render(createElement(Past));
    await say(() => answer(sockets[0], "history", page(3, 2)));
    assert.equal(shown.past, "loaded 3,2 true");
    await say(() => more());
    assert.deepEqual(sockets[0].of("history").at(-1).since, { epoch: "e1", offset: 2 });
    await say(() => answer(sockets[0], "history", page(1)));
    assert.equal(shown.past, "loaded 3,2,1 false");
  });

  it("shows why the connection was lost, and renders on a server", async () => {
    function State() {
      const { state, code } = useConnection();
      return show("state", `${state} ${code ?? ""}`);
    }
    await render(createElement(StrictMode, null, createElement(State)));
    await say(() => sockets[0].end(4410, "enough"));
    assert.equal(shown.state, "closed 4410");
    const html = renderToString(createElement(TidingsProvider, { client: connect("/ws") }, createElement(State), createElement(List)));
    assert.match(html, /connecting/);
  });
});

describe("stores for Svelte", () => {
  it("subscribe while they have readers, and keep the newest events", async () => {
    const seen = [];
    const store = eventsStore(client, "a", { limit: 2 });
    const stop = store.subscribe(({ events, status }) => seen.push(`${status} ${values(events)}`));
    await settle();
    assert.equal(sockets[0].of("subscribe")[0].rewind, 2);
    sockets[0].subscribed({ a: 0 });
    for (const offset of [1, 2, 3]) sockets[0].event("a", offset);
    assert.deepEqual(seen, ["subscribing ", "live ", "live 1", "live 1,2", "live 2,3"]);
    stop();
    await settle();
    assert.deepEqual(sockets[0].of("unsubscribe").map(({ channels }) => channels), [["a"]]);
  });

  it("work with Svelte's own `get` and `derived`", async () => {
    const { derived, get } = await import("svelte/store");
    assert.equal(get(derived(connectionStore(client), ({ state }) => state)), "open");
    let who;
    const stop = presenceStore(client, "a").subscribe((presence) => (who = presence));
    await settle();
    sockets[0].subscribed({ a: 0 });
    await settle();
    answer(sockets[0], "presence", { channel: "a", users: [{ user: "ann", connections: 1 }], total: 1 });
    await settle();
    assert.equal(who.total, 1);
    stop();
  });
});

describe("Vue", () => {
  it("subscribes to the channel of a ref, and unsubscribes with the component", async () => {
    const channel = vue.ref("a");
    let list, connection;
    const Page = vue.defineComponent({
      setup() {
        list = forVue.useEvents(channel, { limit: 5 });
        connection = forVue.useConnection();
        return () => vue.h("p", values(list.value.events));
      },
    });
    Object.assign(globalThis, { Element: window.Element, SVGElement: window.SVGElement, Node: window.Node, HTMLElement: window.HTMLElement });
    const app = vue.createApp(Page).use(forVue.tidings(client));
    const place = document.body.appendChild(document.createElement("div"));
    app.mount(place);
    await settle();
    sockets[0].subscribed({ a: 0 });
    sockets[0].event("a", 1);
    await vue.nextTick();
    assert.equal(place.textContent, "1");
    assert.equal(connection.value.state, "open");
    channel.value = "b";
    assert.deepEqual(list.value.events, []);
    await settle();
    sockets[0].subscribed({ b: 0 });
    sockets[0].event("a", 2);
    sockets[0].event("b", 1, { data: 7 });
    await vue.nextTick();
    assert.equal(place.textContent, "7");
    app.unmount();
    await settle();
    assert.deepEqual(sockets[0].of("unsubscribe").flatMap(({ channels }) => channels), ["a", "b"]);
  });
});
