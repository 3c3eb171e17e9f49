import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Channel, type EventMessage, get, type Namespace } from "../api.ts";
import { PublishForm } from "../form.tsx";
import { ago, bytes, clock, count, rate, span } from "../format.ts";
import { link, replace, route, server, tell } from "../state.ts";
import { Event, Tail } from "../tail.tsx";
import { type Column, Empty, Facts, Field, Loading, Panel, Table, usePolling, Wrong } from "../ui.tsx";

const rows = signal<Channel[] | null>(null);
const next = signal("");
const failed = signal<Error | null>(null);
const PAGE = 200;
let loading = false;

function query(): { prefix: string; order_by: string; desc: string } {
  const given = route.value.query;
  return { prefix: given.get("prefix") ?? "", order_by: given.get("order_by") ?? "", desc: given.get("desc") ?? "" };
}

type Page = { channels: Channel[]; next_page_token: string };

async function load(abort: AbortSignal): Promise<void> {
  try {
    const answer = await get<Page>("/api/v1/channels", { ...query(), page_size: PAGE }, abort);
    rows.value = answer.channels;
    next.value = answer.next_page_token;
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
    const answer = await get<Page>("/api/v1/channels", { ...query(), page_size: PAGE, page_token: asked });
    if (asked === next.value) {
      const known = new Set(rows.value.map((row) => row.channel));
      rows.value = [...rows.value, ...answer.channels.filter((row) => !known.has(row.channel))];
      next.value = answer.next_page_token;
    }
  } catch (error) {
    tell((error as Error).message, true);
  } finally {
    loading = false;
  }
}

const columns: Column<Channel>[] = [
  { name: "Channel", width: "minmax(150px, 2fr)", cell: (row) => row.channel },
  { name: "Rate", order: "rate", width: "90px", numeric: true, cell: (row) => rate(row.rate) },
  { name: "Subscribers", order: "subscribers", width: "110px", numeric: true, cell: (row) => count(row.subscribers) },
  { name: "Users", width: "80px", numeric: true, cell: (row) => (row.users === null ? "–" : count(row.users)) },
  { name: "History", order: "history", width: "100px", numeric: true, cell: (row) => (row.offset === undefined ? "none" : count(row.history_events)) },
  { name: "Bytes", width: "90px", numeric: true, cell: (row) => (row.history_bytes === 0 ? "–" : bytes(row.history_bytes)) },
  { name: "Last event", width: "120px", numeric: true, cell: (row) => ago(row.last_event_at) },
];

export function Channels(): JSX.Element {
  const given = query();
  const key = JSON.stringify(given);
  useEffect(() => {
    rows.value = null;
  }, [key]);
  usePolling(async (abort) => {
    if (rows.value === null || rows.value.length <= PAGE) await load(abort);
  }, 10_000, [key]);
  const name = route.value.query.get("name");
  return (
    <>
      <form class="filters" role="search" aria-label="Filter channels" onSubmit={(event) => event.preventDefault()}>
        <Field label="Name begins with" value={given.prefix} placeholder="project:" onChange={(value) => replace({ prefix: value })} />
      </form>
      {failed.value !== null ? (
        <Wrong error={failed.value} retry={() => void load(new AbortController().signal)} />
      ) : rows.value === null ? (
        <Loading />
      ) : rows.value.length === 0 ? (
        <Empty>No channel has subscribers or history{given.prefix === "" ? " yet" : ` and begins with ${given.prefix}`}.</Empty>
      ) : (
        <>
          <Table
            label="Channels"
            columns={columns}
            rows={rows.value}
            keyOf={(row) => row.channel}
            selected={name ?? ""}
            onOpen={(row) => replace({ name: row.channel })}
            order={{ by: given.order_by, desc: given.desc === "true" }}
            onOrder={(by, desc) => replace({ order_by: by, desc: desc ? "true" : "" })}
            onEnd={() => void more()}
          />
          <p class="hint">
            {count(rows.value.length)}
            {next.value === "" ? "" : " or more"} channels.
          </p>
        </>
      )}
      {name !== null && name !== "" && <Detail name={name} key={name} />}
    </>
  );
}

const TABS = ["history", "presence", "live", "publish", "settings"] as const;

function Detail({ name }: { name: string }): JSX.Element {
  const tab = route.value.query.get("tab") ?? "history";
  const exact = !name.includes("*");
  return (
    <Panel title={`Channel ${name}`} onClose={() => replace({ name: "", tab: "" })}>
      <div class="tabs" role="tablist" aria-label="Parts of the channel">
        {TABS.map((one) => (
          <button
            type="button"
            role="tab"
            key={one}
            aria-selected={tab === one}
            class={tab === one ? "on" : ""}
            onClick={() => replace({ tab: one })}
          >
            {one}
          </button>
        ))}
        <a class="button" href={link("connections", { channel: name })}>
          Its connections
        </a>
        <a class="button" href={link("why", { channel: name })}>
          Why not?
        </a>
      </div>
      <div role="tabpanel" aria-label={tab}>
        {tab === "live" ? <LiveTab name={name} /> : null}
        {!exact && tab !== "live" && <Empty>This is a pattern: it has no history, presence or settings of its own.</Empty>}
        {exact && tab === "history" && <History name={name} />}
        {exact && tab === "presence" && <Presence name={name} />}
        {exact && tab === "publish" && <PublishForm channel={name} />}
        {exact && tab === "settings" && <Settings name={name} />}
      </div>
    </Panel>
  );
}

