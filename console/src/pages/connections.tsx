import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get, remove, type Connection } from "../api.ts";
import { age, ago, bytes, clock, count, millis } from "../format.ts";
import { ask, go, isAdmin, link, replace, route, server, tell } from "../state.ts";
import { Choice, type Column, Copy, Empty, Facts, Field, Loading, Panel, Table, usePolling, Wrong } from "../ui.tsx";

const rows = signal<Connection[] | null>(null);
const next = signal("");
const unreachable = signal<string[]>([]);
const failed = signal<Error | null>(null);
const PAGE = 200;
let loading = false;

const FILTERS = ["user", "role", "channel", "transport", "client_type", "address", "node", "order_by", "desc"] as const;

function query(): Record<string, string> {
  const given = route.value.query;
  return Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""]));
}

async function load(abort: AbortSignal): Promise<void> {
  try {
    const answer = await get<{ connections: Connection[]; next_page_token: string; unreachable: string[] }>(
      "/api/v1/connections",
      { ...query(), page_size: PAGE },
      abort,
    );
    rows.value = answer.connections;
    next.value = answer.next_page_token;
    unreachable.value = answer.unreachable;
    failed.value = null;
  } catch (error) {
    if (!abort.aborted) {
      failed.value = error as Error;
      rows.value = null;
    }
  }
}

async function more(): Promise<void> {
  if (loading || next.value === "" || rows.value === null) return;
  loading = true;
  try {
    const asked = next.value;
    const answer = await get<{ connections: Connection[]; next_page_token: string }>("/api/v1/connections", {
      ...query(),
      page_size: PAGE,
      page_token: asked,
    });
    if (asked === next.value) {
      const known = new Set(rows.value.map((row) => row.id));
      rows.value = [...rows.value, ...answer.connections.filter((row) => !known.has(row.id))];
      next.value = answer.next_page_token;
    }
  } catch (error) {
    tell((error as Error).message, true);
  } finally {
    loading = false;
  }
}

const columns: Column<Connection>[] = [
  { name: "User", width: "minmax(110px, 1.4fr)", cell: (row) => row.user ?? <i>anonymous</i> },
  { name: "Client", width: "minmax(90px, 1fr)", cell: (row) => (row.client_name === "" ? row.client_type : `${row.client_type} · ${row.client_name}`) },
  { name: "Transport", width: "100px", cell: (row) => row.transport },
  { name: "Address", width: "minmax(120px, 1fr)", cell: (row) => row.address },
  { name: "Age", order: "connected_at", width: "90px", numeric: true, cell: (row) => age(row.connected_at) },
  { name: "Delivered", width: "90px", numeric: true, cell: (row) => count(row.delivered) },
  { name: "Dropped", order: "dropped", width: "90px", numeric: true, cell: (row) => count(row.dropped) },
  { name: "Bytes", order: "bytes", width: "90px", numeric: true, cell: (row) => bytes(row.bytes_in + row.bytes_out) },
  { name: "Outbox", order: "outbox", width: "90px", numeric: true, cell: (row) => bytes(row.outbox_bytes) },
  { name: "Round trip", order: "round_trip", width: "100px", numeric: true, cell: (row) => (row.round_trip_ms === null ? "–" : millis(row.round_trip_ms)) },
];

