import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type EventType, get, post } from "../api.ts";
import { link, replace, route } from "../state.ts";
import { Empty, Facts, Field, Json, Loading, Panel, Table, usePolling, Wrong } from "../ui.tsx";

export function Catalog(): JSX.Element {
  const [types, setTypes] = useState<EventType[] | null>(null);
  const [error, setError] = useState<Error | null>(null);
  usePolling(
    async (abort) => {
      if (types !== null) return;
      try {
        const found: EventType[] = [];
        let token = "";
        do {
          const page = await get<{ event_types: EventType[]; next_page_token: string }>("/api/v1/catalog", { page_size: 1000, page_token: token }, abort);
          found.push(...page.event_types);
          token = page.next_page_token;
        } while (token !== "");
        setTypes(found);
        setError(null);
      } catch (failure) {
        if (!abort.aborted) setError(failure as Error);
      }
    },
    60_000,
    [types],
  );
  const text = route.value.query.get("text") ?? "";
  const name = route.value.query.get("type") ?? "";
  if (error !== null) return <Wrong error={error} />;
  if (types === null) return <Loading />;
  if (types.length === 0) return <Empty>The catalog is empty: no [[event_type]] is declared, so every type passes.</Empty>;
  const rows = types.filter((type) => `${type.name} ${type.description}`.toLowerCase().includes(text.toLowerCase()));
  const shown = types.find((type) => type.name === name);
  return (
    <>
      <form class="filters" role="search" aria-label="Filter event types" onSubmit={(event) => event.preventDefault()}>
        <Field label="Contains" value={text} onChange={(value) => replace({ text: value })} />
      </form>
      {rows.length === 0 ? (
        <Empty>No event type matches.</Empty>
      ) : (
        <Table
          label="Event types"
          columns={[
            { name: "Type", width: "minmax(140px, 1.5fr)", cell: (row) => row.name },
            { name: "Namespace", width: "minmax(90px, 1fr)", cell: (row) => (row.namespace === "" ? "any" : row.namespace) },
            { name: "Roles", width: "minmax(90px, 1fr)", cell: (row) => row.roles.join(", ") || "everyone" },
            { name: "Schema", width: "80px", cell: (row) => (row.schema === undefined ? "none" : "yes") },
            { name: "Description", width: "minmax(160px, 3fr)", cell: (row) => row.description },
          ]}
          rows={rows}
          keyOf={(row) => row.name}
          selected={name}
          onOpen={(row) => replace({ type: row.name })}
        />
      )}
      {shown !== undefined && <Detail type={shown} key={shown.name} />}
    </>
  );
}

function Detail({ type }: { type: EventType }): JSX.Element {
  const [data, setData] = useState(type.example === undefined ? "{}" : JSON.stringify(type.example, null, 2));
  const [verdict, setVerdict] = useState<string | null>(null);
  const validate = async () => {
    try {
      const path = `/api/v1/catalog/${encodeURIComponent(type.name)}/validate`;
      const answer = await post<{ valid: boolean; errors: { path: string; message: string }[] }>(path, data);
      setVerdict(answer.valid ? "Valid." : answer.errors.map((one) => `${one.path}: ${one.message}`).join("\n"));
    } catch (error) {
      setVerdict((error as Error).message);
    }
  };
  return (
    <Panel title={type.name} onClose={() => replace({ type: "" })}>
      <p>{type.description}</p>
      <Facts
        facts={[
          ["Namespace", type.namespace === "" ? "any" : <a href={link("channels", { prefix: type.namespace })}>{type.namespace}</a>],
          ["Reaches", type.roles.length === 0 ? "everyone who follows" : `only roles ${type.roles.join(", ")}`],
        ]}
      />
      {type.schema !== undefined && (
        <details open>
          <summary>Schema</summary>
          <Json value={type.schema} />
        </details>
      )}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void validate();
        }}
      >
        <label class="field wide">
          Data to check
          <textarea rows={8} value={data} spellcheck={false} onInput={(event) => setData(event.currentTarget.value)} />
        </label>
        <button type="submit">Check against the schema</button>
        {verdict !== null && <pre role="status">{verdict}</pre>}
      </form>
    </Panel>
  );
}