function LiveTab({ name }: { name: string }): JSX.Element {
  const [filter, setFilter] = useState("");
  return (
    <>
      <Field label="Filter (CEL)" value={filter} placeholder="data.status == 'done'" onChange={setFilter} />
      <Tail channel={name} filter={filter} types="" height="36vh" />
    </>
  );
}

interface Past {
  epoch: string;
  offset: number;
  next_since?: string;
  events: EventMessage[];
}

/** The newest events first, a page at a time. */
function History({ name }: { name: string }): JSX.Element {
  const [events, setEvents] = useState<EventMessage[] | null>(null);
  const [since, setSince] = useState<string | undefined>(undefined);
  const [error, setError] = useState<Error | null>(null);
  const [open, setOpen] = useState<EventMessage | null>(null);
  const read = async (from: string | undefined, before: EventMessage[]) => {
    try {
      const path = `/api/v1/channels/${encodeURIComponent(name)}/history`;
      const page = await get<Past>(path, { limit: 100, reverse: true, since: from });
      setEvents([...before, ...page.events]);
      setSince(page.next_since);
      setError(null);
    } catch (failure) {
      setError(failure as Error);
    }
  };
  useEffect(() => {
    void read(undefined, []);
  }, [name]);
  if (error !== null) return <Wrong error={error} retry={() => void read(undefined, [])} />;
  if (events === null) return <Loading />;
  if (events.length === 0) return <Empty>The history is empty.</Empty>;
  return (
    <>
      <Table
        label="History, newest first"
        height="36vh"
        columns={[
          { name: "Offset", width: "90px", numeric: true, cell: (row) => row.offset ?? "–" },
          { name: "Time", width: "120px", cell: (row) => clock(row.timestamp) },
          { name: "Type", width: "minmax(110px, 1fr)", cell: (row) => row.type },
          { name: "Data", width: "minmax(160px, 2fr)", cell: (row) => <span class="mono small">{JSON.stringify(row.data ?? row.data_base64 ?? null)?.slice(0, 200)}</span> },
        ]}
        rows={events}
        keyOf={(row) => row.id}
        selected={open?.id ?? ""}
        onOpen={(row) => setOpen(row)}
      />
      <p class="actions">
        {since !== undefined && (
          <button type="button" onClick={() => void read(since, events)}>
            Older events
          </button>
        )}
        <button type="button" onClick={() => void read(undefined, [])}>
          Read again
        </button>
      </p>
      {open !== null && <Event event={open} />}
    </>
  );
}

interface Present {
  users: { user: string; connections: number }[];
  total: number;
}

function Presence({ name }: { name: string }): JSX.Element {
  const [present, setPresent] = useState<Present | null>(null);
  const [error, setError] = useState<Error | null>(null);
  usePolling(
    async (abort) => {
      try {
        setPresent(await get<Present>(`/api/v1/channels/${encodeURIComponent(name)}/presence`, {}, abort));
        setError(null);
      } catch (failure) {
        if (!abort.aborted) setError(failure as Error);
      }
    },
    5000,
    [name],
  );
  if (error !== null) return <Wrong error={error} />;
  if (present === null) return <Loading />;
  if (present.users.length === 0) return <Empty>Nobody is in this channel.</Empty>;
  return (
    <>
      <p>
        {count(present.total)} users{present.total > present.users.length ? `; the first ${present.users.length} by name` : ""}
      </p>
      <Table
        label="Users present"
        height="36vh"
        columns={[
          { name: "User", width: "1fr", cell: (row) => <a href={link("connections", { user: row.user, channel: name })}>{row.user}</a> },
          { name: "Connections", width: "120px", numeric: true, cell: (row) => count(row.connections) },
        ]}
        rows={present.users}
        keyOf={(row) => row.user}
      />
    </>
  );
}

/** The namespace whose settings apply. */
function namespaceOf(name: string, all: Namespace[]): Namespace | undefined {
  const own = name.split(":")[0] ?? "";
  return all.find((one) => one.name === own) ?? all.find((one) => one.name === "*");
}

function Settings({ name }: { name: string }): JSX.Element {
  const info = server.value;
  if (info === null) return <Loading />;
  const namespace = namespaceOf(name, info.namespaces);
  if (namespace === undefined) return <Empty>No namespace is declared for it: only services and admins may use it.</Empty>;
  return (
    <Facts
      facts={[
        ["Namespace", namespace.name],
        ["History", namespace.history_size === 0 ? "none" : `${count(namespace.history_size)} events, ${span(namespace.history_ttl_ms)}, ${bytes(namespace.history_bytes)}`],
        ["Presence", namespace.presence ? "tracked" : "not tracked"],
        ["Slow connections", namespace.slow_consumer],
        ["Forgotten when unused for", span(namespace.max_idle_ms)],
        ["May subscribe", <code>{namespace.subscribe === "" ? "services and admins" : namespace.subscribe}</code>],
        ["May publish", <code>{namespace.publish === "" ? "services and admins" : namespace.publish}</code>],
      ]}
    />
  );
}