export function Connections(): JSX.Element {
  const given = query();
  const key = JSON.stringify(given);
  useEffect(() => {
    rows.value = null;
  }, [key]);
  // A list that was scrolled stays as it is: a refresh would move it under the reader.
  usePolling(async (abort) => {
    if (rows.value === null || rows.value.length <= PAGE) await load(abort);
  }, 10_000, [key]);
  const set = (name: string) => (value: string) => replace({ [name]: value });
  const id = route.value.query.get("id");
  const nodes = server.value?.nodes ?? [];
  return (
    <>
      <form class="filters" role="search" aria-label="Filter connections" onSubmit={(event) => event.preventDefault()}>
        <Field label="User" value={given.user ?? ""} onChange={set("user")} />
        <Field label="Role" value={given.role ?? ""} onChange={set("role")} />
        <Field label="Channel" value={given.channel ?? ""} onChange={set("channel")} />
        <Choice
          label="Transport"
          value={given.transport ?? ""}
          options={[["", "any"], ["websocket", "websocket"], ["socketio", "socketio"], ["sse", "sse"], ["grpc", "grpc"]]}
          onChange={set("transport")}
        />
        <Field label="Address" value={given.address ?? ""} placeholder="192.0.2.0/24" onChange={set("address")} />
        <Field label="Client type" value={given.client_type ?? ""} onChange={set("client_type")} />
        {nodes.length > 1 && (
          <Choice label="Node" value={given.node ?? ""} options={[["", "any"], ...nodes.map((node): [string, string] => [node.name, node.name])]} onChange={set("node")} />
        )}
      </form>
      {given.user !== "" && isAdmin.value && (
        <p class="actions">
          <button type="button" onClick={() => void endUser(given.user ?? "", false)}>
            Disconnect all of {given.user}
          </button>
          <button type="button" class="danger" onClick={() => void endUser(given.user ?? "", true)}>
            Revoke all tokens of {given.user}
          </button>
        </p>
      )}
      {unreachable.value.length > 0 && (
        <p class="state wrong" role="alert">
          Without the connections of {unreachable.value.join(", ")}: no answer within 2 s.
        </p>
      )}
      {failed.value !== null ? (
        <Wrong error={failed.value} retry={() => void load(new AbortController().signal)} />
      ) : rows.value === null ? (
        <Loading />
      ) : rows.value.length === 0 ? (
        <Empty>No connection matches.</Empty>
      ) : (
        <>
          <Table
            label="Connections"
            columns={columns}
            rows={rows.value}
            keyOf={(row) => row.id}
            selected={id ?? ""}
            onOpen={(row) => replace({ id: row.id })}
            order={{ by: given.order_by ?? "", desc: given.desc === "true" }}
            onOrder={(by, desc) => replace({ order_by: by, desc: desc ? "true" : "" })}
            onEnd={() => void more()}
          />
          <p class="hint">
            {count(rows.value.length)}
            {next.value === "" ? "" : " or more"} {rows.value.length === 1 && next.value === "" ? "connection" : "connections"}. Values are those of the moment at which a page was read.
          </p>
        </>
      )}
      {id !== null && id !== "" && <Detail id={id} />}
    </>
  );
}

const shown = signal<Connection | null>(null);
const gone = signal<Error | null>(null);

