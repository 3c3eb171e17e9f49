// The console in a browser against the real server: each page, each action, as admin and as viewer.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browse, client, publish, serve, token, XSS } from "./support.mjs";

const CONFIG = `
[[namespace]]
name = "demo"
history = { size = 1000, ttl = "1h" }
presence = true
subscribe = 'true'
publish = 'true'
[[event_type]]
name = "greeting"
namespace = "demo"
description = "Somebody says hello."
schema = { type = "object", required = ["text"], properties = { text = { type = "string" }, loud = { type = "boolean" }, n = { type = "integer" } } }
example = { text = "hello" }
`;

let server;
let browser;
let admin;
let sockets;

before(async () => {
  server = await serve(["--dev"], CONFIG);
  browser = await browse();
  admin = await token("root", ["admin"]);
  const user = await token(XSS, ["member"]);
  sockets = [];
  for (let n = 0; n < 30; n += 1) {
    const name = n === 0 ? user : await token(`user${n}`, ["member"]);
    sockets.push(await client(server, name, ["demo:1", `demo:${n}`]));
  }
  for (let n = 0; n < 20; n += 1) {
    await publish(server, admin, { channels: ["demo:1"], type: "greeting", data: { n, text: XSS } });
  }
});

after(async () => {
  for (const socket of sockets ?? []) socket.terminate();
  await browser?.close();
  await server?.stop();
});

const PAGES = ["Overview", "Connections", "Channels", "Live", "Why not?", "Refusals", "Catalog", "Configuration"];

test("every page opens, without a login in development, and asks nothing of other hosts", async () => {
  const page = await browser.open(server);
  const began = Date.now();
  await page.goto(server.console);
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  assert.ok(Date.now() - began < 5000);
  for (const name of PAGES) {
    await page.getByRole("link", { name, exact: true }).first().click();
    await page.getByRole("heading", { name, level: 1 }).waitFor();
  }
  await page.getByText("auth.hs256_secret").waitFor();
  assert.ok(!(await page.content()).includes("a-secret-for-this-one-run"));
  browser.clean();
  await page.context().close();
});

