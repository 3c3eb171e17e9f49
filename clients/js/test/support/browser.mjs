// Real browsers, and a site whose pages they load.
import { build } from "esbuild";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import { token } from "./server.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TYPES = { ".js": "text/javascript", ".html": "text/html" };
const PAGE = `<!doctype html><meta charset="utf-8"><title>test</title><div id="root"></div>`;

const PLACES = {
  chrome: [process.env.CHROMIUM_BIN, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  firefox: [process.env.FIREFOX_BIN, "/usr/bin/firefox-esr", "/usr/bin/firefox"],
};

/** The path of a browser, if it is installed. */
export function find(name) {
  return PLACES[name].find((path) => path && existsSync(path));
}

export function launch(name) {
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const args = name === "chrome" ? [...sandbox, "--disable-dev-shm-usage", "--disable-gpu"] : [];
  return puppeteer.launch({ browser: name, executablePath: find(name), headless: true, args });
}

/** The site: the built client under /dist, the test's pages, tokens, and a request that waits. */
export async function startSite() {
  const { outputFiles } = await build({
    entryPoints: [`${ROOT}/test/pages/react.jsx`],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"development"' },
    alias: { "@tidings/client": `${ROOT}/dist/index.js`, "@tidings/client/react": `${ROOT}/dist/react.js` },
  });
  const site = { blocked: [], tokens: 0, lifetime: () => 3600 };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://site");
    const send = (type, text) => response.setHeader("content-type", type).end(text);
    if (pathname === "/block") return void site.blocked.push(response);
    if (pathname === "/token") return send("text/plain", token({ ttl: site.lifetime(++site.tokens) }));
    if (pathname === "/") return send("text/html", `${PAGE}<script type="module" src="/test/pages/harness.js"></script>`);
    if (pathname === "/react") return send("text/html", `${PAGE}<script type="module" src="/react.js"></script>`);
    if (pathname === "/react.js") return send("text/javascript", outputFiles[0].text);
    const file = `${ROOT}${pathname}`;
    if (!/^\/(dist|test\/pages)\/[\w-]+\.js$/.test(pathname) || !existsSync(file)) return response.writeHead(404).end();
    send(TYPES[extname(file)], readFileSync(file));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  site.origin = `http://127.0.0.1:${server.address().port}`;
  /** Releases blocked pages. */
  site.release = () => site.blocked.splice(0).forEach((response) => response.end());
  site.close = () => (server.closeAllConnections(), server.close());
  return site;
}
