// Calls to the server, and the shapes of its answers.
import { signal } from "@preact/signals";

export interface Problem {
  status: number;
  code: string;
  message: string;
}

/** An answer that is not what was asked for. */
export class Failure extends Error {
  readonly status: number;
  readonly code: string;
  constructor(problem: Problem) {
    super(problem.message);
    this.status = problem.status;
    this.code = problem.code;
  }
}

const KEY = "tidings.console.token";

/** The token of this tab; null where the server lets this machine in without one. */
export const token = signal<string | null>(sessionStorage.getItem(KEY));
/** Set where the server asks for a token. */
export const needsLogin = signal<string | null>(null);

export function setToken(value: string | null): void {
  token.value = value;
  if (value === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, value);
}

function headers(more?: Record<string, string>): Headers {
  const all = new Headers(more);
  if (token.value !== null) all.set("authorization", `Bearer ${token.value}`);
  return all;
}

async function failure(response: Response): Promise<Failure> {
  let message = response.statusText || `status ${response.status}`;
  let code = "unknown";
  try {
    const body = await response.json();
    if (typeof body.detail === "string") message = body.detail;
    else if (typeof body.title === "string") message = body.title;
    if (typeof body.code === "string") code = body.code;
  } catch {
    // Not a problem document: a proxy in between.
  }
  if (response.status === 401) needsLogin.value = token.value === null ? "" : message;
  return new Failure({ status: response.status, code, message });
}

async function call(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Failure({ status: 0, code: "unavailable", message: "The server does not answer." });
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export type Query = Record<string, string | number | boolean | undefined>;

export function address(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "" && value !== false) parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? path : `${path}?${text}`;
}

export async function get<T>(path: string, query: Query = {}, abort?: AbortSignal): Promise<T> {
  const response = await call(address(path, query), { headers: headers(), signal: abort ?? null });
  return (await response.json()) as T;
}

export async function post<T>(path: string, body: string): Promise<T> {
  const init = { method: "POST", headers: headers({ "content-type": "application/json" }), body };
  const response = await call(path, init);
  return (await response.json()) as T;
}

export async function remove(path: string, query: Query = {}): Promise<{ disconnected?: number }> {
  const response = await call(address(path, query), { method: "DELETE", headers: headers() });
  return response.status === 204 ? {} : ((await response.json()) as { disconnected?: number });
}

export interface ServerEvent {
  name: string;
  data: unknown;
}

/** Reads server-sent events until the signal aborts. Reconnects with growing pauses. */
export async function stream(
  path: string,
  query: Query,
  abort: AbortSignal,
  onEvent: (event: ServerEvent) => void,
  onState: (state: "open" | Failure) => void,
): Promise<void> {
  let pause = 500;
  while (!abort.aborted) {
    try {
      const init = { headers: headers({ accept: "text/event-stream" }), signal: abort };
      const response = await call(address(path, query), init);
      onState("open");
      pause = 500;
      await read(response, onEvent);
      onState(new Failure({ status: 0, code: "unavailable", message: "The stream ended." }));
    } catch (error) {
      if (abort.aborted) return;
      if (error instanceof Failure) {
        onState(error);
        if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, 10_000);
  }
}

async function read(response: Response, onEvent: (event: ServerEvent) => void): Promise<void> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (reader === undefined) return;
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const event = parse(rest.slice(0, end));
      rest = rest.slice(end + 2);
      if (event !== null) onEvent(event);
    }
  }
}

function parse(text: string): ServerEvent | null {
  let name = "message";
  const data: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length === 0) return null;
  try {
    return { name, data: JSON.parse(data.join("\n")) };
  } catch {
    return null;
  }
}

export interface Setting {
  key: string;
  value: string;
  source: string;
  secret: boolean;
  reloads: boolean;
}

export interface Namespace {
  name: string;
  history_size: number;
  history_ttl_ms: number;
  history_bytes: number;
  presence: boolean;
  slow_consumer: string;
  max_idle_ms: number;
  subscribe: string;
  publish: string;
}