test("a connection is found, sorted, described and disconnected, after one question", async () => {
  const page = await browser.open(server);
  await page.goto(`${server.console}#/connections`);
  await page.getByRole("button", { name: /^Bytes/ }).click();
  await page.waitForURL(/order_by=bytes/);
  await page.getByLabel("User").fill("user7");
  const row = page.getByRole("row").filter({ hasText: "user7" });
  await row.first().click();
  await page.getByRole("heading", { name: "Connection of user7" }).waitFor();
  // A deep link leads to the same.
  await page.reload();
  await page.getByRole("heading", { name: "Connection of user7" }).waitFor();
  const closed = new Promise((resolve) => sockets[7].once("close", (code, reason) => resolve([code, String(reason)])));
  await page.getByRole("button", { name: "Disconnect", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/Reason/).fill("maintenance");
  await dialog.getByRole("button", { name: "Disconnect" }).click();
  await page.getByText(/Closed the connection of user7 with 4410/).waitFor();
  assert.deepEqual(await closed, [4410, "maintenance"]);
  browser.clean();
  await page.context().close();
});

test("cancelling the question does nothing, and revoking says how long it lasts", async () => {
  const page = await browser.open(server);
  await page.goto(`${server.console}#/connections?user=user8`);
  await page.getByRole("row").filter({ hasText: "user8" }).first().click();
  await page.getByRole("button", { name: "Revoke its token" }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(sockets[8].readyState, 1);
  await page.getByRole("button", { name: "Revoke its token" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByText(/Revoked the token of user8.*restart/).waitFor();
  await assert.doesNotReject(new Promise((resolve) => (sockets[8].readyState === 3 ? resolve() : sockets[8].once("close", resolve))));
  browser.clean();
  await page.context().close();
});

test("what clients say is shown as text on every page", async () => {
  const page = await browser.open(server);
  await page.goto(`${server.console}#/connections?user=${encodeURIComponent(XSS)}`);
  await page.getByRole("row").filter({ hasText: XSS }).first().click();
  await page.getByRole("heading", { name: `Connection of ${XSS}` }).waitFor();
  await page.getByText(XSS, { exact: true }).first().waitFor();
  await page.goto(`${server.console}#/channels?name=demo:1`);
  await page.getByRole("tab", { name: "history" }).waitFor();
  await page.goto(`${server.console}#/why?user=${encodeURIComponent(XSS)}&channel=demo:1`);
  await page.getByText("Decided by").waitFor();
  await page.goto(`${server.console}#/live?channel=*`);
  await page.getByText("live,").waitFor();
  await publish(server, admin, { channels: ["demo:1"], type: "greeting", data: { text: XSS } });
  sockets[1].send(JSON.stringify({ type: "subscribe", channels: [XSS.slice(0, 40)] }));
  await page.goto(`${server.console}#/refusals`);
  await page.getByRole("heading", { name: "Refusals" }).waitFor();
  browser.clean();
  assert.equal(await page.locator("img, script:not([src])").count(), 0);
  await page.context().close();
});

test("a channel shows its history, who is there and its settings, and an event is published by a form", async () => {
  const page = await browser.open(server);
  await page.goto(`${server.console}#/channels?order_by=history&desc=true`);
  await page.getByRole("row").filter({ hasText: "demo:1" }).first().click();
  await page.getByRole("heading", { name: "Channel demo:1" }).waitFor();
  const history = page.getByRole("table", { name: "History, newest first" });
  await history.getByRole("row").filter({ hasText: "greeting" }).first().click();
  await page.locator(".event").getByText("offset").waitFor();
  await page.getByRole("tab", { name: "presence" }).click();
  await page.getByRole("table", { name: "Users present" }).getByText("user5", { exact: true }).waitFor();
  await page.getByRole("tab", { name: "settings" }).click();
  await page.getByText("May subscribe").waitFor();
  await page.getByRole("tab", { name: "publish" }).click();
  await page.getByLabel("From the catalog").selectOption("greeting");
  await page.getByLabel("text *").fill("from the form");
  const got = new Promise((resolve) => sockets[2].on("message", (data) => String(data).includes("from the form") && resolve()));
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Publish" }).click();
  await page.getByText(/Published greeting as/).waitFor();
  await got;
  browser.clean();
  await page.context().close();
});

test("a flood of events is sampled, and the page says so", async () => {
  const page = await browser.open(server);
  await page.goto(`${server.console}#/live?channel=demo:*`);
  await page.getByText("live,").waitFor();
  const batch = (from) => Promise.all(Array.from({ length: 100 }, (_, n) => publish(server, admin, { channels: ["demo:1"], type: "greeting", data: { n: from + n, text: "x" } })));
  await batch(0);
  await batch(100);
  await page.getByText(/events were left out/).waitFor();
  browser.clean();
  await page.context().close();
});

test("the rules are asked why they refuse", async () => {
  const page = await browser.open(server);
  await page.goto(`${server.console}#/why`);
  await page.getByLabel("User").fill("ann");
  await page.getByLabel("Action").selectOption("subscribe");
  await page.getByLabel("Channel", { exact: true }).fill("user:bob");
  await page.getByRole("button", { name: "Ask the rules" }).click();
  await page.getByText("Decided by").waitFor();
  browser.clean();
  await page.context().close();
});

test("a viewer logs in, sees the same, and is offered no action", async () => {
  const plain = await serve([]);
  const page = await browser.open(plain);
  await page.goto(`${plain.console}#/connections`);
  await page.getByLabel("Token").fill("no token at all");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Token").fill(await token("vera", ["viewer"]));
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("viewer: changes nothing").waitFor();
  const socket = await client(plain, await token("ann", []), ["global"]);
  await page.getByRole("row").filter({ hasText: "ann" }).first().click({ timeout: 30_000 });
  await page.getByRole("heading", { name: "Connection of ann" }).waitFor();
  assert.equal(await page.getByRole("button", { name: /Disconnect|Revoke/ }).count(), 0);
  socket.terminate();
  await page.context().close();
  await plain.stop();
  browser.clean();
});

test("it is usable by keyboard, on a phone, in light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.open(server, { viewport: { width: 390, height: 844 }, colorScheme });
    await page.goto(server.console);
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    for (const name of PAGES) {
      await page.getByRole("link", { name, exact: true }).first().click();
      await page.getByRole("heading", { name, level: 1 }).waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 390, `${name} is ${wide} wide`);
      if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}-390-${colorScheme}.png` });
    }
    await page.context().close();
  }
  const page = await browser.open(server);
  await page.goto(server.console);
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("c");
  await page.getByRole("heading", { name: "Connections", level: 1 }).waitFor();
  const rows = page.getByRole("table", { name: "Connections" }).getByRole("rowgroup");
  await rows.first().focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: /^Connection of/ }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: /^Connection of/ }).waitFor({ state: "detached" });
  browser.clean();
  await page.context().close();
});
