// The real server, a proxy in front of it that simulates network failures, and tokens.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.mjs";

export const BIN = process.env.TIDINGS_BIN ?? fileURLToPath(new URL("../../../../target/debug/tidings", import.meta.url));

/** The environment without the variables that a server would read as settings. */
export function plainEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TIDINGS_")));
}
const SECRET = "a secret of the tests that is long enough";

const CONFIG = `
[public]
listen = "127.0.0.1:0"
allowed_origins = ["*"]
[internal]
listen = "127.0.0.1:0"
[auth]
hs256_secret = "${SECRET}"
leeway = "0s"
[heartbeat]
interval = "1s"
timeout = "4s"
[limits]
outbox_bytes = 65536
[[namespace]]
name = "room"
history = { size = 1000, ttl = "1h" }
presence = true
subscribe = 'user != ""'
publish = 'user != ""'
[[namespace]]
name = "plain"
subscribe = 'user != ""'
publish = 'user != ""'
[[namespace]]
name = "lossy"
history = { size = 1000, ttl = "1h" }
slow_consumer = "drop_oldest"
subscribe = 'user != ""'
publish = 'user != ""'
[[namespace]]
name = "strict"
history = { size = 1000, ttl = "1h" }
slow_consumer = "disconnect"
subscribe = 'user != ""'
publish = 'user != ""'
`;

const encode = (value) => Buffer.from(value).toString("base64url");

/** A token; `ttl` in seconds. */
export function token({ user = "ann", roles = [], ttl = 3600 } = {}) {
  const claims = { sub: user, roles, exp: Date.now() / 1000 + ttl };
  const body = `${encode('{"alg":"HS256","typ":"JWT"}')}.${encode(JSON.stringify(claims))}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

/** A server behind a proxy: `url` is the proxy's, and stays the same after restarts. */
export async function startServer(options = {}) {
  const server = new Server(options);
  await server.start();
  await server.proxy.listen();
  return server;
}

class Server {
  proxy = new Proxy();
  #dir = mkdtempSync(join(tmpdir(), "tidings-"));
  #process;
  #exit;

  constructor({ config = "", args = [], dev = false }) {
    const file = join(this.#dir, "tidings.toml");
    writeFileSync(file, CONFIG + config);
    this.args = ["serve", ...(dev ? ["--dev", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0"] : ["--config", file]), ...args];
  }

  get url() {
    return `ws://127.0.0.1:${this.proxy.port}/ws`;
  }

  async start() {
    if (!existsSync(BIN)) throw new Error(`there is no server to test against: set TIDINGS_BIN (looked for ${BIN})`);
    const ready = join(this.#dir, "ready.json");
    rmSync(ready, { force: true });
    const env = plainEnvironment();
    const child = spawn(BIN, [...this.args, "--ready-file", ready], { stdio: ["ignore", "ignore", "pipe"], env });
    let log = "";
    child.stderr.on("data", (text) => (log += text));
    this.#process = child;
    this.#exit = once(child, "exit");
    await until(() => {
      if (child.exitCode !== null) throw new Error(`the server did not start:\n${log}`);
      return existsSync(ready) && readFileSync(ready, "utf8").trim().endsWith("}");
    }, "the server to be ready");
    ({ public: this.address, internal: this.internal } = JSON.parse(readFileSync(ready, "utf8")));
    this.proxy.target = Number(this.address.split(":").at(-1));
  }

  /** Ends the server with a signal and waits for it. */
  async stop(signal = "SIGKILL") {
    this.#process.kill(signal);
    await this.#exit;
  }

  signal(signal) {
    this.#process.kill(signal);
  }

  get exited() {
    return this.#exit;
  }

  async close() {
    this.proxy.close();
    if (this.#process.exitCode === null && this.#process.signalCode === null) await this.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Calls the HTTP API as a service and admin. */
  async api(method, path, body) {
    const response = await fetch(`http://${this.address}/api/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token({ user: "backend", roles: ["service", "admin"] })}`,
        "content-type": "application/json",
      },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  }

  async publish(channel, type, data) {
    return this.api("POST", "/events", { channels: [channel], type, data });
  }

  async publishMany(channel, from, to) {
    for (let n = from; n <= to; n++) await this.publish(channel, "count", { n });
  }
}

/** Forwards bytes, or not. */
class Proxy {
  #sockets = new Set();
  #server = net.createServer((socket) => this.#accept(socket));
  accepted = 0;
  refusing = false;
  stalled = false;
  target = 0;

  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = this.#server.address().port;
  }

  /** Cuts every connection, as if the network failed. */
  cut() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Cuts every connection, and accepts no new ones for now. */
  refuse() {
    this.refusing = true;
    this.cut();
  }

  /** Forwards nothing any more, but keeps the connections open. */
  stall() {
    this.stalled = true;
    for (const socket of this.#sockets) socket.pause();
  }

  heal() {
    this.refusing = this.stalled = false;
    for (const socket of this.#sockets) socket.resume();
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #accept(socket) {
    if (this.refusing) return socket.resetAndDestroy();
    this.accepted += 1;
    const to = net.connect(this.target, "127.0.0.1");
    for (const [one, other] of [[socket, to], [to, socket]]) {
      this.#sockets.add(one);
      one.on("data", (bytes) => {
        if (!other.write(bytes)) {
          one.pause();
          other.once("drain", () => this.stalled || one.resume());
        }
      });
      one.on("end", () => other.end());
      one.on("error", () => {});
      one.on("close", (failed) => {
        this.#sockets.delete(one);
        // Bytes in flight still arrive, unless the connection broke.
        if (failed) other.destroy();
        else other.end();
      });
      if (this.stalled) one.pause();
    }
  }
}