function Detail({ id }: { id: string }): JSX.Element {
  usePolling(
    async (abort) => {
      try {
        shown.value = await get<Connection>(`/api/v1/connections/${encodeURIComponent(id)}`, {}, abort);
        gone.value = null;
      } catch (error) {
        if (!abort.aborted) gone.value = error as Error;
      }
    },
    3000,
    [id],
  );
  const close = () => replace({ id: "" });
  const one = shown.value;
  if (gone.value !== null) {
    return (
      <Panel title="Connection" onClose={close}>
        <Wrong error={gone.value} />
      </Panel>
    );
  }
  if (one === null || one.id !== id) {
    return (
      <Panel title="Connection" onClose={close}>
        <Loading />
      </Panel>
    );
  }
  return (
    <Panel title={`Connection of ${one.user ?? "an anonymous client"}`} onClose={close}>
      <p class="actions">
        {isAdmin.value && (
          <>
            <button type="button" onClick={() => void end(one, false)}>
              Disconnect
            </button>
            <button type="button" class="danger" onClick={() => void end(one, true)}>
              Revoke its token
            </button>
          </>
        )}
        <a class="button" href={link("why", { user: one.user ?? "", roles: one.roles.join(","), action: "subscribe" })}>
          Why not?
        </a>
        {one.user !== null && (
          <a class="button" href={link("connections", { user: one.user })}>
            All of this user
          </a>
        )}
      </p>
      <Facts
        facts={[
          ["Id", <><span class="mono">{one.id}</span> <Copy text={one.id} label="the id" /></>],
          ["Roles", one.roles.join(", ")],
          ["Claims (names only)", one.claims.join(", ")],
          ["Token expires", one.token_expires_at === null ? "never, or there is none" : one.token_expires_at],
          ["Node", one.node],
          ["Transport", `${one.transport}, ${one.dialect}${one.compression ? ", compressed" : ""}`],
          ["Client", one.client_name === "" ? one.client_type : `${one.client_type}, ${one.client_name}`],
          ["Address", one.address],
          ["Origin", one.origin],
          ["User agent", one.user_agent],
          ["Connected", `${clock(one.connected_at)}, ${ago(one.connected_at)}`],
          ["Last heard of", ago(one.last_seen_at)],
          ["Round trip", one.round_trip_ms === null ? "–" : millis(one.round_trip_ms)],
          ["Delivered, dropped", `${count(one.delivered)}, ${count(one.dropped)}`],
          ["Messages in, rate limited", `${count(one.messages_in)}, ${count(one.rate_limited)}`],
          ["Bytes in, out", `${bytes(one.bytes_in)}, ${bytes(one.bytes_out)}`],
          ["Outbox", bytes(one.outbox_bytes)],
        ]}
      />
      <h3>
        {count(one.subscription_count)} subscriptions
        {one.subscriptions.length < one.subscription_count ? ` (the first ${one.subscriptions.length})` : ""}
      </h3>
      {one.subscriptions.length === 0 ? (
        <Empty>It follows nothing.</Empty>
      ) : (
        <Table
          label="Subscriptions"
          height="40vh"
          columns={[
            { name: "Channel", width: "minmax(120px, 1.5fr)", cell: (row) => <a href={link("channels", { name: row.channel })}>{row.channel}</a> },
            { name: "Position", width: "minmax(90px, 1fr)", cell: (row) => (row.offset === undefined ? "no history" : `${row.epoch}/${row.offset}`) },
            { name: "State", width: "90px", cell: (row) => (row.live ? "live" : "catching up") },
            { name: "Filter, types", width: "minmax(120px, 1.5fr)", cell: (row) => [row.filter, row.event_types.join(", ")].filter((text) => text !== "").join(" · ") || "–" },
          ]}
          rows={one.subscriptions}
          keyOf={(row) => row.channel}
        />
      )}
    </Panel>
  );
}

/** Whether what was revoked stays revoked. */
function lasts(): string {
  return server.value?.store.kind === "disk"
    ? "The revocation survives a restart."
    : "The revocation is forgotten at a restart, because history.storage is memory.";
}

async function end(one: Connection, revoke: boolean): Promise<void> {
  const who = one.user ?? "an anonymous client";
  const text = revoke
    ? `The token of this connection of ${who} is refused from now on, and every connection that uses it is closed with 4401. ${lasts()}`
    : `This connection of ${who} is closed with 4410. Its client may connect again.`;
  const reason = await ask(revoke ? "Revoke the token?" : "Disconnect?", text, revoke ? "Revoke" : "Disconnect", true);
  if (reason === null) return;
  try {
    await remove(`/api/v1/connections/${encodeURIComponent(one.id)}`, { reason, revoke });
    tell(`${revoke ? `Revoked the token of ${who} and closed its connections. ${lasts()}` : `Closed the connection of ${who} with 4410. It may connect again.`} It stands in the audit log.`);
    replace({ id: "" });
    rows.value = null;
    await load(new AbortController().signal);
  } catch (error) {
    tell((error as Error).message, true);
  }
}

async function endUser(user: string, revoke: boolean): Promise<void> {
  const text = revoke
    ? `Every token of ${user} that was issued until now is refused, and all connections of ${user} are closed with 4401. ${lasts()}`
    : `All connections of ${user} are closed with 4410. The clients may connect again.`;
  const reason = await ask(revoke ? `Revoke all tokens of ${user}?` : `Disconnect ${user}?`, text, revoke ? "Revoke" : "Disconnect", true);
  if (reason === null) return;
  try {
    const { disconnected = 0 } = await remove("/api/v1/connections", { user, reason, revoke });
    const closed = `${count(disconnected)} ${disconnected === 1 ? "connection" : "connections"}`;
    tell(`${revoke ? `Revoked all tokens of ${user} and closed ${closed}. ${lasts()}` : `Closed ${closed} of ${user}. They may connect again.`} It stands in the audit log.`);
    rows.value = null;
    go("connections", { user });
    await load(new AbortController().signal);
  } catch (error) {
    tell((error as Error).message, true);
  }
}
