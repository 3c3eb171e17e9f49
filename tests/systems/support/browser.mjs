// A real browser, in which the addresses that the samples name lead to the server under test.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import { until } from "../../socketio/support/until.mjs";

const home = join(dirname(fileURLToPath(import.meta.url)), "..");
const bundle = join(dirname(createRequire(import.meta.url).resolve("socket.io-client/package.json")), "dist/socket.io.min.js");
const places = [process.env.CHROMIUM_BIN, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where Chromium is, if it is. */
export const chromium = places.find((path) => path && existsSync(path));

/** The samples' only blank: whoever uses one puts a token there. */
const TOKEN = /your-jwt-token(-here)?/;

const page = (query) => `<!doctype html><meta charset="utf-8"><title>sample</title>
<script src="/socket.io.js"></script>
<script src="/around.js"></script>
<script src="/samples.js?${query}"></script>`;

/** A site with one page for each sample: `/?sample=NAME&sample=NAME&connection=ws&token=JWT`. */
export async function startSite() {
  const server = createServer((request, response) => {
    const { pathname, searchParams: query } = new URL(request.url, "http://site");
    const send = (type, text) => response.setHeader("content-type", `${type}; charset=utf-8`).end(text);
    if (pathname === "/") return send("text/html", page(query));
    if (pathname === "/socket.io.js") return send("text/javascript", readFileSync(bundle));
    if (pathname === "/around.js") return send("text/javascript", readFileSync(join(home, "support/around.js")));
    if (pathname !== "/samples.js") return response.writeHead(404).end();
    // In one script, so that nothing arrives before all of it has run.
    const samples = query.getAll("sample").filter((name) => /^[a-z-]+$/.test(name));
    const texts = samples.map((name) => readFileSync(join(home, `samples/${name}.js`), "utf8").replace(TOKEN, query.get("token")));
    send("text/javascript", [...texts, `listen(${query.get("connection")});`].join("\n"));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  return {
    origin: `http://127.0.0.1:${port}`,
    /** The same pages under another origin. */
    elsewhere: `http://localhost:${port}`,
    close: () => (server.closeAllConnections(), server.close()),
  };
}

/** A browser for which `address`, such as localhost:8000, is where the server listens. */
export function launch(address, server) {
  const args = ["--disable-dev-shm-usage", "--disable-gpu", `--host-resolver-rules=MAP ${address} ${new URL(server.url).host}`];
  if (process.getuid?.() === 0) args.push("--no-sandbox");
  return puppeteer.launch({ browser: "chrome", executablePath: chromium, headless: true, args });
}

/** A page with samples, and what came of them. */
export class Page {
  constructor(tab, thrown) {
    Object.assign(this, { tab, thrown });
  }

  static async open(browser, origin, samples, connection, token = "") {
    const tab = await browser.newPage();
    const thrown = [];
    tab.on("pageerror", ({ message }) => thrown.push(message));
    const query = new URLSearchParams([...samples.map((name) => ["sample", name]), ["connection", connection], ["token", token]]);
    await tab.goto(`${origin}/?${query}`);
    return new Page(tab, thrown);
  }

  /** What the sample has called, or those calls of one function. */
  async calls(name) {
    const calls = await this.tab.evaluate("calls");
    assert.deepEqual(this.thrown, [], "the sample runs without an error");
    return name ? calls.filter(([called]) => called === name).map(([, ...args]) => args) : calls;
  }

  /** Waits for a call, and answers what it was called with. */
  called(name, matches = () => true) {
    return until(`${name} is called`, async () => (await this.calls(name)).find((args) => matches(...args)));
  }

  /** Everything that came over the connection. */
  async heard() {
    return (await this.tab.evaluate("heard")).map(({ message }) => message);
  }

  /** Waits for a message of this type, and for Socket.IO of this name. */
  async hears(type) {
    const found = () => this.tab.evaluate((type) => heard.find(({ name }) => name === type), type);
    return (await until(`${type} is heard`, found)).message;
  }

  /** The types, or names, of everything that came so far. */
  types() {
    return this.tab.evaluate(() => heard.map(({ name }) => name));
  }

  evaluate(...args) {
    return this.tab.evaluate(...args);
  }
}
