// A server with its console, and a browser to look at it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const bin = process.env.TIDINGS_BIN ?? "../target/debug/tidings";
const places = [process.env.CHROMIUM_BIN, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const path = places.find((place) => place && existsSync(place));

/** A running server; `stop` ends it. */
export async function serve(args = [], config = "") {
  const home = mkdtempSync(join(tmpdir(), "tidings-console-"));
  const file = join(home, "tidings.toml");
  writeFileSync(file, config);
  const ready = join(home, "ready.json");
  const all = ["serve", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--ready-file", ready, "--config", file, ...args];
  const child = spawn(bin, all, {
    cwd: home,
    env: { ...process.env, TIDINGS_AUTH__HS256_SECRET: "a-secret-for-this-one-run-and-no-other" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (data) => {
    log += data;
  });
  child.stdout.resume();
  for (let n = 0; !(existsSync(ready) && statSync(ready).size > 0); n += 1) {
    if (n > 300 || child.exitCode !== null) throw new Error(log);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const bound = JSON.parse(readFileSync(ready, "utf8"));
  return {
    ...bound,
    console: `http://${bound.internal}/console/`,
    stop: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** A token of these roles. */
export async function token(user, roles) {
  const args = ["token", "--sub", user, ...roles.map((role) => `--role=${role}`)];
  const child = spawn(bin, args, {
    env: { ...process.env, TIDINGS_AUTH__HS256_SECRET: "a-secret-for-this-one-run-and-no-other" },
  });
  let out = "";
  for await (const part of child.stdout) out += part;
  return out.trim();
}

/** A browser whose pages fail the test on any error, dialog, or request to another host. */
export async function browse() {
  const browser = await chromium.launch({ executablePath: path, args: ["--no-sandbox"] });
  const wrong = [];
  return {
    wrong,
    close: () => browser.close(),
    open: async (server, options = {}) => {
      const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
      page.on("dialog", (dialog) => {
        wrong.push(`dialog: ${dialog.message()}`);
        void dialog.dismiss();
      });
      page.on("console", (message) => {
        const expected = /status of 40[134]/.test(message.text());
        if (message.type() === "error" && !expected) wrong.push(`console: ${message.text()}`);
      });
      page.on("request", (request) => {
        const url = new URL(request.url());
        if (url.protocol !== "data:" && url.host !== server.internal) wrong.push(`request: ${request.url()}`);
      });
      return page;
    },
    clean: () => assert.deepEqual(wrong, []),
  };
}

/** A WebSocket client of the public listener. */
export async function client(server, bearer, channels, query = "") {
  const { WebSocket } = await import("ws");
  const socket = new WebSocket(`ws://${server.public}/ws${query}`, {
    headers: { authorization: `Bearer ${bearer}`, "user-agent": XSS },
  });
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  socket.send(JSON.stringify({ type: "register", client_type: XSS.slice(0, 60), client_name: XSS }));
  socket.send(JSON.stringify({ type: "subscribe", channels }));
  return socket;
}

/** Text that runs as a script if any of it is taken for markup. */
export const XSS = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>`;

/** Publishes over HTTP. */
export async function publish(server, bearer, body) {
  const response = await fetch(`http://${server.public}/api/v1/events`, {
    method: "POST",
    headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200, await response.text());
}
