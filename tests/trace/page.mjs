// A page in a real browser that follows a channel with the client of clients/js.
//
//   node page.mjs WEBSOCKET-URL TOKEN CHANNEL
//
// Prints a line of JSON when the page follows, and one for each event that its handler got; ends
// with its standard input.
import { createServer } from "node:http";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const [url, token, channel] = process.argv.slice(2);
const CLIENT = new URL("../../clients/js/", import.meta.url);
const puppeteer = (await import(createRequire(CLIENT).resolve("puppeteer-core"))).default;

const PAGE = `<!doctype html><meta charset="utf-8"><title>trace</title>`;

/** The site: a page, and the built client under /dist. */
const site = createServer((request, response) => {
  const name = /^\/dist\/([\w-]+\.js)$/.exec(request.url)?.[1];
  if (request.url === "/") return response.setHeader("content-type", "text/html").end(PAGE);
  if (!name) return response.writeHead(404).end();
  response.setHeader("content-type", "text/javascript").end(readFileSync(fileURLToPath(new URL(`dist/${name}`, CLIENT))));
});
site.listen(0, "127.0.0.1");
await once(site, "listening");

const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const quiet = ["--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"];
const executablePath = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
const browser = await puppeteer.launch({ executablePath, headless: true, args: [...sandbox, ...quiet] });
try {
  const page = await browser.newPage();
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  await page.exposeFunction("say", say);
  page.on("pageerror", (error) => say({ error: String(error) }));
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate(
    async ({ url, token, channel }) => {
      const { connect } = await import("/dist/index.js");
      const client = connect(url, { token: () => token });
      client.on("error", (error) => globalThis.say({ error: error.message }));
      // A handler that takes its time: the trace ends when it does.
      const handle = async (event) => {
        await new Promise((done) => setTimeout(done, 50));
        globalThis.say({ event });
      };
      await client.subscribe(channel, handle).ready;
    },
    { url, token, channel },
  );
  say({ following: channel });
  process.stdin.resume();
  await once(process.stdin, "end");
} finally {
  await browser.close();
  site.close();
}
