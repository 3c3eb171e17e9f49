// The client in real browsers against the real server. A browser that is not installed is skipped with
// a message; TIDINGS_BROWSERS=chrome,firefox makes its absence a failure.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { find, launch, startSite } from "./support/browser.mjs";
import { startServer, token } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const wanted = (process.env.TIDINGS_BROWSERS ?? "").split(",").filter(Boolean);
const offsets = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

for (const name of ["chrome", "firefox"]) {
  const skip = find(name) || wanted.includes(name) ? false : `${name} is not installed`;
  describe(`in ${name}`, { skip }, () => {
    let browser, site, server;
    const pages = [];

    before(async () => {
      [browser, site, server] = await Promise.all([launch(name), startSite(), startServer({ args: ["--drain", "2s"] })]);
    });
    after(async () => {
      await Promise.allSettled([browser?.close(), site?.close(), server?.close()]);
    });
    afterEach(async () => {
      site.release();
      site.lifetime = () => 3600;
      for (const page of pages.splice(0)) await page.close();
      server.proxy.heal();
    });

    async function open(path = "/") {
      const page = await browser.newPage();
      pages.push(page);
      await page.goto(`${site.origin}${path}`);
      return page;
    }

    /** A page that subscribes to a channel. */
    async function follow(channel, settings = {}) {
      const page = await open();
      await page.waitForFunction(() => globalThis.start !== undefined);
      const how = await page.evaluate((settings) => globalThis.start(settings), { url: server.url, channel, ...settings });
      return Object.assign(page, { how });
    }

    const notes = (page) => page.evaluate(() => globalThis.notes);

    /** Waits until the page has recorded something; returns its records. */
    function noted(page, condition, what) {
      return until(async () => {
        const found = await notes(page);
        return condition(found) && found;
      }, what);
    }

    it("recovers events published while the network was cut", async () => {
      const page = await follow("room:cut");
      await server.publishMany("room:cut", 1, 3);
      await noted(page, ({ offsets }) => offsets.length === 3, "the first events");
      server.proxy.refuse();
      await server.publishMany("room:cut", 4, 20);
      server.proxy.heal();
      const { offsets: got, how, stale } = await noted(page, ({ offsets }) => offsets.length >= 20, "what was missed");
      assert.deepEqual(got, offsets(1, 20));
      assert.deepEqual(how.map(({ recovered }) => recovered), [undefined, true]);
      assert.deepEqual(stale, []);
    });

    it("reports recovered: false after kill -9 and continues", async () => {
      const page = await follow("room:kill");
      await server.publishMany("room:kill", 1, 3);
      await noted(page, ({ offsets }) => offsets.length === 3, "the first events");
      await server.stop("SIGKILL");
      await server.start();
      await noted(page, ({ stale }) => stale.length === 1, "recovered: false");
      await server.publishMany("room:kill", 1, 2);
      const { offsets: got, how } = await noted(page, ({ offsets }) => offsets.length >= 5, "new events");
      assert.deepEqual(got, [1, 2, 3, 1, 2]);
      assert.notEqual(how[0].epoch, how[1].epoch);
    });

    it("leaves a draining server, and reconnects after the announced delay", async () => {
      const page = await follow("room:drain");
      await server.stop("SIGTERM");
      await server.start();
      const { states } = await noted(page, ({ how }) => how.at(-1).recovered === false, "the new server");
      const told = states.find(({ code }) => code === 1012);
      const next = states.find(({ state, at }) => state === "connecting" && at > told.at);
      assert.ok(told.delayMs <= 2000);
      assert.ok(next.at - told.at >= told.delayMs - 5, `${next.at - told.at} ms instead of ${told.delayMs}`);
    });

    it("has every event after its main thread was blocked", async () => {
      const page = await follow("strict:blocked");
      const blocked = page.evaluate(() => globalThis.block());
      await until(() => site.blocked.length, "the page to be blocked");
      const gone = async () => !(await server.api("GET", "/connections?user=ann")).connections.length;
      let count = 0;
      // Firefox buffers messages that the page does not read; in Chromium the server detects a slow consumer.
      while (name === "firefox" ? count < 200 : !(await gone())) {
        const data = randomBytes(60_000).toString("base64");
        for (let n = 0; n < 50; n++, count++) await server.publish("strict:blocked", "big", data);
        assert.ok(count < 900, "the server never found the page too slow");
      }
      site.release();
      await blocked;
      const { offsets: got, states, stale } = await noted(page, ({ offsets }) => offsets.length >= count, "all events");
      assert.deepEqual(got, offsets(1, count));
      assert.equal(states.some(({ state }) => state === "waiting"), name !== "firefox");
      assert.deepEqual(stale, []);
    });

    it("reconnects at once when the network returns", async () => {
      const page = await follow("room:offline", { options: { minDelayMs: 600_000, maxDelayMs: 600_000 } });
      server.proxy.refuse();
      // Firefox can't be set offline from here, so only the event is dispatched.
      const offline = name === "chrome" ? (on) => page.setOfflineMode(on) : async (on) => on || page.evaluate(() => dispatchEvent(new Event("online")));
      await offline(true);
      await noted(page, ({ states }) => states.at(-1).state === "waiting", "the loss");
      await server.publishMany("room:offline", 1, 3);
      server.proxy.heal();
      await offline(false);
      const { offsets: got, states } = await noted(page, ({ offsets }) => offsets.length >= 3, "what was missed");
      assert.deepEqual(got, [1, 2, 3]);
      assert.ok(states.find(({ state }) => state === "waiting").delayMs > 1000);
    });

    it("renews its token while it is connected", async () => {
      const before = site.tokens;
      site.lifetime = (n) => (n - before === 1 ? 3 : 3600);
      const page = await follow("room:token");
      const first = await noted(page, ({ tokens }) => tokens.length === 2, "the renewal");
      assert.deepEqual([first.tokens, first.states.filter(({ state }) => state === "open").length], [[false, false], 1]);
      await server.publishMany("room:token", 1, 1);
      await noted(page, ({ offsets }) => offsets.length === 1, "an event");
    });

    it("reports an invalid token, although pages can't see a refused upgrade", async () => {
      const page = await open();
      await page.waitForFunction(() => globalThis.start !== undefined);
      const state = await page.evaluate(async (url) => {
        const { connect } = await import("/dist/index.js");
        const client = connect(url, { token: "rubbish" });
        return new Promise((resolve) => client.on("state", (state) => state.state === "closed" && resolve(state)));
      }, server.url);
      assert.equal(state.code, 4401);
    });

    it("reconnects with pauses in the background, and at once when the page becomes visible", async () => {
      const page = await follow("room:background", { options: { minDelayMs: 600_000, maxDelayMs: 600_000 } });
      const other = await open();
      await other.bringToFront();
      await page.waitForFunction(() => document.visibilityState === "hidden", { polling: 20 });
      server.proxy.refuse();
      await server.publishMany("room:background", 1, 5);
      await noted(page, ({ states }) => states.at(-1).state === "waiting", "the loss");
      server.proxy.heal();
      await page.bringToFront();
      const { offsets: got, states } = await noted(page, ({ offsets }) => offsets.length >= 5, "what was missed");
      assert.deepEqual(got, offsets(1, 5));
      assert.ok(states.find(({ state }) => state === "waiting").delayMs > 1000);
    });

    it("recovers events that it missed while it was frozen", { skip: name !== "chrome" && "only Chromium can freeze a page on command" }, async () => {
      const page = await follow("room:frozen");
      const session = await page.createCDPSession();
      await session.send("Page.setWebLifecycleState", { state: "frozen" });
      server.proxy.refuse();
      await server.publishMany("room:frozen", 1, 5);
      server.proxy.heal();
      await session.send("Page.setWebLifecycleState", { state: "active" });
      const { offsets: got, how } = await noted(page, ({ offsets }) => offsets.length >= 5, "what was missed");
      assert.deepEqual([got, how.at(-1).recovered], [offsets(1, 5), true]);
    });

    it("shares one connection among tabs, and survives the first tab", async () => {
      const [one, two] = [await follow("room:shared", { shared: true }), await follow("room:shared", { shared: true, subscribe: { rewind: 5 } })];
      const connections = async () => (await server.api("GET", "/connections?user=ann")).connections.length;
      assert.equal(await connections(), 1);
      await server.publishMany("room:shared", 1, 3);
      for (const page of [one, two]) await noted(page, ({ offsets }) => offsets.length === 3, "the events in both tabs");
      server.proxy.refuse();
      await server.publishMany("room:shared", 4, 6);
      server.proxy.heal();
      for (const page of [one, two]) {
        const { how, stale } = await noted(page, ({ offsets }) => offsets.length === 6, "what was missed");
        assert.deepEqual([how.at(-1).recovered, stale], [true, []]);
      }
      const third = await follow("room:shared", { shared: true, subscribe: { rewind: 4 } });
      await noted(third, ({ offsets }) => offsets.length === 4, "the rewound events");
      const published = await two.evaluate(() => globalThis.client.publish("room:shared", "count", { n: 7 }));
      assert.equal(published.offset, 7);
      await pages.splice(pages.indexOf(one), 1)[0].close();
      await server.publishMany("room:shared", 8, 8);
      for (const [page, from] of [[two, 1], [third, 3]]) {
        const { offsets: got } = await noted(page, ({ offsets }) => offsets.at(-1) === 8, "events without the first tab");
        assert.deepEqual(got, offsets(from, 8));
      }
      assert.equal(await connections(), 1);
      const refused = await two.evaluate(() => globalThis.client.presence("secret:1").catch(({ code }) => code));
      assert.equal(refused, "permission_denied");
      for (const page of [two, third]) await pages.splice(pages.indexOf(page), 1)[0].close();
      await until(async () => (await connections()) === 0, "the connection to end with the last tab");
    });

    it("reports the server's close to all sharing tabs", async () => {
      const page = await follow("room:ended", { shared: true });
      const [{ id }] = (await server.api("GET", "/connections?user=ann")).connections;
      await server.api("DELETE", `/connections/${id}`, { reason: "enough" });
      const { states } = await noted(page, ({ states }) => states.at(-1).state === "closed", "the end");
      assert.equal(states.at(-1).code, 4410);
    });

    it("shows a channel in React under StrictMode, during drops and changes", async () => {
      await server.publishMany("room:react1", 1, 5);
      await server.publishMany("room:react2", 50, 51);
      const query = new URLSearchParams({ url: server.url, token: token() });
      const page = await open(`/react?${query}`);
      const shown = (id) => page.evaluate((id) => document.getElementById(id)?.innerText.split("\n").join(","), id);
      const shows = (id, text) => until(async () => (await shown(id)) === text, `${id} to show ${text}`);
      await shows("events", "3,4,5");
      await shows("status", "live new stale 0");
      await server.publishMany("room:react1", 6, 6);
      await shows("events", "4,5,6");
      server.proxy.refuse();
      await server.publishMany("room:react1", 7, 7);
      server.proxy.heal();
      await shows("events", "5,6,7");
      await shows("status", "live true stale 0");
      await shows("state", "open");
      await page.click("#other");
      await shows("events", "50,51");
      await page.click("#publish");
      await shows("events", "50,51,100");
      const [{ id }] = (await server.api("GET", "/connections?user=ann")).connections;
      const { subscriptions } = await server.api("GET", `/connections/${id}`);
      assert.ok(!JSON.stringify(subscriptions).includes("react1"), JSON.stringify(subscriptions));
    });
  });
}
