// The real server, with the dialects of a system that was built on Socket.IO.
import { execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.mjs";

const here = dirname(fileURLToPath(import.meta.url));
export const binary = resolve(process.env.TIDINGS_BIN ?? join(here, "../../../target/debug/tidings"));
const SECRET = "a-secret-of-the-socketio-tests-long-enough";

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A JSON Web Token, valid for an hour unless the claims say otherwise. */
export function token(user, claims = {}) {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const head = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url({ sub: user, exp, ...claims })}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

const config = (listen, heartbeat) => `
[public]
listen = "${listen}"
[internal]
listen = "127.0.0.1:0"
[auth]
hs256_secret = "${SECRET}"
[limits]
messages_per_second = 0
[heartbeat]
interval = "${heartbeat.interval}"
timeout = "${heartbeat.timeout}"
[server]
drain = "3s"

[[namespace]]
name = "project"
history = { size = 10000, ttl = "1h" }
subscribe = 'id in claims.projects'
publish = 'true'

[[namespace]]
name = "session"
history = { size = 1000, ttl = "1h" }
subscribe = 'true'

[[dialect]]
name = "devplatform"
protocol = "socket.io"
paths = ["/socket.io/", "/ws/socket.io/", "/ws/"]
namespaces = ["/", "/ws"]

[dialect.control]
names = { connection_established = ["connection_established", "connection.established"], heartbeat = [] }

[[dialect.command]]
name = "subscribe"
does = "subscribe"
channels = "{room}"
echo = ["room"]

[[dialect.command]]
name = "unsubscribe"
does = "unsubscribe"
channels = "{room}"
echo = ["room"]

[[dialect]]
name = "robotics"
protocol = "socket.io"
paths = ["/robotics/socket.io/"]
namespaces = ["/"]

[dialect.event]
data = ""
members = ["timestamp"]

[dialect.control]
members = ["timestamp"]
names = { connection_established = ["connected"], heartbeat = [] }

[[dialect.command]]
name = "subscribe_session"
does = "subscribe"
channels = "session:{session_id}"
echo = ["session_id"]

[[dialect.command]]
name = "unsubscribe_session"
does = "unsubscribe"
channels = "session:{session_id}"
echo = ["session_id"]
`;

/** A port that is free now, so that a server can be started again where it was. */
async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Starts a server, and answers once it listens. */
export async function startServer({ heartbeat = { interval: "30s", timeout: "60s" } } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "tidings-socketio-"));
  const listen = `127.0.0.1:${await freePort()}`;
  writeFileSync(join(directory, "tidings.toml"), config(listen, heartbeat));
  const ready = join(directory, "ready.json");
  const server = new Server(directory, ready, `http://${listen}`);
  await server.start();
  return server;
}

/** Starts a server with a preset, and with settings in the environment, and answers once it listens. */
export async function startPreset(preset, environment = {}) {
  const directory = mkdtempSync(join(tmpdir(), "tidings-socketio-"));
  const listen = `127.0.0.1:${await freePort()}`;
  const own = `public.listen = "${listen}"\ninternal.listen = "127.0.0.1:0"\nauth.hs256_secret = "${SECRET}"\n`;
  writeFileSync(join(directory, "tidings.toml"), own);
  const server = new Server(directory, join(directory, "ready.json"), `http://${listen}`, ["--preset", preset], environment);
  const tables = execFileSync(binary, ["config", "--preset", preset], { encoding: "utf8" }).split("[[event_type]]").slice(1);
  const described = tables.filter((table) => table.includes("\ncontrol = true\n"));
  server.control = described.map((table) => table.match(/name = "(.*)"/)[1]);
  await server.start();
  return server;
}

class Server {
  #child;
  #log = "";

  constructor(directory, ready, url, more = [], environment = {}) {
    Object.assign(this, { directory, ready, url, more, environment });
  }

  async start() {
    rmSync(this.ready, { force: true });
    const args = ["serve", "--config", "tidings.toml", "--ready-file", this.ready, ...this.more];
    const env = { ...process.env, ...this.environment };
    this.#child = spawn(binary, args, { cwd: this.directory, env, stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr.on("data", (data) => (this.#log += data));
    await until("the server is ready", () => {
      assertRunning(this.#child, this.#log);
      try {
        const bound = JSON.parse(readFileSync(this.ready, "utf8"));
        this.internal = `http://${bound.internal}`;
        return true;
      } catch {
        return false;
      }
    });
  }

  /** Ends it with a signal, and answers when it has gone. */
  async stop(signal = "SIGTERM") {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill(signal);
    await gone;
  }

  async close() {
    await this.stop("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }

  log() {
    return this.#log;
  }

  async api(method, path, body, roles = ["service", "admin"]) {
    const headers = { authorization: `Bearer ${token("backend", { roles })}`, "content-type": "application/json" };
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  }

  publish(channel, type, data, more = {}) {
    return this.api("POST", "/events", { channels: [channel], type, data, ...more });
  }

  /** The value of a series of /metrics. */
  async metric(series) {
    const text = await (await fetch(`${this.internal}/metrics`)).text();
    const line = text.split("\n").find((line) => line.startsWith(`${series} `));
    return line ? Number(line.slice(series.length + 1)) : 0;
  }
}

function assertRunning(child, log) {
  if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}:\n${log}`);
}