export interface ServerInfo {
  node: string;
  version: string;
  started_at: string;
  now: string;
  dev: boolean;
  caller: { user: string | null; admin: boolean; expires_at: string | null };
  public_address: string | null;
  internal_address: string | null;
  nodes: ServerNode[];
  store: { kind: string; durability: string; available: boolean; bytes: number; limit_bytes: number };
  process: {
    cpu_seconds: number | null;
    resident_bytes: number | null;
    open_files: number | null;
    open_files_limit: number | null;
    threads: number | null;
    processors: number;
    shards: number;
  };
  limits: { key: string; limit: number; used: number | null; reached: number }[];
  closes: Record<string, number>;
  namespaces: Namespace[];
  configuration: Setting[];
}

export interface ServerNode {
  id: string;
  self: boolean;
  name: string;
  version: string;
  started_at: string;
  connections: number;
  leaving: boolean;
  heard_ago_seconds: number;
  round_trip_ms: number | null;
}

export interface Webhook {
  url: string;
  events: string[];
  state: "delivering" | "retrying" | "stopped";
  queued: number;
  queued_bytes: number;
  lag_seconds: number;
  delivered: number;
  failures: number;
  last_error: string;
  next_attempt_at: string | null;
  dead_letters: number;
  dropped: number;
}

export interface Source {
  name: string;
  kind: string;
  server: string;
  connected: boolean;
  lag: number | null;
  lag_seconds: number;
  events: number;
  duplicates: number;
  dead_letters: number;
  failures: number;
  rate: number;
  last_failure: string | null;
  last_failure_at: string | null;
  recent_dead_letters: { time: string; record: string; channel: string; reason: string }[];
}

export interface Sample {
  time: string;
  seconds: number;
  connections: number;
  subscriptions: number;
  channels: number;
  outbox_bytes: number;
  resident_bytes: number;
  cpu_seconds: number;
  opened: number;
  published: number;
  delivered: number;
  replayed: number;
  dropped: number;
  conflated: number;
  refused: number;
  slow_consumers: number;
  bytes_in: number;
  bytes_out: number;
  latency_p50_ms: number;
  latency_p99_ms: number;
}

export interface Subscription {
  channel: string;
  epoch?: string;
  offset?: number;
  filter: string;
  event_types: string[];
  live: boolean;
}

export interface Connection {
  id: string;
  node: string;
  user: string | null;
  roles: string[];
  transport: string;
  client_type: string;
  client_name: string;
  address: string;
  connected_at: string;
  last_seen_at: string;
  subscriptions: Subscription[];
  subscription_count: number;
  delivered: number;
  dropped: number;
  bytes_in: number;
  bytes_out: number;
  outbox_bytes: number;
  round_trip_ms: number | null;
  user_agent: string;
  origin: string;
  dialect: string;
  compression: boolean;
  token_expires_at: string | null;
  messages_in: number;
  rate_limited: number;
  claims: string[];
}

export interface Channel {
  channel: string;
  epoch?: string;
  offset?: number;
  subscribers: number;
  rate: number;
  last_event_at: string | null;
  history_events: number;
  history_bytes: number;
  users: number | null;
}

export interface EventMessage {
  type: string;
  channel?: string;
  id: string;
  timestamp: string;
  offset?: number;
  data?: unknown;
  data_base64?: string;
  content_type?: string;
  headers?: Record<string, string>;
  traceparent?: string;
}

export interface Refusal {
  sequence: number;
  time: string;
  kind: string;
  code: string;
  close_code: number;
  reason: string;
  user: string;
  address: string;
  transport: string;
  channel: string;
  event_type: string;
  connection_id: string;
  by: string;
}

export interface EventType {
  name: string;
  namespace: string;
  description: string;
  roles: string[];
  schema?: unknown;
  example?: unknown;
}

export interface Explanation {
  allowed: boolean;
  rule: string;
  source: string;
  inputs: Record<string, unknown>;
  reason: string;
}
